//! Conformance tests of sinks that take part in the commit.
//!
//! The suite runs a sink and its committer against the commit log, in place of a job. It covers a
//! second delivery, an old commit, a crash at each write of a delivery, a long outage, a changed
//! schema, a large commit, an empty commit, a stopped process that wakes up, and two tasks.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    sync::Arc,
};

use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use object_store::{ObjectStore, memory::InMemory, path::Path};

use super::InstantClock;
use crate::{
    Batch, Clock, Epoch, EventTime, RandomIds, Result,
    commit::{CommitLog, CommitRequest, Committers, LogConfig, Owner, Plan, Reason},
    committer::CommitterContext,
    element::BarrierKind,
    ledger::Counts,
    sink::{Sink, SinkContext, SinkFactory},
};

/// The rows of a usual commit.
const ROWS: u64 = 10;

/// The rows of the large commit.
const MANY: u64 = 100_000;

/// The commits during the long outage.
const OUTAGE: u64 = 20;

/// The most writes of a delivery of a usual commit.
const MOST_WRITES: u64 = 100;

/// The name of the sink.
const NODE: &str = "sink";

/// The shape of the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// The first columns.
    First,
    /// The first columns and one more.
    Wider,
}

/// The outside of a sink under test: a new table, database or topic.
#[async_trait]
pub trait Outside: Send + Sync {
    /// The connection of a new process. Each suite writes from several tasks if `shared`.
    fn connect(&self, shape: Shape, shared: bool) -> Box<dyn Connection>;

    /// Rows with these numbers.
    fn rows(&self, shape: Shape, numbers: Range<u64>) -> RecordBatch;

    /// The numbers of all rows that readers see, in any order, with repetitions.
    async fn visible(&self) -> Vec<u64>;
}

/// The connection of one process to the outside.
pub trait Connection: Send + Sync {
    /// The sink. All its requests use this connection.
    fn sink(&self) -> Arc<dyn SinkFactory>;

    /// Lets every request fail with a retryable error after this number of writes, until
    /// [`repair`](Self::repair).
    fn fail_after(&self, writes: u64);

    /// Ends the failures.
    fn repair(&self);
}

/// Runs every test of the suite. `outside` returns a new and empty outside.
///
/// # Panics
/// If the sink does not conform.
pub async fn conformance<O: Outside>(outside: impl Fn() -> O) {
    delivers_each_commit_once(&outside()).await;
    delivers_old_commits_again(&outside()).await;
    survives_a_crash_at_each_write(&outside).await;
    survives_a_long_outage(&outside()).await;
    accepts_a_wider_row(&outside()).await;
    delivers_a_large_commit(&outside()).await;
    a_stopped_process_does_no_harm(&outside()).await;
    two_tasks_write_side_by_side(&outside()).await;
}

async fn delivers_each_commit_once(outside: &dyn Outside) {
    let state = State::new("main");
    let mut owner = state.start(outside.connect(Shape::First, false)).await;
    owner.commit(outside, 0..ROWS).await;
    check(outside, 0..0, "before the delivery").await;
    owner.log.deliver().await.expect("a delivery");
    check(outside, 0..ROWS, "after the first delivery").await;
    owner.log.deliver().await.expect("a delivery");
    check(outside, 0..ROWS, "after a delivery of nothing").await;
    owner.commit(outside, 0..0).await;
    owner.log.deliver().await.expect("a delivery");
    check(outside, 0..ROWS, "after an empty commit").await;
    owner.commit(outside, ROWS..2 * ROWS).await;
    owner.log.deliver().await.expect("a delivery");
    check(outside, 0..2 * ROWS, "after two commits with rows").await;
}

/// No record shows the deliveries, so the next process delivers all commits again.
async fn delivers_old_commits_again(outside: &dyn Outside) {
    let state = State::new("main");
    let mut owner = state.start(outside.connect(Shape::First, false)).await;
    for commit in 0..3 {
        owner
            .commit(outside, commit * ROWS..(commit + 1) * ROWS)
            .await;
    }
    owner.log.deliver().await.expect("a delivery");
    for _ in 0..2 {
        drop(state.start(outside.connect(Shape::First, false)).await);
        check(outside, 0..3 * ROWS, "after commits were delivered again").await;
    }
}

