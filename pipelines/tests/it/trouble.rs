//! Random pipelines on a failing store, in processes that die, stop and resume, on one
//! thread and in virtual time. The output equals DataFusion's batch result over the same
//! rows.

use std::{sync::Arc, time::Duration};

use object_store::{ObjectStore, memory::InMemory};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use tagflow_engine::{
    ErrorKind, EventTime,
    testing::{
        VirtualClock,
        store::{Fault, FaultyStore, Operation},
    },
};

use crate::{case::Case, cut::Kind, oracle::batch, rig::Rig};

/// The number of cases in CI; `TAGFLOW_TROUBLE_CASES` sets another number,
/// `TAGFLOW_TROUBLE_SEED` selects one.
const CASES: u64 = 240;

const KINDS: [Kind; 6] = [
    Kind::Tumble,
    Kind::Calendar,
    Kind::Hop,
    Kind::Cumulate,
    Kind::Session,
    Kind::Nested,
];

#[test]
fn pipelines_in_trouble_equal_datafusion() {
    let setting = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let seeds = match setting("TAGFLOW_TROUBLE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..setting("TAGFLOW_TROUBLE_CASES").unwrap_or(CASES),
    };
    let cases = seeds.end - seeds.start;
    let (mut processes, mut rows) = (0, 0);
    for seed in seeds {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        let checked = runtime.block_on(check(seed));
        processes += checked.0;
        rows += checked.1;
    }
    println!("{cases} pipelines, {processes} processes, {rows} result rows");
    assert!(cases == 1 || processes > 2 * cases, "too little trouble");
    assert!(cases == 1 || rows as u64 > 10 * cases, "too few rows");
}

/// Runs a case to its end; returns the number of processes and the number of rows.
async fn check(seed: u64) -> (u64, usize) {
    let mut random = SmallRng::seed_from_u64(seed);
    let case = Case::random(KINDS[seed as usize % KINDS.len()], &mut random);
    let inner: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let first = FaultyStore::new(Arc::clone(&inner));
    let mut rig = Rig::new(case.file.clone());
    rig.clock = Arc::new(VirtualClock::starting_at(EventTime::from_micros(0)));
    rig.pace = Duration::from_millis(1);
    rig.restarts = 2;
    for (partition, rows) in case.partitions.iter().enumerate() {
        rig.script
            .push(&format!("p{partition}"), rows.iter().cloned());
    }
    let often = [0.0, 0.02, 0.1][random.random_range(0..3)];
    let (mut processes, mut stopped) = (0, Vec::new());
    for _ in 0..random.random_range(1..5) {
        let store = first.of_another_process();
        store.direct(faults(often, random.random()));
        let job = start(&mut rig, &mut random, &store);
        processes += 1;
        tokio::time::sleep(Duration::from_millis(random.random_range(0..400))).await;
        if random.random_bool(0.3) {
            store.freeze();
            stopped.push((store, job));
        } else {
            store.kill();
            job.abort();
        }
    }
    let status = loop {
        let store = first.of_another_process();
        let job = start(&mut rig, &mut random, &store);
        processes += 1;
        let waking = Duration::from_millis(random.random_range(0..200));
        tokio::time::sleep(waking).await;
        for (stopped, _) in &stopped {
            stopped.thaw();
        }
        match job.await.unwrap() {
            Ok(status) => break status,
            Err(error) if error.kind() == ErrorKind::Fenced && !stopped.is_empty() => {}
            Err(error) => panic!("seed {seed}: {}\n{}", error.chain(), case.file),
        }
    };
    let read: usize = case.partitions.iter().map(Vec::len).sum();
    assert_eq!(status.totals.rows_in, read as u64, "seed {seed}");
    for (_, job) in stopped {
        if let Err(error) = job.await.unwrap() {
            let may = matches!(error.kind(), ErrorKind::Fenced | ErrorKind::External);
            assert!(may, "seed {seed}: {}", error.chain());
        }
    }
    rig.store = inner;
    let mut ours = rig.lines("out").await;
    if let Some(cut) = &case.cut {
        ours = ours.iter().map(|line| cut.plain(line)).collect();
        ours.sort();
    }
    let expected = batch(&case).await;
    assert_eq!(ours, expected, "seed {seed}\n{}\n{}", case.file, case.batch);
    (processes, expected.len())
}

type Job = tokio::task::JoinHandle<tagflow_engine::Result<tagflow_engine::status::JobStatus>>;

/// Starts a process with random settings.
fn start(rig: &mut Rig, random: &mut SmallRng, store: &FaultyStore) -> Job {
    rig.store = Arc::new(store.clone());
    rig.lanes = random.random_range(1..5);
    rig.chunk = [3, 20, 100][random.random_range(0..3)];
    rig.checkpoint_every = Duration::from_millis(random.random_range(5..80));
    tokio::spawn(rig.start())
}

/// Random faults of a store, with probability `often`.
fn faults(
    often: f64,
    seed: u64,
) -> impl FnMut(Operation, &object_store::path::Path) -> Option<Fault> + Send {
    let mut random = SmallRng::seed_from_u64(seed);
    move |operation, _| {
        if !random.random_bool(often) {
            return Some(Fault::Slow(Duration::from_millis(
                random.random_range(0..5),
            )));
        }
        let later = Duration::from_millis(random.random_range(1..2000));
        let kinds = match operation {
            Operation::Get => vec![Fault::ErrorBefore, Fault::Truncated],
            Operation::List => vec![Fault::ErrorBefore, Fault::Reversed, Fault::Twice],
            _ => vec![
                Fault::ErrorBefore,
                Fault::ErrorAfter,
                Fault::Twice,
                Fault::ConflictNothingLanded,
                Fault::LandsAfter(later),
                Fault::Slow(later),
            ],
        };
        Some(kinds[random.random_range(0..kinds.len())])
    }
}
