//! Seeds, and the defects that they must find.

use std::{
    collections::BTreeSet,
    ops::Range,
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

use super::{campaign::run, effect::Effect, lie::Lie};

/// The number of seeds in every test run.
const SEEDS: u64 = 3000;

/// The seeds in an environment variable: `388`, or `1000..2000`.
fn named_seeds(name: &str) -> Option<Range<u64>> {
    let text = std::env::var(name).ok()?;
    let number = |text: &str| -> u64 {
        let number = text.parse();
        number.unwrap_or_else(|_| panic!("{name} is no seed: {text}"))
    };
    Some(match text.split_once("..") {
        Some((start, end)) => number(start)..number(end),
        None => number(&text)..number(&text) + 1,
    })
}

/// This number of seeds, or those in the environment variable.
fn seeds_or(seeds: u64) -> Range<u64> {
    named_seeds("TAGFLOW_SIM_SEED").unwrap_or(0..seeds)
}

/// Runs seeds on all cores. Returns all their effects, or the first failure.
fn run_all(seeds: Range<u64>, lie: Option<Lie>) -> Result<BTreeSet<Effect>, (u64, String)> {
    let next = AtomicU64::new(seeds.start);
    let failed = AtomicU64::new(u64::MAX);
    let work = || {
        let mut effects = BTreeSet::new();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end || failed.load(Ordering::Relaxed) < seed {
                return Ok(effects);
            }
            match run(seed, lie) {
                Ok(done) => effects.extend(done.effects),
                Err(what) => {
                    failed.fetch_min(seed, Ordering::Relaxed);
                    return Err((seed, what));
                }
            }
        }
    };
    let cores = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        let mut all = BTreeSet::new();
        let mut first = None;
        for worker in workers {
            match worker.join().unwrap() {
                Ok(effects) => all.extend(effects),
                Err(failure) => first = first.into_iter().chain([failure]).min(),
            }
        }
        first.map_or(Ok(all), Err)
    })
}

#[test]
fn whatever_happens_every_row_counts_once() {
    let many = std::env::var("TAGFLOW_SIM_SEEDS").ok();
    let seeds = seeds_or(many.map_or(SEEDS, |seeds| seeds.parse().unwrap()));
    let many = seeds.end - seeds.start >= SEEDS;
    match run_all(seeds, None) {
        Err((seed, what)) => {
            panic!("{what}; run TAGFLOW_SIM_SEED={seed} with TAGFLOW_SIM_TRACE=1 to see how")
        }
        // An effect that never happens was not tested.
        Ok(effects) if many => assert_eq!(effects, BTreeSet::from(Effect::ALL)),
        Ok(_) => {}
    }
}

#[test]
fn a_seed_is_a_run() {
    let mut traces = BTreeSet::new();
    for seed in 0..40 {
        let done = run(seed, None).unwrap();
        assert_eq!(run(seed, None).unwrap(), done, "seed {seed}");
        traces.insert(done.trace);
    }
    assert_eq!(traces.len(), 40, "two seeds are the same run");
}

fn check_found(lie: Lie) {
    let Err((seed, what)) = run_all(seeds_or(300), Some(lie)) else {
        panic!("{lie:?} is not found");
    };
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
fn delivering_before_the_commit_is_found() {
    check_found(Lie::DeliverBeforeCommit);
}

#[test]
fn forgetting_a_committable_is_found() {
    check_found(Lie::ForgetACommittable);
}

#[test]
fn delivering_out_of_order_is_found() {
    check_found(Lie::DeliverOutOfOrder);
}

#[test]
fn overwriting_is_found() {
    check_found(Lie::Overwrite);
}

#[test]
fn collecting_claims_is_found() {
    check_found(Lie::ClaimsAreCollected);
}
