//! Whole jobs, with a naive tumbling count as their operator and the rows themselves as the oracle.

mod bursts;
mod deliveries;
mod idle;
mod memory;
mod tally;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use futures::{FutureExt as _, future::BoxFuture};
use object_store::{ObjectStore, memory::InMemory, path::Path};
use rand::{Rng, SeedableRng, rngs::SmallRng};

use self::tally::{Fault, Tally};
use super::{Control, End, JobConfig, OldFiles, Outcome, Supervised, Until, supervise};
use crate::{
    Clock, ErrorKind, EventTime, Port, RandomIds, Result,
    commit::{LogConfig, Owner, Plan},
    committer::DeliveryBounds,
    graph::{
        Graph, NodeKind, OnError, OperatorNode, Partitioning, SourceNode, TimePolicy, WhenIdle,
        WithOffsets,
    },
    memory::MemoryLimit,
    source::{
        Chunk, DeadLetters, Positions, Reference, Rejected, Source, SourceEvent, SourceReader,
    },
    testing::{Bounded, LinesSink, Script, ScriptDecoder, ScriptedSource, VirtualClock, parse},
};

/// A window of the tests, in microseconds.
const WINDOW: i64 = 100;
const DELAY: i64 = 40;

/// A pipeline that can be started repeatedly on one store.
struct Rig {
    store: Arc<dyn ObjectStore>,
    script: Arc<Script>,
    clock: Arc<dyn Clock>,
    chunk: usize,
    lanes: usize,
    checkpoint_every: Duration,
    bounded: Bounded,
    until: Until,
    end: End,
    fault: Fault,
    reference: Reference,
    window: i64,
    reset: BTreeSet<String>,
    old_files: OldFiles,
    memory: Option<MemoryLimit>,
    deliver: BTreeMap<String, DeliveryBounds>,
    when_idle: WhenIdle,
    /// A source in place of the script.
    source: Option<Arc<dyn Source>>,
}

impl Rig {
    fn new() -> Self {
        Self {
            store: Arc::new(InMemory::new()),
            script: Arc::default(),
            clock: Arc::new(VirtualClock::starting_at(EventTime::from_micros(0))),
            chunk: 7,
            lanes: 2,
            checkpoint_every: Duration::from_millis(1),
            bounded: Bounded::Yes,
            until: Until::Stopped,
            end: End::Keep,
            fault: Fault::None,
            reference: Reference::None,
            window: WINDOW,
            reset: BTreeSet::new(),
            old_files: OldFiles::Keep,
            memory: None,
            deliver: BTreeMap::new(),
            when_idle: WhenIdle::Hold,
            source: None,
        }
    }

    fn sink(&self, name: &str) -> LinesSink {
        LinesSink::new(name, Arc::clone(&self.store))
    }

    fn graph(&self) -> Graph {
        let mut graph = Graph::default();
        let script = ScriptedSource {
            script: Arc::clone(&self.script),
            chunk: self.chunk,
            bounded: self.bounded,
            reference: self.reference.clone(),
        };
        let source = graph.add(
            "events",
            "",
            NodeKind::Source(SourceNode {
                source: self.source.clone().unwrap_or_else(|| Arc::new(script)),
                decoder: Arc::new(|| Ok(Box::new(ScriptDecoder))),
                dead_letters: Arc::new(|| Ok(Box::new(Letters))),
                time: TimePolicy {
                    column: 0,
                    delay: Duration::from_micros(DELAY as u64),
                    idle_after: Duration::from_mins(1),
                    when_idle: self.when_idle,
                    max_future: Duration::from_micros(500),
                    earliest: EventTime::from_micros(0),
                    max_drift: None,
                    granularity: Duration::from_micros(self.window as u64),
                    on_error: OnError::DeadLetter,
                    offsets: WithOffsets::No,
                },
            }),
        );
        let (window, fault) = (self.window, self.fault);
        let tally = graph.add(
            "tally",
            "",
            NodeKind::Operator(OperatorNode {
                factory: Arc::new(move |_| Ok(Box::new(Tally::new(window, fault)))),
                fingerprint: Some(format!("tally {window}")),
            }),
        );
        graph.connect(
            (source, Port::MAIN),
            (tally, Port::MAIN),
            Partitioning::Hash(vec![1]),
        );
        for (from, name) in [
            ((tally, Port::MAIN), "counts"),
            ((tally, Port::SIDE), "late"),
        ] {
            let sink = graph.add(name, "", NodeKind::Sink(Arc::new(self.sink(name))));
            graph.connect(from, (sink, Port::MAIN), Partitioning::Gather);
        }
        let dead = graph.add("dead", "", NodeKind::Sink(Arc::new(self.sink("dead"))));
        graph.connect(
            (source, Port::SIDE),
            (dead, Port::MAIN),
            Partitioning::Gather,
        );
        graph
    }

