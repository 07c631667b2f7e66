//! Keeps a job's status current.

use std::{collections::VecDeque, sync::Arc, time::Instant};

use tokio::sync::watch;

use super::{
    checkpoint::CompletedCheckpoint, deliveries::Deliveries, gauges::Gauges,
    job_context::JobContext,
};
use crate::{
    Clock, EventTime,
    graph::{Graph, NodeKind},
    ledger::Counts,
    status::{CommitStatus, JobState, JobStatus, MemoryStatus},
};

/// The number of refreshes that the rate covers.
const RATE_WINDOW: usize = 20;

/// Builds the status from the gauges and sends it to its watchers.
pub(super) struct Monitor {
    gauges: Arc<Gauges>,
    deliveries: Deliveries,
    clock: Arc<dyn Clock>,
    sender: watch::Sender<JobStatus>,
    status: JobStatus,
    /// The sinks' names. Their input is the output of the job.
    sinks: Vec<Arc<str>>,
    begun: Instant,
    recent: VecDeque<(Instant, u64)>,
}

impl Monitor {
    /// A monitor of a job that begins with `totals`.
    pub(super) fn new(
        graph: &Graph,
        pipeline: &str,
        gauges: Arc<Gauges>,
        deliveries: Deliveries,
        context: &JobContext,
        totals: Counts,
    ) -> Self {
        let clock = Arc::clone(&context.clock);
        let mut status = context.status.borrow().clone();
        pipeline.clone_into(&mut status.pipeline);
        status.totals = totals;
        let is_sink = |kind: &NodeKind| matches!(kind, NodeKind::Sink(_));
        let sinks = graph.nodes.iter().filter(|node| is_sink(&node.kind));
        Self {
            gauges,
            deliveries,
            clock,
            sender: context.status.clone(),
            status,
            sinks: sinks.map(|node| Arc::clone(&node.name)).collect(),
            begun: Instant::now(),
            recent: VecDeque::new(),
        }
    }

    /// Sets the job's state.
    pub(super) fn say(&mut self, state: JobState, message: Option<String>) {
        self.status.state = state;
        self.status.message = message;
        self.refresh();
    }

    /// Sets the memory use for the next refresh.
    pub(super) fn memory(&mut self, memory: MemoryStatus) {
        self.status.memory = Some(memory);
    }

    /// Records a commit.
    pub(super) fn committed(&mut self, done: &CompletedCheckpoint, totals: Counts) {
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

    /// Reads the gauges and sends the status to its watchers.
    pub(super) fn refresh(&mut self) {
        let status = &mut self.status;
        status.at = self.clock.now();
        status.partitions = self.gauges.partitions();
        status.sinks = self.deliveries.status();
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
        (self.status.rows_in, self.status.dead_letters())
    }

    /// The status of the last refresh.
    pub(super) fn status(&self) -> JobStatus {
        self.status.clone()
    }
}

/// The lowest watermark of the live partitions, or of all if none is live.
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
