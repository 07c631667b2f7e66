//! A store, processes on it, and a job that counts to a number.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use arrow::{
    array::{AsArray, Int64Array, RecordBatch, StringArray},
    datatypes::{DataType, Field, Int64Type, Schema},
};
use futures::TryStreamExt;
use object_store::{ObjectStore, ObjectStoreExt, memory::InMemory, path::Path};

use crate::{
    Clock, Epoch, EventTime, Ids, Priority, RandomIds, Result,
    commit::{
        Checkpoint, CommitLog, CommitRequest, Committers, Kind, LogConfig, Owner, Plan, Reason,
        Record, Recovered, StateRef, Unclaimed, record::sha256_hex,
    },
    committer::{Committable, CommitterContext},
    files::{CommittedFile, FileCommitter, PreparedFiles, RemovedFile, StagedFile, Table, changes},
    ledger::Counts,
    state::NewPart,
    testing::{InstantClock, store::FaultyStore},
};

/// The objects that survive every process.
pub(super) struct World {
    pub(super) store: Arc<dyn ObjectStore>,
}

impl World {
    pub(super) fn new() -> Self {
        Self::on(Arc::new(InMemory::new()))
    }

    pub(super) fn on(store: Arc<dyn ObjectStore>) -> Self {
        Self { store }
    }

    pub(super) fn process(&self, pid: u32) -> Process {
        Process {
            faults: FaultyStore::new(Arc::clone(&self.store)),
            pid,
            keep_commits: 1,
            root: "state/p",
            table: "memory:///lake/t",
            shared: false,
            replaces: false,
        }
    }

    pub(super) async fn objects(&self, folder: &str) -> BTreeSet<String> {
        let folder = Path::from(folder);
        let listed: Vec<_> = self.store.list(Some(&folder)).try_collect().await.unwrap();
        listed
            .into_iter()
            .map(|object| object.location.to_string())
            .collect()
    }

    pub(super) async fn text(&self, path: &str) -> String {
        let bytes = self.store.get(&Path::from(path)).await.unwrap();
        String::from_utf8(bytes.bytes().await.unwrap().to_vec()).unwrap()
    }

    pub(super) async fn slots(&self) -> Vec<u64> {
        let records = self.objects("state/p/log/main").await;
        records
            .iter()
            .map(|path| {
                let name = path.rsplit('/').next().unwrap();
                name.trim_end_matches(".json").parse().unwrap()
            })
            .collect()
    }

    pub(super) async fn record(&self, seq: u64) -> Record {
        let path = record_path(seq);
        let bytes = self.store.get(&Path::from(path.as_str())).await.unwrap();
        Record::decode(&bytes.bytes().await.unwrap(), &path, seq).unwrap()
    }

    /// The visible rows of the table, sorted.
    pub(super) async fn rows(&self) -> Vec<i64> {
        let mut rows = Vec::new();
        for path in self.objects("lake/t").await {
            if Path::from(path.as_str()).extension() == Some("lines") {
                rows.push(self.text(&path).await.parse().unwrap());
            }
        }
        rows.sort_unstable();
        rows
    }

    pub(super) async fn staged(&self) -> BTreeSet<String> {
        self.objects("lake/t/_staging").await
    }

    /// Checks that every row from 0 to `rows` exists once, and that nothing else does.
    pub(super) async fn check(&self, rows: i64, case: &str) {
        self.check_rows((0..rows).collect(), case).await;
    }

    /// Checks that these rows exist, and that nothing else does.
    pub(super) async fn check_rows(&self, rows: Vec<i64>, case: &str) {
        assert_eq!(self.rows().await, rows, "rows, {case}");
        assert!(self.staged().await.is_empty(), "staged files, {case}");
        let slots = self.slots().await;
        let last = self.record(*slots.last().unwrap()).await;
        let mut named = BTreeSet::new();
        for &seq in slots.iter().filter(|&&seq| seq > last.collected_upto) {
            let record = self.record(seq).await;
            let commit = record.checkpoint.filter(|_| record.kind == Kind::Commit);
            named.extend(commit.into_iter().flat_map(|checkpoint| {
                checkpoint
                    .state
                    .into_iter()
                    .map(|part| format!("state/p/{}", part.path))
            }));
        }
        let found = self.objects("state/p/state").await;
        assert_eq!(found, named, "state parts, {case}");
    }
}

/// The files that a commit adds to the table and removes.
pub(super) fn files_of(record: &Record) -> (Vec<CommittedFile>, Vec<RemovedFile>) {
    changes(record.output("memory:///lake/t")).unwrap()
}

pub(super) fn record_path(seq: u64) -> String {
    format!("state/p/log/main/{seq:020}.json")
}

/// A process, with its view of the store.
pub(super) struct Process {
    pub(super) faults: FaultyStore,
    pub(super) pid: u32,
    pub(super) keep_commits: usize,
    /// The pipeline's folder.
    pub(super) root: &'static str,
    pub(super) table: &'static str,
    pub(super) shared: bool,
    /// Whether each file replaces the one before.
    pub(super) replaces: bool,
}

impl Process {
    pub(super) async fn open(&self) -> Result<(CommitLog, Recovered)> {
        self.look().await?.claim().await
    }

