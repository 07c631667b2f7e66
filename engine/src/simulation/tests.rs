//! Seeds, and what they must find.

use std::{
    ops::Range,
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

use super::{
    campaign::{Done, run},
    lie::Lie,
};

/// How many seeds run with every test.
const SEEDS: u64 = 3000;

/// The number in an environment variable.
fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is no number: {text}")),
    )
}

/// So many seeds, or the one that is asked for.
fn seeds_or_one(seeds: u64) -> Range<u64> {
    number("TAGFLOW_SIM_SEED").map_or(0..seeds, |seed| seed..seed + 1)
}

/// Runs seeds on all cores; the first that fails, if one does.
fn first_failure(seeds: Range<u64>, lie: Option<Lie>) -> Option<(u64, String)> {
    let next = AtomicU64::new(seeds.start);
    let failed = AtomicU64::new(u64::MAX);
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end || failed.load(Ordering::Relaxed) < seed {
                return None;
            }
            if let Err(what) = run(seed, lie) {
                failed.fetch_min(seed, Ordering::Relaxed);
                return Some((seed, what));
            }
        }
    };
    let cores = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        let ended = workers.into_iter().map(|worker| worker.join().unwrap());
        ended.flatten().min_by_key(|(seed, _)| *seed)
    })
}

#[test]
fn whatever_happens_every_row_counts_once() {
    let seeds = number("TAGFLOW_SIM_SEEDS").unwrap_or(SEEDS);
    if let Some((seed, what)) = first_failure(seeds_or_one(seeds), None) {
        panic!("{what}; run TAGFLOW_SIM_SEED={seed} with TAGFLOW_SIM_TRACE=1 to see how");
    }
}

#[test]
fn a_seed_is_a_run() {
    let mut traces = std::collections::BTreeSet::new();
    for seed in 0..40 {
        let Done { trace, processes } = run(seed, None).unwrap();
        let again = run(seed, None).unwrap();
        assert_eq!(
            (trace, processes),
            (again.trace, again.processes),
            "seed {seed}"
        );
        traces.insert(trace);
    }
    assert_eq!(traces.len(), 40, "two seeds are the same run");
}

fn check_found(lie: Lie) {
    let found = first_failure(seeds_or_one(1500), Some(lie));
    let (seed, what) = found.unwrap_or_else(|| panic!("{lie:?} is not found"));
    eprintln!("{lie:?}, seed {seed}: {what}");
}

#[test]
fn taking_exists_for_mine_is_found() {
    check_found(Lie::ExistsMeansMine);
}

#[test]
fn not_reading_back_is_found() {
    check_found(Lie::NoReadBack);
}

#[test]
fn publishing_before_the_commit_is_found() {
    check_found(Lie::PublishBeforeCommit);
}

#[test]
fn overwriting_is_found() {
    check_found(Lie::Overwrite);
}

#[test]
fn collecting_claims_is_found() {
    check_found(Lie::ClaimsAreCollected);
}

#[test]
fn listing_only_once_is_found() {
    check_found(Lie::NoSecondListing);
}