    fn start(&self) -> (Control, BoxFuture<'static, Result<Outcome>>) {
        let (control, job) = supervise(Supervised {
            graph: self.graph(),
            config: JobConfig {
                pipeline: "test".to_owned(),
                lanes: self.lanes,
                checkpoint_every: self.checkpoint_every,
                queue_bytes: 4096,
                until: self.until,
                end: self.end,
                reset: self.reset.clone(),
                old_files: self.old_files,
                deliver: self.deliver.clone(),
                stop_when: None,
                memory: self.memory.clone(),
            },
            log: LogConfig {
                store: Arc::clone(&self.store),
                root: Path::from("state/test"),
                task: "main".to_owned(),
                owner: Owner {
                    host: "here".to_owned(),
                    pid: 1,
                    admin: None,
                    started_at: EventTime::from_micros(0),
                },
                plan: Plan {
                    hash: "plan".to_owned(),
                    json: "{}".into(),
                },
                keep_commits: 2,
                ids: Arc::new(RandomIds),
            },
            clock: Arc::clone(&self.clock),
            restarts: 0,
            presence: None,
        });
        (control, job.boxed())
    }

    async fn run(&self) -> Result<Outcome> {
        self.start().1.await
    }

    async fn counts(&self) -> Vec<String> {
        self.sink("counts").published().await.unwrap()
    }
}

/// Dead letters as `source,reason` lines.
struct Letters;

impl DeadLetters for Letters {
    fn batch(&mut self, source: &str, _: &Chunk, rejected: &[Rejected]) -> Result<RecordBatch> {
        tally::lines(
            rejected
                .iter()
                .map(|letter| format!("{source} {}", letter.reason)),
        )
    }
}

/// The expected counts: by window and key, the number of rows and their sum.
fn expected(rows: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut counts: BTreeMap<(i64, String), (i64, i64)> = BTreeMap::new();
    for row in rows {
        let (time, key, value) = parse(&row).unwrap();
        let window = time.div_euclid(WINDOW) * WINDOW;
        let count = counts.entry((window, key.to_owned())).or_default();
        *count = (count.0 + 1, count.1 + value);
    }
    let mut lines: Vec<String> = counts
        .into_iter()
        .map(|((window, key), (count, sum))| format!("{window} {key} {count} {sum}"))
        .collect();
    lines.sort();
    lines
}

/// Rows with disorder within the delay.
fn orderly(random: &mut SmallRng, rows: usize) -> Vec<String> {
    (0..rows as i64)
        .map(|row| {
            let time = row * 9 + random.random_range(0..DELAY);
            format!(
                "{time},k{},{}",
                random.random_range(0..6),
                random.random_range(-5..50)
            )
        })
        .collect()
}

#[tokio::test]
async fn any_lanes_chunks_and_crashes_give_the_same_counts() {
    for seed in 0..60 {
        let mut random = SmallRng::seed_from_u64(seed);
        let mut rig = Rig::new();
        let mut all = Vec::new();
        for partition in 0..random.random_range(1..5) {
            let rows = random.random_range(0..300);
            let rows = orderly(&mut random, rows);
            rig.script.push(&format!("p{partition}"), rows.clone());
            all.extend(rows);
        }
        let mut crashes = 0;
        loop {
            rig.chunk = random.random_range(1..40);
            rig.lanes = [1, 2, 4][random.random_range(0..3)];
            let job = tokio::spawn(rig.start().1);
            if crashes < 6 && random.random_bool(0.8) {
                crashes += 1;
                tokio::time::sleep(Duration::from_micros(random.random_range(0..6000))).await;
                if !job.is_finished() {
                    job.abort();
                    let _ = job.await;
                    continue;
                }
            }
            let outcome = job.await.unwrap().unwrap();
            let totals = outcome.status.totals;
            assert_eq!(totals.rows_in, all.len() as u64, "seed {seed}");
            assert_eq!(totals.contributed, all.len() as u64, "seed {seed}");
            break;
        }
        assert_eq!(rig.counts().await, expected(all), "seed {seed}");
    }
}

