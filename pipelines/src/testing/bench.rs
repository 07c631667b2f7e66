//! A pipeline that a test feeds and watches.

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use arrow::array::RecordBatch;
use object_store::{ObjectStore, memory::InMemory, path::Path};
use tagflow_engine::{
    Clock, Error, EventTime, RandomIds, Result,
    commit::{LogConfig, Owner, Plan},
    graph::{Graph, NodeKind},
    ledger::Counts,
    runtime::{Control, End, JobConfig, Outcome, Supervised, Until, supervise},
    testing::ManualClock,
};
use tagflow_operators::join::{CurrentDimension, Dimension};
use tokio::sync::Notify;

use super::{
    collector::Collector,
    inbox::{Inbox, InboxSource},
};
use crate::{LowerOptions, Spec, inspect::TASK, lower};

/// How many barriers behind the last row mean that the commit with its effects
/// is written: the first may have been sent before the row, the second takes it
/// along, and the third is sent when the commit of the second is done.
const BARRIERS: u64 = 3;

/// What each channel between two lanes may hold.
const QUEUE_BYTES: usize = 1 << 20;

/// Wakes the test when something may have come through.
#[derive(Clone, Default)]
pub(super) struct Pulse(Arc<Notify>);

impl Pulse {
    pub(super) fn beat(&self) {
        self.0.notify_one();
    }

    /// Waits until `condition` holds, looking at each beat.
    async fn until(&self, condition: impl Fn() -> bool) {
        while !condition() {
            self.0.notified().await;
        }
    }
}

/// A pipeline in the hands of a test.
pub(super) struct Bench<'a> {
    spec: &'a Spec,
    taps: &'a BTreeSet<String>,
    /// Those that the test fills.
    tables: BTreeMap<String, CurrentDimension>,
    lanes: usize,
    clock: Arc<ManualClock>,
    store: Arc<dyn ObjectStore>,
    pulse: Pulse,
    /// By source.
    inboxes: BTreeMap<String, Arc<Inbox>>,
    /// By sink in the graph.
    collectors: BTreeMap<Arc<str>, Collector>,
    running: Option<Running>,
}

/// One run of it.
struct Running {
    control: Control,
    job: Pin<Box<dyn Future<Output = Result<Outcome>> + Send>>,
}

impl<'a> Bench<'a> {
    /// Starts `spec` at the time `now`; beside its sinks, `taps` are watched, and
    /// `tables` are empty until they are filled.
    ///
    /// # Errors
    /// As [`lower`], in words.
    pub(super) fn start(
        spec: &'a Spec,
        taps: &'a BTreeSet<String>,
        tables: &BTreeSet<String>,
        lanes: usize,
        now: EventTime,
    ) -> Result<Self> {
        let mut bench = Self {
            spec,
            taps,
            tables: tables
                .iter()
                .map(|name| (name.clone(), CurrentDimension::default()))
                .collect(),
            lanes,
            clock: Arc::new(ManualClock::at(now)),
            store: Arc::new(InMemory::new()),
            pulse: Pulse::default(),
            inboxes: BTreeMap::new(),
            collectors: BTreeMap::new(),
            running: None,
        };
        bench.launch()?;
        Ok(bench)
    }

    /// What time it is.
    pub(super) fn clock(&self) -> &ManualClock {
        &self.clock
    }

    /// Where rows of `source` go; `None` if they lead nowhere.
    pub(super) fn inbox(&self, source: &str) -> Option<&Inbox> {
        self.inboxes.get(source).map(AsRef::as_ref)
    }

    /// All that rows can be sent to.
    pub(super) fn inboxes(&self) -> impl Iterator<Item = &Inbox> {
        self.inboxes.values().map(AsRef::as_ref)
    }

    /// Rows find `rows` in the table `name` from now on.
    pub(super) fn fill(&self, name: &str, rows: Dimension) {
        if let Some(table) = self.tables.get(name) {
            table.replace(rows);
        }
    }

