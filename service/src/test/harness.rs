//! A pipeline that a test feeds and observes.

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
    runtime::{Control, End, JobConfig, OldFiles, Outcome, Supervised, Until, supervise},
    testing::ManualClock,
};
use tagflow_operators::join::{CurrentDimension, Dimension};

use super::{
    collector::Collector,
    inbox::{Inbox, InboxSource},
    pulse::Pulse,
};
use crate::{
    profiles::{self, KeyProfile},
    state_folder::TASK,
};
use tagflow_pipelines::{LowerOptions, Spec, lower};

/// After this many barriers behind the last row, the commit with its effects is written. The first
/// may be sent before the row, the second includes it, and the third is sent after the second's
/// commit.
const BARRIERS: u64 = 3;

/// The capacity of each channel between two lanes.
const QUEUE_BYTES: usize = 1 << 20;

/// A pipeline that a test controls.
pub(super) struct Harness<'a> {
    spec: &'a Spec,
    taps: &'a BTreeSet<String>,
    /// The tables that the test fills.
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

/// One run of the pipeline.
struct Running {
    control: Control,
    job: Pin<Box<dyn Future<Output = Result<Outcome>> + Send>>,
}

impl<'a> Harness<'a> {
    /// Starts `spec` at the time `now`. Collects the rows of its sinks and of `taps`; `tables` are
    /// empty until they are filled.
    ///
    /// # Errors
    /// As [`lower`], as text.
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

    /// The clock.
    pub(super) fn clock(&self) -> &ManualClock {
        &self.clock
    }

    /// The inbox of `source`; `None` if no node reads it.
    pub(super) fn inbox(&self, source: &str) -> Option<&Inbox> {
        self.inboxes.get(source).map(AsRef::as_ref)
    }

    /// All inboxes.
    pub(super) fn inboxes(&self) -> impl Iterator<Item = &Inbox> {
        self.inboxes.values().map(AsRef::as_ref)
    }

    /// Sets the rows of the table `name`.
    pub(super) fn fill(&self, name: &str, rows: Dimension) {
        if let Some(table) = self.tables.get(name) {
            table.replace(rows);
        }
    }

    /// The rows that the sink `node` of the graph has written since the last call.
    pub(super) fn take(&self, node: &str) -> Vec<RecordBatch> {
        self.collectors
            .get(node)
            .map(Collector::take)
            .unwrap_or_default()
    }

    /// Waits until all sent rows are processed and committed.
    ///
    /// # Errors
    /// The error that stopped the pipeline.
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

    /// The tags of a key. `None` for a key that had no event.
    ///
    /// # Errors
    /// That with which the pipeline stopped, or where the key cannot be one.
    pub(super) async fn known(&mut self, key: &str) -> Result<Option<KeyProfile>> {
        let running = self.running.as_mut().ok_or_else(stopped)?;
        let inquiry = running.control.inquiry.clone();
        let asked = profiles::ask(&inquiry, key);
        tokio::select! {
            biased;
            ended = &mut running.job => {
                self.running = None;
                Err(ended.err().unwrap_or_else(stopped))
            }
            answer = asked => answer,
        }
    }

    /// The outcomes of all rows, up to the last commit.
    pub(super) fn totals(&self) -> Counts {
        let running = self.running.as_ref();
        running.map_or_else(Counts::default, |running| {
            running.control.status.borrow().totals
        })
    }

    /// Commits, stops, drops everything and continues from the commit.
    ///
    /// # Errors
    /// The error that stopped the pipeline, or prevented its restart.
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
                old_files: OldFiles::Keep,
                deliver: BTreeMap::new(),
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
            presence: None,
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