    pub(super) async fn look(&self) -> Result<Unclaimed> {
        let config = LogConfig {
            store: Arc::new(self.faults.clone()),
            root: Path::from(self.root),
            task: "main".to_owned(),
            owner: Owner {
                host: "h".to_owned(),
                pid: self.pid,
                admin: None,
                started_at: EventTime::from_micros(0),
            },
            plan: Plan {
                hash: "abc".to_owned(),
                json: "{}".into(),
            },
            keep_commits: self.keep_commits,
            ids: Arc::new(RandomIds),
        };
        let table = Table {
            name: "t".into(),
            url: self.table.into(),
            store: Arc::new(self.faults.clone()),
            root: Path::from("lake/t"),
            schema: Arc::new(Schema::empty()),
            shared: self.shared,
            suffix: "lines",
        };
        let clock: Arc<dyn Clock> = Arc::new(InstantClock::default());
        let context = CommitterContext {
            task: "main".into(),
            clock: Arc::clone(&clock),
            folders: vec![table.root.clone()],
        };
        let mut committers = Committers::new();
        let target = Arc::clone(&table.url);
        committers.insert(target, Box::new(FileCommitter::new(table, context)));
        CommitLog::look(config, committers, clock).await
    }

    /// Stages a file with one number. A sink has retries of its own.
    pub(super) async fn stage(&self, log: &CommitLog, row: i64) -> Result<StagedFile> {
        let inside = log.staging();
        let staged: Path = Path::from("lake/t")
            .parts()
            .chain(inside.parts())
            .collect::<Path>()
            .join(RandomIds.unique().to_string());
        let text = row.to_string();
        for _ in 0..3 {
            if self.faults.put(&staged, text.clone().into()).await.is_ok() {
                break;
            }
        }
        Ok(StagedFile {
            name: self.replaces.then(|| RandomIds.unique().to_string()),
            staged,
            folder: Path::from(format!("dt={}", row % 2)),
            rows: 1,
            bytes: text.len() as u64,
            sha256: sha256_hex(text.as_bytes()),
        })
    }

    /// One epoch of the job: row `row` is written to a file and to the state.
    pub(super) async fn epoch(
        &self,
        log: &mut CommitLog,
        state: &mut Vec<StateRef>,
        row: i64,
        reason: Reason,
    ) -> Result<u64> {
        let file = self.stage(log, row).await?;
        let mut removed = Vec::new();
        if self.replaces
            && let Some(last) = state.last()
        {
            removed.push(RemovedFile {
                published: file_in(&log.load(last).await?),
            });
        }
        let name = file.name.as_deref().unwrap_or_default();
        let part = part_with_file(row, &format!("{}/{name}.lines", file.folder));
        let part = log.put_state("count", 0, part, || Priority::Normal).await?;
        if state.len() == 2 {
            state.remove(0);
        }
        state.push(part);
        let prepared = PreparedFiles {
            files: vec![file],
            removed,
            ..PreparedFiles::default()
        };
        let prepared = prepared.into_commit(&Path::from("lake/t"))?;
        let outbox = BTreeMap::from([(self.table.into(), prepared.committables)]);
        let cut = cut(row + 1, reason, outbox, state.clone());
        Ok(log.commit(cut).await?.seq)
    }

    /// Runs the job from its position to row `upto`, and stops.
    pub(super) async fn run(&self, upto: i64) -> Result<()> {
        let (mut log, recovered) = self.open().await?;
        let mut state = check_state(&log, recovered.last.as_ref()).await?;
        for row in position(recovered.last.as_ref())..upto {
            let reason = if row + 1 == upto {
                Reason::Stop
            } else {
                Reason::Checkpoint
            };
            self.epoch(&mut log, &mut state, row, reason).await?;
            log.deliver().await?;
            log.collect().await?;
        }
        Ok(())
    }
}

/// The state matches the position, and can be read.
async fn check_state(log: &CommitLog, last: Option<&Checkpoint>) -> Result<Vec<StateRef>> {
    let state = last.map_or_else(Vec::new, |last| last.state.clone());
    let mut newest = None;
    for part in &state {
        let rows = log.load(part).await?;
        newest = newest.max(Some(rows.column(0).as_primitive::<Int64Type>().value(0)));
    }
    assert_eq!(newest, last.map(|_| position(last) - 1));
    Ok(state)
}

pub(super) fn position(last: Option<&Checkpoint>) -> i64 {
    last.and_then(|last| last.position("s", "0")).unwrap_or(0)
}

pub(super) fn part(row: i64) -> NewPart {
    part_with_file(row, "")
}

/// A part that stores the path of a file.
fn part_with_file(row: i64, file: &str) -> NewPart {
    let schema = Schema::new(vec![
        Field::new("row", DataType::Int64, false),
        Field::new("file", DataType::Utf8, false),
    ]);
    let rows = RecordBatch::try_new(
        Arc::new(schema),
        vec![
            Arc::new(Int64Array::from(vec![row])),
            Arc::new(StringArray::from(vec![file])),
        ],
    );
    NewPart::new(format!("row.{row}"), rows.unwrap())
}

fn file_in(part: &RecordBatch) -> String {
    part.column(1).as_string::<i32>().value(0).to_owned()
}

pub(super) fn cut(
    position: i64,
    reason: Reason,
    outbox: BTreeMap<Arc<str>, Vec<Committable>>,
    state: Vec<StateRef>,
) -> CommitRequest {
    CommitRequest {
        epoch: Epoch(position as u64),
        reason,
        lanes: 1,
        positions: BTreeMap::from([("s".into(), BTreeMap::from([("0".into(), position)]))]),
        systems: BTreeMap::new(),
        watermarks: BTreeMap::new(),
        finished: BTreeMap::new(),
        state,
        fingerprints: BTreeMap::new(),
        outbox,
        reset: BTreeSet::new(),
        counters: BTreeMap::new(),
        totals: Counts::default(),
    }
}
