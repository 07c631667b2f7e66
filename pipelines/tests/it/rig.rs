//! Runs a pipeline file on rows and a store in memory.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use crate::files::Slow;
use async_trait::async_trait;
use object_store::{ObjectStore, memory::InMemory, path::Path};
use tagflow_engine::{
    Clock, EventTime, RandomIds, SystemClock,
    commit::{LogConfig, Owner, Plan},
    graph::{Graph, NodeKind},
    runtime::{End, JobConfig, OldFiles, Supervised, Until, supervise},
    source::{Positions, Reference, Source, SourceEvent, SourceReader},
    status::JobStatus,
    testing::{Bounded, LinesSink, Script, ScriptedSource},
};
use tagflow_pipelines::{LoadOptions, load_str, lower};

/// A pipeline whose source is a script and whose sinks write lines to a store in memory.
/// Everything between is production code.
pub(crate) struct Rig {
    pub(crate) file: String,
    pub(crate) script: Arc<Script>,
    /// The scripts of sources that do not read `script`.
    pub(crate) scripts: BTreeMap<&'static str, Arc<Script>>,
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) chunk: usize,
    pub(crate) lanes: usize,
    /// Whether sources without their own script read their files, with pauses seeded by
    /// this.
    pub(crate) slow_files: Option<Arc<AtomicU64>>,
    /// The time that the source takes per chunk.
    pub(crate) pace: Duration,
    pub(crate) checkpoint_every: Duration,
    pub(crate) clock: Arc<dyn Clock>,
    /// When the run ends: at the end of its rows, with their windows, or when all rows
    /// are read and more may follow.
    pub(crate) until: Until,
    /// How often a job is restarted after a transient failure.
    pub(crate) restarts: u32,
}

impl Rig {
    pub(crate) fn new(file: String) -> Self {
        Self {
            file,
            script: Arc::default(),
            scripts: BTreeMap::new(),
            store: Arc::new(InMemory::new()),
            chunk: 100,
            lanes: 1,
            slow_files: None,
            pace: Duration::ZERO,
            checkpoint_every: Duration::from_millis(2),
            clock: Arc::new(SystemClock),
            until: Until::Stopped,
            restarts: 0,
        }
    }

    fn graph(&self) -> Graph {
        let spec = load_str("random.yaml", &self.file, &LoadOptions::default())
            .unwrap_or_else(|problems| panic!("{problems:?}\n{}", self.file));
        let lowered = lower::lower(&spec, &lower::LowerOptions::default())
            .unwrap_or_else(|problems| panic!("{problems:?}\n{}", self.file));
        let mut graph = lowered.graph;
        for node in &mut graph.nodes {
            match &mut node.kind {
                NodeKind::Source(source)
                    if let Some(random) = self
                        .slow_files
                        .as_ref()
                        .filter(|_| !self.scripts.contains_key(&*node.name)) =>
                {
                    source.source = Arc::new(Slow {
                        source: Arc::clone(&source.source),
                        random: Arc::clone(random),
                    });
                }
                NodeKind::Source(source) => {
                    source.source = Arc::new(Paced {
                        script: ScriptedSource {
                            script: Arc::clone(
                                self.scripts.get(&*node.name).unwrap_or(&self.script),
                            ),
                            chunk: self.chunk,
                            bounded: match self.until {
                                Until::Stopped => Bounded::Yes,
                                Until::CaughtUp => Bounded::No,
                            },
                            reference: Reference::None,
                        },
                        pace: self.pace,
                    });
                }
                NodeKind::Sink(sink) => {
                    *sink = Arc::new(LinesSink::new(&node.name, Arc::clone(&self.store)));
                }
                NodeKind::Operator(_) => {}
            }
        }
        graph
    }

    /// Starts it; dropping the future is a crash.
    pub(crate) fn start(
        &self,
    ) -> impl Future<Output = tagflow_engine::Result<JobStatus>> + Send + use<> {
        let (_, job) = supervise(Supervised {
            graph: self.graph(),
            config: JobConfig {
                pipeline: "random".to_owned(),
                lanes: self.lanes,
                checkpoint_every: self.checkpoint_every,
                queue_bytes: 64 * 1024,
                until: self.until,
                end: End::Keep,
                reset: BTreeSet::new(),
                old_files: OldFiles::Keep,
                deliver: BTreeMap::new(),
                stop_when: None,
                memory: None,
            },
            log: LogConfig {
                store: Arc::clone(&self.store),
                root: Path::from("state/random"),
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
            restarts: self.restarts,
            presence: None,
        });
        let job = Box::pin(job);
        async { Ok(job.await?.status) }
    }

    /// The published lines of a sink, sorted.
    pub(crate) async fn lines(&self, sink: &str) -> Vec<String> {
        LinesSink::new(sink, Arc::clone(&self.store))
            .published()
            .await
            .unwrap()
    }
}

/// A script with a limited rate of reading.
struct Paced {
    script: ScriptedSource,
    pace: Duration,
}

#[async_trait]
impl Source for Paced {
    async fn open(&self, positions: &Positions) -> tagflow_engine::Result<Box<dyn SourceReader>> {
        Ok(Box::new(PacedReader {
            script: self.script.open(positions).await?,
            pace: self.pace,
        }))
    }
}

struct PacedReader {
    script: Box<dyn SourceReader>,
    pace: Duration,
}

#[async_trait]
impl SourceReader for PacedReader {
    async fn next(&mut self) -> tagflow_engine::Result<SourceEvent> {
        if !self.pace.is_zero() {
            tokio::time::sleep(self.pace).await;
        }
        self.script.next().await
    }

    fn pause(&mut self, partition: &str) {
        self.script.pause(partition);
    }

    fn resume(&mut self, partition: &str) {
        self.script.resume(partition);
    }

    fn committed(&mut self, positions: &Positions) {
        self.script.committed(positions);
    }
}