#[tokio::test]
async fn lateness_depends_on_the_rows_only() {
    let mut random = SmallRng::seed_from_u64(1);
    let rows: Vec<String> = (0..400)
        .map(|row| {
            let late = if random.random_bool(0.1) {
                random.random_range(0..600)
            } else {
                0
            };
            format!(
                "{},k{},1",
                (row * 9 - late).max(0),
                random.random_range(0..4)
            )
        })
        .collect();
    // The rule for late rows, row by row.
    let (mut highest, mut late, mut in_time) = (i64::MIN, 0, Vec::new());
    for row in &rows {
        let (time, _, _) = parse(row).unwrap();
        if (time.div_euclid(WINDOW) + 1) * WINDOW <= highest.saturating_sub(DELAY) {
            late += 1;
        } else {
            in_time.push(row.clone());
        }
        highest = highest.max(time);
    }
    assert!(late > 10, "the data must have late rows");
    for (lanes, chunk) in [(1, 1), (1, 400), (4, 3), (2, 50), (4, 400)] {
        let mut rig = Rig::new();
        (rig.lanes, rig.chunk) = (lanes, chunk);
        rig.script.push("p", rows.clone());
        let totals = rig.run().await.unwrap().status.totals;
        assert_eq!(
            (totals.late, totals.rows_in),
            (late, 400),
            "{lanes} lanes, {chunk} rows"
        );
        assert_eq!(
            rig.counts().await,
            expected(in_time.clone()),
            "{lanes} lanes, {chunk} rows"
        );
        assert_eq!(
            rig.sink("late").published().await.unwrap().len() as u64,
            late
        );
    }
}

#[tokio::test]
async fn bad_and_implausible_rows_are_set_aside_and_move_no_watermark() {
    let mut rig = Rig::new();
    rig.reference = Reference::Received(EventTime::from_micros(1000));
    let rows = [
        "10,a,1",
        "rubbish",
        "4070908800000000,a,1",
        "20,a,1",
        "-5,a,1",
        "1500,a,1",
        "1501,a,1",
    ];
    rig.script.push("p", rows.map(str::to_owned));
    let totals = rig.run().await.unwrap().status.totals;
    assert_eq!(
        (totals.contributed, totals.dead_letter, totals.late),
        (3, 4, 0)
    );
    assert_eq!(rig.counts().await, ["0 a 2 2", "1500 a 1 1"]);
    let dead = rig.sink("dead").published().await.unwrap();
    let implausible = "events implausible_time";
    assert_eq!(
        dead,
        [implausible, implausible, implausible, "events not_script"]
    );
}

#[tokio::test]
async fn rows_that_do_not_add_up_are_not_committed() {
    for fault in [Fault::LosesRows, Fault::CountsTwice] {
        let mut rig = Rig::new();
        rig.fault = fault;
        rig.script
            .push("p", orderly(&mut SmallRng::seed_from_u64(1), 200));
        let error = rig.run().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Internal);
        assert!(error.to_string().contains("do not add up"), "{error}");
        assert_eq!(rig.counts().await, [""; 0], "nothing is published");
    }
}

#[tokio::test]
async fn a_run_goes_on_where_the_last_stopped() {
    let mut rig = Rig::new();
    (rig.bounded, rig.until) = (Bounded::No, Until::CaughtUp);
    let rows = orderly(&mut SmallRng::seed_from_u64(2), 900);
    for (run, part) in rows.chunks(300).enumerate() {
        rig.script.push("p", part.to_vec());
        rig.lanes = [2, 3, 1][run];
        if run == 2 {
            rig.end = End::Drain;
        }
        rig.run().await.unwrap();
    }
    assert_eq!(rig.counts().await, expected(rows));
    // The windows are closed: further rows for them are late.
    rig.script.push("p", ["8000,k1,1".to_owned()]);
    assert_eq!(rig.run().await.unwrap().status.totals.late, 1);
}

#[tokio::test(start_paused = true)]
async fn the_second_owner_fences_the_first() {
    let mut rig = Rig::new();
    rig.bounded = Bounded::No;
    let rows = orderly(&mut SmallRng::seed_from_u64(3), 600);
    rig.script.push("p", rows[..200].to_vec());
    let (_first_control, first) = rig.start();
    let first = tokio::spawn(first);
    tokio::time::sleep(Duration::from_millis(30)).await;
    let (second_control, second) = rig.start();
    let second = tokio::spawn(second);
    tokio::time::sleep(Duration::from_millis(30)).await;
    rig.script.push("p", rows[200..].to_vec());
    let error = first.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Fenced, "{error}");
    tokio::time::sleep(Duration::from_millis(30)).await;
    second_control.stop.cancel();
    second.await.unwrap().unwrap();
    (rig.until, rig.end) = (Until::CaughtUp, End::Drain);
    rig.run().await.unwrap();
    assert_eq!(rig.counts().await, expected(rows));
}

