//! Messages of a job's tasks to the job.

use std::{collections::BTreeMap, sync::Arc};

use tokio::sync::mpsc;

use crate::{
    Epoch, EventTime,
    committer::Committable,
    ledger::Ledger,
    source::{Growth, PartitionId, Positions, Systems},
    state::Snapshot,
};

/// A message to the job.
#[derive(Debug)]
pub(super) enum TaskEvent {
    /// A task has passed a barrier and sends its result.
    CheckpointAck(Epoch, CheckpointAck),
    /// Every known partition of this source has reached its end once.
    CaughtUp(Arc<str>),
    /// This bounded source has been read to its end.
    Exhausted(Arc<str>, Growth),
    /// The system behind a source cannot be reached (with the reason), or can be again.
    Reachable(Arc<str>, Option<String>),
}

/// The result of a task at a barrier.
#[derive(Debug)]
pub(super) enum CheckpointAck {
    /// From a source's reader: its positions and their systems, and the number of rows read from
    /// each partition since the last barrier.
    Source {
        source: Arc<str>,
        positions: Positions,
        systems: Systems,
        rows: BTreeMap<Arc<PartitionId>, u64>,
    },
    /// From a fragment on one lane.
    Lane {
        lane: usize,
        snapshots: Vec<(Arc<str>, Snapshot)>,
        ledger: Ledger,
        watermarks: BTreeMap<Arc<PartitionId>, EventTime>,
    },
    /// From a sink on one lane.
    Sink {
        node: Arc<str>,
        lane: usize,
        target: Option<Arc<str>>,
        committables: Vec<Committable>,
        snapshot: Snapshot,
        ledger: Ledger,
    },
}

/// The sender of reports. Unbounded, but each task has at most one result under way.
pub(super) type TaskEvents = mpsc::UnboundedSender<TaskEvent>;
