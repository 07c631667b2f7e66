# What CI runs, by name. `just check` is all of it.

# Everything that CI checks.
check: fmt words clippy docs deny test examples

# Formatting.
fmt:
    cargo fmt --all --check

# Lints, warnings denied.
clippy:
    cargo clippy --workspace --all-targets --locked -- -D warnings

# Documentation, warnings denied.
docs:
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked

# How plain the English of comments and docs is.
words *arguments:
    .ci/plain-words {{arguments}}

# Licences, bans, sources and security advisories of the dependencies.
deny:
    .ci/advisories write target/advisories
    cargo deny --offline check

# Every test.
test:
    cargo test --workspace --locked

# The examples, end to end, on the debug binary.
examples:
    cargo build --locked
    .ci/examples

# The end-to-end benchmark of W1.
bench events="10000000":
    cargo bench --locked --bench w1 -- --events {{events}}

# Tagflow beside DuckDB and Flink on the same rows.
peers *arguments:
    python3 benches/peers/run.py {{arguments}}