#[tokio::test(start_paused = true)]
async fn regression_a_job_that_cannot_start_leaves_the_owner_alone() {
    let mut rig = Rig::new();
    rig.bounded = Bounded::No;
    let rows = orderly(&mut SmallRng::seed_from_u64(3), 600);
    rig.script.push("p", rows[..200].to_vec());
    let (control, owner) = rig.start();
    let owner = tokio::spawn(owner);
    tokio::time::sleep(Duration::from_millis(30)).await;
    // Its windows differ, so the state does not fit.
    rig.window = 200;
    let error = rig.run().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    rig.window = WINDOW;
    rig.script.push("p", rows[200..].to_vec());
    tokio::time::sleep(Duration::from_millis(30)).await;
    control.stop.cancel();
    owner.await.unwrap().unwrap();
    (rig.until, rig.end) = (Until::CaughtUp, End::Drain);
    rig.run().await.unwrap();
    assert_eq!(rig.counts().await, expected(rows));
}

#[tokio::test(start_paused = true)]
async fn regression_whatever_a_fenced_job_meets_it_ends_as_fenced() {
    for taken_over in [false, true] {
        let mut rig = Rig::new();
        rig.bounded = Bounded::No;
        rig.fault = Fault::LosesRows;
        rig.script.push("p", []);
        let (_control, job) = rig.start();
        let job = tokio::spawn(job);
        tokio::time::sleep(Duration::from_millis(30)).await;
        rig.fault = Fault::None;
        let (_other_control, other) = rig.start();
        let other = taken_over.then(|| tokio::spawn(other));
        tokio::time::sleep(Duration::from_micros(500)).await;
        let rows = orderly(&mut SmallRng::seed_from_u64(3), 200);
        rig.script.push("p", rows);
        let kind = job.await.unwrap().unwrap_err().kind();
        let expected = if taken_over {
            ErrorKind::Fenced
        } else {
            ErrorKind::Internal
        };
        assert_eq!(kind, expected);
        drop(other);
    }
}

#[tokio::test]
async fn regression_a_source_that_is_read_again_counts_once() {
    let mut rig = Rig::new();
    (rig.bounded, rig.until, rig.end) = (Bounded::No, Until::CaughtUp, End::Drain);
    let rows = orderly(&mut SmallRng::seed_from_u64(5), 400);
    rig.script.push("p", rows.clone());
    rig.run().await.unwrap();
    assert_eq!(rig.counts().await, expected(rows.clone()));

    rig.reset.insert("events".to_owned());
    let error = rig.run().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    let said = error.to_string();
    assert!(said.contains("`counts` ("), "{said}");
    assert!(said.contains("--reset events --replace-tables"), "{said}");
    assert_eq!(rig.counts().await, expected(rows.clone()));

    rig.old_files = OldFiles::Replace;
    for lanes in [1, 3] {
        rig.lanes = lanes;
        rig.run().await.unwrap();
        assert_eq!(rig.counts().await, expected(rows.clone()));
    }
    // Without the flags it continues from there.
    (rig.reset, rig.old_files) = (BTreeSet::new(), OldFiles::Keep);
    rig.run().await.unwrap();
    assert_eq!(rig.counts().await, expected(rows));
}

#[tokio::test]
async fn changed_state_is_refused_by_name() {
    let mut rig = Rig::new();
    (rig.bounded, rig.until) = (Bounded::No, Until::CaughtUp);
    rig.script
        .push("p", orderly(&mut SmallRng::seed_from_u64(4), 100));
    rig.run().await.unwrap();
    rig.window = 200;
    let error = rig.run().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("`tally` has changed"), "{error}");
    assert!(error.to_string().contains("--reset tally"), "{error}");
    rig.reset.insert("tally".to_owned());
    rig.run().await.unwrap();
}

/// Returns the given events, and then nothing.
struct Told(Vec<SourceEvent>);

#[async_trait]
impl SourceReader for Told {
    async fn next(&mut self) -> Result<SourceEvent> {
        if self.0.is_empty() {
            std::future::pending::<()>().await;
        }
        Ok(self.0.remove(0))
    }

    fn pause(&mut self, _: &str) {}