    /// What the sink `node` of the graph has written since the last call.
    pub(super) fn take(&self, node: &str) -> Vec<RecordBatch> {
        self.collectors
            .get(node)
            .map(Collector::take)
            .unwrap_or_default()
    }

    /// Waits until all that was sent has had its effect and is committed.
    ///
    /// # Errors
    /// That with which the pipeline stopped.
    pub(super) async fn settle(&mut self) -> Result<()> {
        let running = self.running.as_mut().ok_or_else(stopped)?;
        let (inboxes, collectors) = (&self.inboxes, &self.collectors);
        let settled = async {
            let are_drained = || inboxes.values().all(|inbox| inbox.is_drained());
            self.pulse.until(are_drained).await;
            let before: Vec<u64> = collectors.values().map(Collector::barriers).collect();
            let have_passed = || {
                let now = collectors.values().map(Collector::barriers);
                now.zip(&before)
                    .all(|(now, before)| now >= before + BARRIERS)
            };
            self.pulse.until(have_passed).await;
        };
        tokio::select! {
            biased;
            ended = &mut running.job => {
                self.running = None;
                Err(ended.err().unwrap_or_else(stopped))
            }
            () = settled => Ok(()),
        }
    }

    /// What became of all rows, up to the last commit.
    pub(super) fn totals(&self) -> Counts {
        let running = self.running.as_ref();
        running.map_or_else(Counts::default, |running| {
            running.control.status.borrow().totals
        })
    }

    /// Commits, stops, drops everything and goes on from the commit.
    ///
    /// # Errors
    /// That with which the pipeline stopped, or could not start again.
    pub(super) async fn restart(&mut self) -> Result<()> {
        self.settle().await?;
        let running = self.running.take().ok_or_else(stopped)?;
        running.control.stop.cancel();
        running.job.await?;
        self.launch()
    }

    fn launch(&mut self) -> Result<()> {
        let graph = self.graph()?;
        let (control, job) = supervise(Supervised {
            graph,
            config: JobConfig {
                pipeline: self.spec.name.value().clone(),
                lanes: self.lanes,
                // One commit after another: a test waits for no clock.
                checkpoint_every: Duration::ZERO,
                queue_bytes: QUEUE_BYTES,
                until: Until::Stopped,
                end: End::Keep,
                reset: BTreeSet::new(),
                stop_when: None,
                memory: None,
            },
            log: LogConfig {
                store: Arc::clone(&self.store),
                root: Path::from("test"),
                task: TASK.to_owned(),
                owner: Owner {
                    host: "test".to_owned(),
                    pid: std::process::id(),
                    admin: None,
                    started_at: self.clock.now(),
                },
                plan: Plan {
                    hash: "test".to_owned(),
                    json: "{}".into(),
                },
                keep_commits: 2,
                ids: Arc::new(RandomIds),
            },
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
            restarts: 0,
        });
        self.running = Some(Running {
            control,
            job: Box::pin(job),
        });
        Ok(())
    }

    /// The pipeline's graph, between inboxes and collectors.
    fn graph(&mut self) -> Result<Graph> {
        let options = LowerOptions {
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
            taps: self.taps.clone(),
            tables: self.tables.clone(),
            ..LowerOptions::default()
        };
        let lowered =
            lower(self.spec, &options).map_err(|problems| Error::config(problems.human()))?;
        let mut graph = lowered.graph;
        for node in &mut graph.nodes {
            match &mut node.kind {
                NodeKind::Source(source) => {
                    let inbox = self
                        .inboxes
                        .entry(node.name.to_string())
                        .or_insert_with(|| Arc::new(Inbox::new(self.pulse.clone())));
                    source.source = Arc::new(InboxSource(Arc::clone(inbox)));
                }
                NodeKind::Sink(sink) => {
                    let collector = self
                        .collectors
                        .entry(Arc::clone(&node.name))
                        .or_insert_with(|| Collector::new(self.pulse.clone()));
                    *sink = Arc::new(collector.clone());
                }
                NodeKind::Operator(_) => {}
            }
        }
        Ok(graph)
    }
}

fn stopped() -> Error {
    Error::internal("the pipeline has stopped")
}
