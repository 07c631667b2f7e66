//! The first rows of a source, step or query, without side effects: state and commits are in
//! memory, no sink runs, and no consumer group is updated.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use arrow::array::RecordBatch;
use async_trait::async_trait;
use object_store::{memory::InMemory, path::Path};
use tagflow_engine::{
    Batch, Clock, Error, EventTime, RandomIds, Result,
    commit::{LogConfig, Owner, Plan},
    element::BarrierKind,
    graph::NodeKind,
    runtime::{End, JobConfig, OldFiles, Supervised, Until, supervise},
    sink::{PreparedCommit, Sink, SinkContext, SinkFactory},
    source::{Positions, Source, SourceEvent, SourceReader},
    status::{JobState, JobStatus},
};
use tokio::sync::Notify;

use crate::{query::Answer, state_folder::TASK};
use tagflow_pipelines::{
    LowerOptions, Spec,
    diagnostic::unknown,
    lower::{Sinks, lower, tap},
};

/// The capacity of each channel between two lanes.
const QUEUE_BYTES: usize = 1 << 20;

/// How often the lanes emit their partial aggregates.
const BARRIER_EVERY: Duration = Duration::from_millis(200);

/// The result of a preview.
pub struct Preview {
    /// The rows.
    pub rows: Answer,
    /// Why the preview ended.
    pub end: PreviewEnd,
    /// The job at the end.
    pub status: JobStatus,
}

/// Why a preview ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PreviewEnd {
    /// There are enough rows.
    Enough,
    /// All input has been read.
    Exhausted,
    /// The time is over, with this many rows; the rows after them belong to windows that are still
    /// open.
    TimeIsUp(usize),
}

/// The first `most` rows of `node`. After `patience`, open windows emit their current results.
///
/// # Errors
/// `Config` where no node has the name `node`; the errors of `run`.
pub async fn preview(
    spec: &Spec,
    node: &str,
    most: usize,
    patience: Duration,
    clock: Arc<dyn Clock>,
) -> Result<Preview> {
    if !spec.relations().any(|relation| **relation == *node) {
        let names: Vec<_> = spec.relations().map(|name| &**name).collect();
        let message = format!("no source, step or query is called `{node}`");
        return Err(Error::config(message + &unknown(node, names)));
    }
    let options = LowerOptions {
        clock: Arc::clone(&clock),
        sinks: Sinks::None,
        taps: BTreeSet::from([node.to_owned()]),
        ..LowerOptions::default()
    };
    let lowered = lower(spec, &options).map_err(|problems| Error::config(problems.human()))?;
    let mut graph = lowered.graph;
    let first = FirstRows::new(most);
    for node in &mut graph.nodes {
        match &mut node.kind {
            NodeKind::Source(source) => {
                source.source = Arc::new(Unnoticed(Arc::clone(&source.source)));
            }
            NodeKind::Sink(sink) => *sink = Arc::new(first.clone()),
            NodeKind::Operator(_) => {}
        }
    }
    let (control, job) = supervise(Supervised {
        graph,
        config: JobConfig {
            pipeline: spec.name.value().clone(),
            lanes: 1,
            checkpoint_every: BARRIER_EVERY,
            queue_bytes: QUEUE_BYTES,
            until: Until::Stopped,
            end: End::Drain,
            reset: BTreeSet::new(),
            old_files: OldFiles::Keep,
            deliver: BTreeMap::new(),
            stop_when: None,
            memory: None,
        },
        log: log(clock.now()),
        clock: Arc::clone(&clock),
        restarts: 0,
        presence: None,
    });
    let mut job = std::pin::pin!(job);
    let end = tokio::select! {
        biased;
        () = first.enough() => PreviewEnd::Enough,
        ended = &mut job => ended.map(|_| PreviewEnd::Exhausted)?,
        () = clock.sleep(patience) => {
            let status = control.status.borrow().clone();
            if let (JobState::Waiting, Some(message)) = (status.state, status.message) {
                return Err(Error::external(message).permanent());
            }
            let in_time = first.count();
            control.stop.cancel();
            tokio::select! {
                () = first.enough() => {}
                ended = &mut job => drop(ended?),
            }
            PreviewEnd::TimeIsUp(in_time)
        }
    };
    let shape = lowered.shapes.get(node).cloned();
    let shape = shape.ok_or_else(|| Error::internal(format!("`{}` is not watched", tap(node))))?;
    let status = control.status.borrow().clone();
    Ok(Preview {
        rows: Answer::new(shape, first.take()),
        end,
        status,
    })
}

/// A private log in memory.
fn log(now: EventTime) -> LogConfig {
    LogConfig {
        store: Arc::new(InMemory::new()),
        root: Path::from("preview"),
        task: TASK.to_owned(),
        owner: Owner {
            host: "preview".to_owned(),
            pid: std::process::id(),
            admin: None,
            started_at: now,
        },
        plan: Plan {
            hash: "preview".to_owned(),
            json: "{}".into(),
        },
        keep_commits: 2,
        ids: Arc::new(RandomIds),
    }
}

/// Keeps the first rows.
#[derive(Clone)]
struct FirstRows {
    kept: Arc<Mutex<Kept>>,
    full: Arc<Notify>,
}

struct Kept {
    batches: Vec<RecordBatch>,
    missing: usize,
}

impl FirstRows {
    fn new(most: usize) -> Self {
        let kept = Kept {
            batches: Vec::new(),
            missing: most,
        };
        Self {
            kept: Arc::new(Mutex::new(kept)),
            full: Arc::default(),
        }
    }

    /// Waits until there are enough.
    async fn enough(&self) {
        while self.kept().missing > 0 {
            self.full.notified().await;
        }
    }

    fn count(&self) -> usize {
        self.kept().batches.iter().map(RecordBatch::num_rows).sum()
    }

    fn take(&self) -> Vec<RecordBatch> {
        mem::take(&mut self.kept().batches)
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SinkFactory for FirstRows {
    fn open(&self, _context: SinkContext) -> Result<Box<dyn Sink>> {
        Ok(Box::new(self.clone()))
    }
}

#[async_trait]
impl Sink for FirstRows {
    async fn write(&mut self, batch: Batch) -> Result<()> {
        let mut kept = self.kept();
        let wanted = kept.missing.min(batch.num_rows());
        if wanted > 0 {
            kept.batches.push(batch.records.slice(0, wanted));
            kept.missing -= wanted;
        }
        if kept.missing == 0 {
            self.full.notify_one();
        }
        Ok(())
    }

    async fn prepare_commit(&mut self, _kind: BarrierKind) -> Result<PreparedCommit> {
        Ok(PreparedCommit::default())
    }
}

/// A source without notices of commits, so that no consumer group is updated.
struct Unnoticed(Arc<dyn Source>);

#[async_trait]
impl Source for Unnoticed {
    async fn open(&self, positions: &Positions) -> Result<Box<dyn SourceReader>> {
        Ok(Box::new(UnnoticedReader(self.0.open(positions).await?)))
    }
}

struct UnnoticedReader(Box<dyn SourceReader>);

#[async_trait]
impl SourceReader for UnnoticedReader {
    async fn next(&mut self) -> Result<SourceEvent> {
        self.0.next().await
    }

    fn pause(&mut self, partition: &str) {
        self.0.pause(partition);
    }

    fn resume(&mut self, partition: &str) {
        self.0.resume(partition);
    }

    fn committed(&mut self, _positions: &Positions) {}
}
