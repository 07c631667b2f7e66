//! Conformance tests that every sink must pass.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use arrow::{datatypes::DataType, record_batch::RecordBatch};
use async_trait::async_trait;
use bytes::Bytes;
use object_store::{ObjectStoreExt, path::Path};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use sha2::{Digest, Sha256};
use tagflow_engine::{
    Batch, Clock, EventTime, RandomIds, Uptime,
    committer::Committable,
    element::BarrierKind,
    files::{RemovedFile, StagedFile, Table, prepared},
    sink::{PreparedCommit, Sink, SinkContext, SinkFactory},
    state::{KEY_GROUP_COLUMN, StatePart},
    time,
};

/// The staging folder of the sinks under test, from the table's root.
const STAGING: &str = "_staging/main/7";

/// A clock that advances only on command.
#[derive(Debug, Default)]
pub(crate) struct ManualClock {
    now_us: AtomicI64,
    uptime_us: AtomicI64,
}

impl ManualClock {
    /// A clock at `micros` since the Unix epoch.
    pub(crate) fn at_micros(micros: i64) -> Self {
        Self {
            now_us: AtomicI64::new(micros),
            ..Self::default()
        }
    }

    /// Advances the clock.
    pub(crate) fn advance(&self, duration: Duration) {
        let micros = time::micros(duration);
        self.now_us.fetch_add(micros, Ordering::Relaxed);
        self.uptime_us.fetch_add(micros, Ordering::Relaxed);
    }

    /// Sets the time of day back.
    pub(crate) fn set_back(&self, duration: Duration) {
        self.now_us
            .fetch_sub(time::micros(duration), Ordering::Relaxed);
    }
}

#[async_trait]
impl Clock for ManualClock {
    fn now(&self) -> EventTime {
        EventTime::from_micros(self.now_us.load(Ordering::Relaxed))
    }

    fn uptime(&self) -> Uptime {
        let micros = self.uptime_us.load(Ordering::Relaxed);
        Uptime::after(Duration::from_micros(micros.unsigned_abs()))
    }

    async fn sleep(&self, _duration: Duration) {
        std::future::pending::<()>().await;
    }
}

/// The context of a sink, with a stopped clock.
pub(crate) fn context() -> SinkContext {
    context_with(Arc::new(ManualClock::default()))
}

/// The context of a sink, with this clock.
pub(crate) fn context_with(clock: Arc<dyn Clock>) -> SinkContext {
    SinkContext {
        node: Arc::from("sink"),
        lane: 0,
        lanes: 1,
        staging: Path::from(STAGING),
        log: Arc::from("106106ab"),
        clock,
        ids: Arc::new(RandomIds),
    }
}

/// A commit log of a single lane, which checks the contract of sinks.
pub(crate) struct Log {
    table: Option<Table>,
    /// The committed files that are not removed.
    pub(crate) files: Vec<StagedFile>,
    /// The live state.
    pub(crate) parts: BTreeMap<String, RecordBatch>,
}

impl Log {
    /// An empty log.
    pub(crate) fn new(factory: &dyn SinkFactory) -> Self {
        Self {
            table: factory.table(),
            files: Vec::new(),
            parts: BTreeMap::new(),
        }
    }

    /// Commits a cut.
    pub(crate) async fn commit(&mut self, cut: PreparedCommit) {
        for key in cut.snapshot.removed {
            assert!(self.parts.remove(&key).is_some(), "`{key}` was not there");
        }
        for part in cut.snapshot.put {
            let StatePart { key, rows } = part.load().unwrap();
            let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_.-".contains(c);
            assert!(!key.is_empty() && key.chars().all(legal), "bad key `{key}`");
            let groups = rows.column_by_name(KEY_GROUP_COLUMN).expect("key groups");
            assert_eq!(groups.data_type(), &DataType::UInt8);
            assert_eq!(groups.null_count(), 0, "a null goes to every lane");
            assert!(rows.num_rows() > 0, "an empty part");
            let old = self.parts.insert(key, rows);
            assert!(old.is_none(), "a part was put twice");
        }
        if self.table.is_none() {
            assert_eq!(cut.committables, [], "output without a target");
            return;
        }
        let (files, removed) = self.changes(&cut.committables);
        for file in files {
            self.check_file(&file).await;
            self.files.push(file);
        }
        for removed in removed {
            let is_it =
                |file: &StagedFile| path(file).is_some_and(|path| path == removed.published);
            let found = self.files.iter().position(is_it);
            self.files
                .remove(found.expect("it was committed and not removed"));
        }
    }

    /// The files that committables add and remove.
    pub(crate) fn changes(
        &self,
        committables: &[Committable],
    ) -> (Vec<StagedFile>, Vec<RemovedFile>) {
        let table = self.table.as_ref().expect("files belong to a table");
        prepared(committables, &table.root).unwrap()
    }

    /// Moves the committed files to where readers look, as the commit log does.
    pub(crate) async fn publish(&self) {
        let Table { store, root, .. } = self.table.as_ref().expect("files belong to a table");
        for file in &self.files {
            let path = path(file).expect("the sink names its files");
            let path = Path::parse(path).unwrap();
            let path: Path = root.parts().chain(path.parts()).collect();
            if store.head(&file.staged).await.is_ok() {
                store.rename(&file.staged, &path).await.unwrap();
            }
        }
    }

