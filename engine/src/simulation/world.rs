//! Processes, and the objects that survive them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use futures::TryStreamExt;
use object_store::{ObjectStore, ObjectStoreExt, memory::InMemory, path::Path};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{
    broker::{Broker, OnDataLoss, SimSource},
    lie::{Liar, Lie},
    pipeline::{Pipeline, SOURCES},
    trace::Trace,
};
use crate::{
    EventTime, Result,
    commit::{LogConfig, Owner, Plan, Record, read_last},
    runtime::{End, JobConfig, OldFiles, Outcome, Supervised, Until, supervise},
    testing::{
        SeededIds, VirtualClock,
        store::{Copies, FaultyStore},
    },
};

/// The pipeline's folder in the store.
pub(super) const STATE: &str = "state/sim";

/// A store, logs of rows, and a pipeline that processes run.
pub(super) struct World {
    seed: u64,
    pub(super) pipeline: Pipeline,
    pub(super) on_data_loss: OnDataLoss,
    pub(super) brokers: Vec<Arc<Broker>>,
    pub(super) trace: Trace,
    /// The store without faults.
    pub(super) store: Arc<dyn ObjectStore>,
    first: FaultyStore,
    clock: VirtualClock,
    /// The number of processes that have been started.
    pub(super) started: u32,
}

/// The parameters of a process.
#[derive(Debug, Clone)]
pub(super) struct Run {
    pub(super) lanes: usize,
    pub(super) chunk: usize,
    pub(super) checkpoint_every: Duration,
    pub(super) queue_bytes: usize,
    pub(super) until: Until,
    pub(super) end: End,
    pub(super) restarts: u32,
    /// The probability of a fault of the source.
    pub(super) trouble: f64,
    pub(super) keep_commits: usize,
    pub(super) lie: Option<Lie>,
}

/// A process that has been started.
pub(super) struct Process {
    pub(super) pid: u32,
    pub(super) store: FaultyStore,
    pub(super) stop: CancellationToken,
    pub(super) job: JoinHandle<Result<Outcome>>,
}

impl Process {
    /// `kill -9`.
    pub(super) fn kill(&self) {
        self.store.kill();
        self.job.abort();
    }
}

impl World {
    pub(super) fn new(
        seed: u64,
        pipeline: Pipeline,
        on_data_loss: OnDataLoss,
        copies: Copies,
    ) -> Self {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        Self {
            seed,
            brokers: (0..pipeline.sources).map(|_| Arc::default()).collect(),
            pipeline,
            on_data_loss,
            trace: Trace::new(),
            first: FaultyStore::new(Arc::clone(&store)).with_copies(copies),
            store,
            clock: VirtualClock::starting_at(EventTime::from_micros(0)),
            started: 0,
        }
    }

    /// Starts a process; `direct` sets the faults of its store.
    pub(super) fn start(&mut self, run: &Run, direct: impl FnOnce(u32, &FaultyStore)) -> Process {
        self.started += 1;
        let pid = self.started;
        self.trace.note(format_args!("{pid} starts: {run:?}"));
        let seed = self.seed ^ (u64::from(pid) << 40);
        let store = self.first.of_another_process();
        direct(pid, &store);
        let seen: Arc<dyn ObjectStore> = match run.lie {
            Some(lie) => Arc::new(Liar {
                store: Arc::new(store.clone()),
                lie,
            }),
            None => Arc::new(store.clone()),
        };
        let source = |(broker, name): (&Arc<Broker>, &'static str)| SimSource {
            name,
            broker: Arc::clone(broker),
            process: store.clone(),
            chunk: run.chunk,
            on_data_loss: self.on_data_loss,
            trouble: run.trouble,
            seed: AtomicU64::new(seed),
            trace: self.trace.clone(),
        };
        let sources = self.brokers.iter().zip(SOURCES).map(source);
        let (control, job) = supervise(Supervised {
            graph: self.pipeline.graph(sources.collect(), &seen, run.lie),
            config: JobConfig {
                pipeline: "sim".to_owned(),
                lanes: run.lanes,
                checkpoint_every: run.checkpoint_every,
                queue_bytes: run.queue_bytes,
                until: run.until,
                end: run.end,
                reset: BTreeSet::new(),
                old_files: OldFiles::Keep,
                deliver: BTreeMap::new(),
                stop_when: None,
                memory: None,
            },
            log: LogConfig {
                store: seen,
                root: Path::from(STATE),
                task: "main".to_owned(),
                owner: Owner {
                    host: "sim".to_owned(),
                    pid,
                    admin: None,
                    started_at: EventTime::from_micros(0),
                },
                plan: Plan {
                    hash: "plan".to_owned(),
                    json: "{}".into(),
                },
                keep_commits: run.keep_commits,
                ids: Arc::new(SeededIds::new(seed)),
            },
            clock: Arc::new(self.clock),
            restarts: run.restarts,
            presence: None,
        });
        Process {
            pid,
            store,
            stop: control.stop,
            job: tokio::spawn(job),
        }
    }

    /// The objects in a folder.
    pub(super) async fn objects(&self, folder: &str) -> Vec<Path> {
        let folder = Path::from(folder);
        let listed = self
            .store
            .list(Some(&folder))
            .map_ok(|object| object.location);
        listed.try_collect().await.expect("memory does not fail")
    }

    /// The visible lines of a table, by file.
    pub(super) async fn lines(&self, table: &str) -> BTreeMap<Path, Vec<String>> {
        let mut lines = BTreeMap::new();
        for path in self.objects(&format!("{table}/all")).await {
            // A file may be deleted between the list and the read.
            let Ok(found) = self.store.get(&path).await else {
                continue;
            };
            let bytes = found.bytes().await.expect("memory does not fail");
            let text = String::from_utf8_lossy(&bytes).into_owned();
            lines.insert(path, text.lines().map(ToOwned::to_owned).collect());
        }
        lines
    }

    /// The record in a slot.
    pub(super) async fn record(&self, path: &Path, seq: u64) -> Result<Record, String> {
        let found = self
            .store
            .get(path)
            .await
            .map_err(|error| error.to_string())?;
        let bytes = found.bytes().await.map_err(|error| error.to_string())?;
        Record::decode(&bytes, path.as_ref(), seq).map_err(|error| error.chain())
    }

    /// The last record of the log.
    pub(super) async fn last_record(&self) -> Result<Option<Record>> {
        read_last(&self.store, &Path::from(STATE), "main").await
    }
}