async fn survives_a_crash_at_each_write<O: Outside>(outside: impl Fn() -> O) {
    for writes in 0..MOST_WRITES {
        let outside = outside();
        let state = State::new("main");
        let mut owner = state.start(outside.connect(Shape::First, false)).await;
        for commit in 0..2 {
            owner
                .commit(&outside, commit * ROWS..(commit + 1) * ROWS)
                .await;
        }
        owner.connection.fail_after(writes);
        let delivered = owner.log.deliver().await;
        drop(owner);
        drop(state.start(outside.connect(Shape::First, false)).await);
        let case = format!("after a crash at write {writes} of a delivery");
        check(&outside, 0..2 * ROWS, &case).await;
        if delivered.is_ok() {
            assert!(writes > 0, "the delivery wrote nothing");
            return;
        }
    }
    panic!("a delivery of {} rows needs {MOST_WRITES} writes", 2 * ROWS);
}

async fn survives_a_long_outage(outside: &dyn Outside) {
    let state = State::new("main");
    let mut owner = state.start(outside.connect(Shape::First, false)).await;
    for commit in 0..OUTAGE {
        owner
            .commit(outside, commit * ROWS..(commit + 1) * ROWS)
            .await;
        owner.connection.fail_after(0);
        let error = owner.log.deliver().await.expect_err("an outage");
        assert!(error.is_retryable(), "{}", error.chain());
        owner.connection.repair();
    }
    owner.log.deliver().await.expect("a delivery");
    check(outside, 0..OUTAGE * ROWS, "after an outage").await;
}

async fn accepts_a_wider_row(outside: &dyn Outside) {
    let state = State::new("main");
    let mut owner = state.start(outside.connect(Shape::First, false)).await;
    owner.commit(outside, 0..ROWS).await;
    drop(owner);
    let mut owner = state.start(outside.connect(Shape::Wider, false)).await;
    owner.shape = Shape::Wider;
    owner.commit(outside, ROWS..2 * ROWS).await;
    owner.log.deliver().await.expect("a delivery");
    check(outside, 0..2 * ROWS, "after a column was added").await;
}

async fn delivers_a_large_commit(outside: &dyn Outside) {
    let state = State::new("main");
    let mut owner = state.start(outside.connect(Shape::First, false)).await;
    owner.commit(outside, 0..MANY).await;
    owner.log.deliver().await.expect("a delivery");
    check(outside, 0..MANY, "after a large commit").await;
}

async fn a_stopped_process_does_no_harm(outside: &dyn Outside) {
    let state = State::new("main");
    let mut stopped = state.start(outside.connect(Shape::First, false)).await;
    stopped.commit(outside, 0..ROWS).await;
    let mut heir = state.start(outside.connect(Shape::First, false)).await;
    heir.commit(outside, ROWS..2 * ROWS).await;
    heir.log.deliver().await.expect("a delivery");
    // It delivers the bytes that the record fixes, or learns that another process has the log.
    let _ = stopped.log.deliver().await;
    check(outside, 0..2 * ROWS, "after a stopped process woke up").await;
}

async fn two_tasks_write_side_by_side(outside: &dyn Outside) {
    let states = [State::new("first"), State::new("second")];
    let mut rows = 0;
    for _ in 0..2 {
        for state in &states {
            let mut owner = state.start(outside.connect(Shape::First, true)).await;
            owner.commit(outside, rows..rows + ROWS).await;
            owner.log.deliver().await.expect("a delivery");
            rows += ROWS;
        }
    }
    check(outside, 0..rows, "after two tasks wrote").await;
}

async fn check(outside: &dyn Outside, expected: Range<u64>, case: &str) {
    let mut visible = outside.visible().await;
    visible.sort_unstable();
    assert!(
        visible.iter().copied().eq(expected.clone()),
        "{} rows, and not {expected:?}, {case}",
        visible.len()
    );
}

/// The state of a task.
struct State {
    store: Arc<dyn ObjectStore>,
    task: &'static str,
    clock: Arc<dyn Clock>,
}

/// A process that owns the task.
struct Process {
    log: CommitLog,
    connection: Box<dyn Connection>,
    factory: Arc<dyn SinkFactory>,
    sink: Box<dyn Sink>,
    shape: Shape,
    epoch: u64,
}

impl State {
    fn new(task: &'static str) -> Self {
        Self {
            store: Arc::new(InMemory::new()),
            task,
            clock: Arc::new(InstantClock::default()),
        }
    }