    async fn check_file(&self, file: &StagedFile) {
        let table = self.table.as_ref().expect("files belong to a table");
        let root = table.root.as_ref();
        let folder = file.staged.as_ref().strip_prefix(root).unwrap();
        assert!(
            folder.trim_start_matches('/').starts_with(STAGING),
            "{folder}"
        );
        assert_eq!(file.staged.extension(), None);
        assert!(self.files.iter().all(|other| other.staged != file.staged));
        let bytes = self.read(file).await;
        assert_eq!(file.bytes, bytes.len() as u64);
        assert_eq!(file.sha256, format!("{:x}", Sha256::digest(&bytes)));
        let rows: usize = decode(bytes).iter().map(RecordBatch::num_rows).sum();
        assert_eq!(file.rows, rows as u64);
        assert!(rows > 0, "an empty file");
    }

    /// The file is published, or still staged.
    async fn read(&self, file: &StagedFile) -> Bytes {
        let Table { store, root, .. } = self.table.as_ref().unwrap();
        let path = path(file).map(|path| Path::parse(path).unwrap());
        let path = path.map(|path| root.parts().chain(path.parts()).collect::<Path>());
        let object = match path {
            Some(path) if store.head(&path).await.is_ok() => store.get(&path).await,
            _ => store.get(&file.staged).await,
        };
        object.unwrap().bytes().await.unwrap()
    }

    /// The committed rows of each file.
    pub(crate) async fn file_rows(&self) -> Vec<(Path, Vec<RecordBatch>)> {
        let mut rows = Vec::new();
        for file in &self.files {
            rows.push((file.folder.clone(), decode(self.read(file).await)));
        }
        rows
    }

    /// The number of committed rows: in files, and in state.
    pub(crate) fn row_counts(&self) -> (u64, u64) {
        let in_files = self.files.iter().map(|file| file.rows).sum();
        // The names of files are no rows of the table.
        let parts = self.parts.iter().filter(|(key, _)| *key != "published");
        let in_state = parts.map(|(_, rows)| rows.num_rows()).sum::<usize>();
        (in_files, in_state as u64)
    }

    /// A new sink, as after a crash.
    pub(crate) async fn recover(
        &self,
        factory: &dyn SinkFactory,
        context: SinkContext,
    ) -> Box<dyn Sink> {
        let mut sink = factory.open(context).unwrap();
        let parts = self.parts.iter().map(|(key, rows)| StatePart {
            key: key.clone(),
            rows: rows.clone(),
        });
        sink.restore(parts.collect()).await.unwrap();
        sink
    }
}

/// The published path of a file, from the table's root, if its sink sets it.
fn path(file: &StagedFile) -> Option<String> {
    let name = file.name.as_ref()?;
    Some(
        file.folder
            .clone()
            .join(format!("{name}.parquet"))
            .to_string(),
    )
}

/// The rows of a Parquet file.
pub(crate) fn decode(bytes: Bytes) -> Vec<RecordBatch> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap();
    reader.build().unwrap().map(Result::unwrap).collect()
}

/// Checks a sink's contract: every row written before a cut is in that cut's files or state exactly
/// once, through crashes and a stop. `rows` are sample rows for the sink.
pub(crate) async fn conformance(factory: &dyn SinkFactory, rows: &RecordBatch) {
    let all = |epochs| epochs * rows.num_rows() as u64;
    conformance_of_epochs(factory, |_| rows.clone(), all).await;
}

/// The same for a sink that does not keep every row. `rows` returns the rows of each epoch from the
/// first on, and `kept` the number of rows that remain after some epochs.
pub(crate) async fn conformance_of_epochs(
    factory: &dyn SinkFactory,
    rows: impl Fn(u64) -> RecordBatch,
    kept: impl Fn(u64) -> u64,
) {
    let mut log = Log::new(factory);
    let mut sink = factory.open(context()).unwrap();
    let has_table = factory.table().is_some();
    let expected = |epochs: u64| if has_table { kept(epochs) } else { 0 };

    // An epoch without rows commits nothing.
    let cut = sink.prepare_commit(BarrierKind::Checkpoint).await.unwrap();
    assert!(cut.committables.is_empty() && cut.snapshot.is_empty());

    // An empty batch has no rows.
    sink.write(Batch::derived(rows(1).slice(0, 0)))
        .await
        .unwrap();
    for written in 1..=3 {
        sink.write(Batch::derived(rows(written))).await.unwrap();
        log.commit(sink.prepare_commit(BarrierKind::Checkpoint).await.unwrap())
            .await;
        let (in_files, in_state) = log.row_counts();
        assert_eq!(in_files + in_state, expected(written));
    }

    // A crash loses exactly the rows that no cut returned.
    sink.write(Batch::derived(rows(4))).await.unwrap();
    drop(sink);
    let mut sink = log.recover(factory, context()).await;
    log.commit(sink.prepare_commit(BarrierKind::Checkpoint).await.unwrap())
        .await;
    let (in_files, in_state) = log.row_counts();
    assert_eq!(in_files + in_state, expected(3));

    // A stop leaves nothing open.
    sink.write(Batch::derived(rows(4))).await.unwrap();
    log.commit(sink.prepare_commit(BarrierKind::Stop).await.unwrap())
        .await;
    assert_eq!(log.row_counts(), (expected(4), 0));

    // A second stop commits nothing.
    let cut = sink.prepare_commit(BarrierKind::Stop).await.unwrap();
    assert!(cut.committables.is_empty() && cut.snapshot.is_empty());
}
