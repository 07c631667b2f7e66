//! The number of random cases that a test checks.

/// The number of cases of most kinds in CI.
pub(crate) const CASES: u64 = 300;

/// Checks the case of each seed: `cases` of them, or `TAGFLOW_ORACLE_CASES`, or the one
/// of `TAGFLOW_ORACLE_SEED`. Returns the number of cases; none for a single case, whose
/// sums prove nothing.
pub(crate) fn check_all(cases: u64, mut check: impl AsyncFnMut(u64)) -> Option<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|it| it.parse().ok());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    if let Some(seed) = number("TAGFLOW_ORACLE_SEED") {
        runtime.block_on(check(seed));
        return None;
    }
    let cases = number("TAGFLOW_ORACLE_CASES").unwrap_or(cases);
    for seed in 0..cases {
        runtime.block_on(check(seed));
    }
    Some(cases)
}
