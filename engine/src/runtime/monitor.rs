//! Keeps a job's status current.

use std::{collections::VecDeque, sync::Arc, time::Instant};

use tokio::sync::watch;

use super::{checkpoint::Done, gauges::Gauges, job::Surroundings};
use crate::{
    Clock, EventTime,
    graph::{Graph, NodeKind},
    ledger::Counts,
    status::{CommitStatus, JobState, JobStatus, MemoryStatus},
};

/// Over how many refreshes the rate is taken.
const RATE_WINDOW: usize = 20;

/// Composes the status from the gauges and sends it to whoever watches.
pub(super) struct Monitor {
    gauges: Arc<Gauges>,
    clock: Arc<dyn Clock>,
    sender: watch::Sender<JobStatus>,
    status: JobStatus,
    /// The sinks' names: what they take in has come out.
    sinks: Vec<Arc<str>>,
    begun: Instant,
    recent: VecDeque<(Instant, u64)>,
}

impl Monitor {
    /// For a job that begins with `totals`.
    pub(super) fn new(
        graph: &Graph,
        pipeline: &str,
        gauges: Arc<Gauges>,
        surroundings: &Surroundings,
        totals: Counts,
    ) -> Self {
        let clock = Arc::clone(&surroundings.clock);
        let mut status = surroundings.status.borrow().clone();
        pipeline.clone_into(&mut status.pipeline);
        status.totals = totals;
        let is_sink = |kind: &NodeKind| matches!(kind, NodeKind::Sink(_));
        let sinks = graph.nodes.iter().filter(|node| is_sink(&node.kind));
        Self {
            gauges,
            clock,
            sender: surroundings.status.clone(),
            status,
            sinks: sinks.map(|node| Arc::clone(&node.name)).collect(),
            begun: Instant::now(),
            recent: VecDeque::new(),
        }
    }

    /// Says where the job is.
    pub(super) fn say(&mut self, state: JobState, message: Option<String>) {
        self.status.state = state;
        self.status.message = message;
        self.refresh();
    }

    /// Notes what memory the process takes; told with the next refresh.
    pub(super) fn memory(&mut self, memory: MemoryStatus) {
        self.status.memory = Some(memory);
    }

    /// Notes a commit.
    pub(super) fn committed(&mut self, done: &Done, totals: Counts) {
        self.status.totals = totals;
        self.status.commit = Some(CommitStatus {
            seq: done.committed.seq,
            at: done.committed.at,
            took_ms: done.took_ms,
            files: done.committed.files as u64,
            file_bytes: done.committed.file_bytes,
            state_written_bytes: done.state_written_bytes,
            state_bytes: done.committed.state_bytes,
        });
        self.refresh();
    }

    /// Reads the gauges and tells those who watch.
    pub(super) fn refresh(&mut self) {
        let status = &mut self.status;
        status.at = self.clock.now();
        status.partitions = self.gauges.partitions();
        status.nodes = self.gauges.nodes(self.begun.elapsed().as_secs_f64());
        status.rows_in = status
            .partitions
            .values()
            .map(|partition| partition.rows)
            .sum();
        status.bytes_in = status
            .partitions
            .values()
            .map(|partition| partition.bytes)
            .sum();
        let taken = |sink: &Arc<str>| {
            status
                .nodes
                .get(sink.as_ref())
                .map_or(0, |node| node.rows_in)
        };
        status.rows_out = self.sinks.iter().map(taken).sum();
        status.watermark = watermark(status);

        let now = Instant::now();
        self.recent.push_back((now, status.rows_in));
        if self.recent.len() > RATE_WINDOW {
            self.recent.pop_front();
        }
        if let Some((then, rows)) = self.recent.front() {
            let seconds = now.duration_since(*then).as_secs_f64();
            if seconds > 0.0 {
                status.rows_in_per_s = (status.rows_in - rows) as f64 / seconds;
            }
        }
        self.sender.send_replace(status.clone());
    }

    /// Rows read, and dead letters among them, since the job began.
    pub(super) fn rows_and_dead_letters(&self) -> (u64, u64) {
        let dead = self
            .status
            .partitions
            .values()
            .map(|partition| partition.dead_letters);
        (self.status.rows_in, dead.sum())
    }

    /// The status as last refreshed.
    pub(super) fn status(&self) -> JobStatus {
        self.status.clone()
    }
}

/// The lowest watermark of the live partitions; of all if none is live.
fn watermark(status: &JobStatus) -> Option<EventTime> {
    let live = status
        .partitions
        .values()
        .filter(|partition| !partition.idle && !partition.finished);
    let live: Vec<_> = live.map(|partition| partition.watermark).collect();
    if live.is_empty() {
        return status
            .partitions
            .values()
            .filter_map(|partition| partition.watermark)
            .max();
    }
    live.into_iter().min().flatten()
}