    /// A new process, which delivers the commits of earlier ones.
    async fn start(&self, connection: Box<dyn Connection>) -> Process {
        let factory = connection.sink();
        let config = LogConfig {
            store: Arc::clone(&self.store),
            root: Path::from("state/conformance"),
            task: self.task.to_owned(),
            owner: Owner {
                host: "test".to_owned(),
                pid: 1,
                admin: None,
                started_at: EventTime::from_micros(0),
            },
            plan: Plan {
                hash: "plan".to_owned(),
                json: "{}".into(),
            },
            keep_commits: 3,
            ids: Arc::new(RandomIds),
        };
        let context = CommitterContext {
            task: self.task.into(),
            clock: Arc::clone(&self.clock),
            folders: factory
                .table()
                .map(|table| table.root)
                .into_iter()
                .collect(),
        };
        let target = factory.target().expect("a sink with a target");
        let committer = factory.committer(context).expect("a sink with a committer");
        let committers = Committers::from([(target, committer)]);
        let opened = CommitLog::open(config, committers, Arc::clone(&self.clock)).await;
        let (log, recovered) = opened.expect("an open log");
        let sink = factory.open(SinkContext {
            node: NODE.into(),
            lane: 0,
            lanes: 1,
            staging: log.staging(),
            log: log.short_id(),
            clock: Arc::clone(&self.clock),
            ids: log.ids(),
        });
        Process {
            log,
            connection,
            sink: sink.expect("an open sink"),
            factory,
            shape: Shape::First,
            epoch: recovered.last.map_or(0, |last| last.epoch.0),
        }
    }
}

impl Process {
    /// Commits these rows, without a delivery.
    async fn commit(&mut self, outside: &dyn Outside, rows: Range<u64>) {
        self.try_commit(outside, rows).await.expect("a commit");
    }

    async fn try_commit(&mut self, outside: &dyn Outside, rows: Range<u64>) -> Result<()> {
        if !rows.is_empty() {
            let rows = outside.rows(self.shape, rows);
            self.sink.write(Batch::derived(rows)).await?;
        }
        // A stop leaves no rows in the sink, so that its state stays empty.
        let prepared = self.sink.prepare_commit(BarrierKind::Stop).await?;
        let target = self.factory.target().expect("a sink with a target");
        self.epoch += 1;
        let request = CommitRequest {
            epoch: Epoch(self.epoch),
            reason: Reason::Checkpoint,
            lanes: 1,
            positions: BTreeMap::new(),
            systems: BTreeMap::new(),
            watermarks: BTreeMap::new(),
            finished: BTreeMap::new(),
            state: Vec::new(),
            fingerprints: BTreeMap::new(),
            outbox: BTreeMap::from([(target, prepared.committables)]),
            reset: BTreeSet::new(),
            counters: BTreeMap::new(),
            totals: Counts::default(),
        };
        self.log.commit(request).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, StringArray};

    use super::*;
    use crate::testing::{
        LinesSink,
        store::{Fault, FaultyStore},
    };

    /// A folder of lines.
    struct Folder(LinesSink);

    struct ToFolder {
        sink: LinesSink,
        store: FaultyStore,
    }

    #[async_trait]
    impl Outside for Folder {
        fn connect(&self, _shape: Shape, shared: bool) -> Box<dyn Connection> {
            let store = FaultyStore::new(Arc::clone(&self.0.table.store));
            let mut sink = self.0.clone();
            sink.table.store = Arc::new(store.clone());
            sink.table.shared = shared;
            Box::new(ToFolder { sink, store })
        }

        fn rows(&self, shape: Shape, numbers: Range<u64>) -> RecordBatch {
            let texts = numbers.clone().map(|number| number.to_string());
            let texts = StringArray::from_iter_values(texts);
            let mut columns = vec![("text", Arc::new(texts) as arrow::array::ArrayRef)];
            if shape == Shape::Wider {
                let more = numbers.map(|number| number as i64);
                columns.push(("more", Arc::new(Int64Array::from_iter_values(more))));
            }
            RecordBatch::try_from_iter(columns).unwrap()
        }

        async fn visible(&self) -> Vec<u64> {
            let lines = self.0.published().await.unwrap();
            let number = |line: &String| line.split(',').next().unwrap().parse().unwrap();
            lines.iter().map(number).collect()
        }
    }

    impl Connection for ToFolder {
        fn sink(&self) -> Arc<dyn SinkFactory> {
            Arc::new(self.sink.clone())
        }

        fn fail_after(&self, writes: u64) {
            let mut left = writes;
            self.store.direct(move |operation, _| {
                if left == 0 {
                    return Some(Fault::ErrorBefore);
                }
                left -= u64::from(operation.writes());
                None
            });
        }

        fn repair(&self) {
            self.store.direct(|_, _| None);
        }
    }

    #[tokio::test]
    async fn a_folder_of_lines_conforms() {
        conformance(|| Folder(LinesSink::new("lake", Arc::new(InMemory::new())))).await;
    }
}
