//! How many random cases a test checks.

/// How many of most kinds CI runs.
pub(crate) const CASES: u64 = 300;

/// Checks the case of each seed: of `cases`, or as many as `TAGFLOW_ORACLE_CASES`
/// says, or of `TAGFLOW_ORACLE_SEED` alone. Says how many there were; none where it
/// was one alone, which shows nothing in sum.
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