    fn resume(&mut self, _: &str) {}

    fn committed(&mut self, _: &Positions) {}
}

#[async_trait]
impl Source for Told {
    async fn open(&self, _: &Positions) -> Result<Box<dyn SourceReader>> {
        let quiet: Arc<str> = "quiet".into();
        Ok(Box::new(Told(vec![
            SourceEvent::Assigned(vec![(Arc::clone(&quiet), 0), ("busy".into(), 0)]),
            SourceEvent::CaughtUp {
                partition: quiet,
                end: 0,
            },
            SourceEvent::Unreachable("away".to_owned()),
            SourceEvent::Reachable,
        ])))
    }
}

/// The source reports once that a partition is at its end. An outage made the reader forget it: the
/// partition was never idle and held back all others, and `max_drift` paused them forever
/// (simulation, seed 208).
#[tokio::test(start_paused = true)]
async fn regression_an_outage_does_not_make_a_quiet_partition_hold_up_the_others() {
    let mut rig = Rig::new();
    rig.clock = Arc::new(VirtualClock::starting_at(EventTime::from_micros(0)));
    rig.source = Some(Arc::new(Told(Vec::new())));
    rig.checkpoint_every = Duration::from_secs(1);
    let (control, job) = rig.start();
    let job = tokio::spawn(job);
    tokio::time::sleep(Duration::from_secs(70)).await;
    let partitions = control.status.borrow().partitions.clone();
    assert!(partitions["events:quiet"].idle);
    assert!(!partitions["events:busy"].idle);
    control.stop.cancel();
    job.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_silent_partition_becomes_idle_and_holds_nobody_back() {
    let mut rig = Rig::new();
    (rig.bounded, rig.checkpoint_every) = (Bounded::No, Duration::from_secs(1));
    rig.clock = Arc::new(VirtualClock::starting_at(EventTime::from_micros(0)));
    rig.script
        .push("busy", orderly(&mut SmallRng::seed_from_u64(5), 200));
    rig.script.push("silent", []);
    let (control, job) = rig.start();
    let job = tokio::spawn(job);
    tokio::time::sleep(Duration::from_secs(50)).await;
    assert_eq!(
        rig.counts().await.len(),
        0,
        "the silent partition may still speak"
    );
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert!(!rig.counts().await.is_empty(), "it is idle");
    let idle = |control: &Control| control.status.borrow().partitions["events:silent"].idle;
    assert!(idle(&control));
    rig.script.push("silent", ["1780,k1,1".to_owned()]);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!idle(&control), "it has spoken");
    control.stop.cancel();
    let totals = job.await.unwrap().unwrap().status.totals;
    assert_eq!((totals.rows_in, totals.late), (201, 0));
}

/// Time passes without events, also while the job was stopped.
#[tokio::test(start_paused = true)]
async fn the_watermark_of_an_idle_partition_can_follow_the_clock() {
    let mut rig = Rig::new();
    (rig.bounded, rig.checkpoint_every) = (Bounded::No, Duration::from_secs(1));
    rig.clock = Arc::new(VirtualClock::starting_at(EventTime::from_micros(0)));
    rig.when_idle = WhenIdle::Clock;
    rig.script.push("p", ["10,a,1".to_owned()]);
    let (control, job) = rig.start();
    let job = tokio::spawn(job);
    tokio::time::sleep(Duration::from_secs(50)).await;
    assert!(rig.counts().await.is_empty(), "more may come");
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(rig.counts().await, ["0 a 1 1"]);
    assert!(!control.status.borrow().partitions["events:p"].idle);
    // One row from before the time that the clock has reached, and one from after it.
    rig.script
        .push("p", ["20,a,1", "200000000,a,5"].map(str::to_owned));
    tokio::time::sleep(Duration::from_secs(2)).await;
    control.stop.cancel();
    let totals = job.await.unwrap().unwrap().status.totals;
    assert_eq!((totals.rows_in, totals.late), (3, 1));

    // The commit contains the time that the clock had reached: as late as before.
    let (control, job) = rig.start();
    let job = tokio::spawn(job);
    rig.script.push("p", ["30,a,1".to_owned()]);
    tokio::time::sleep(Duration::from_secs(200)).await;
    assert_eq!(rig.counts().await, ["0 a 1 1", "200000000 a 1 5"]);
    control.stop.cancel();
    let totals = job.await.unwrap().unwrap().status.totals;
    assert_eq!((totals.rows_in, totals.late), (4, 2));
}
