//! What the tasks of a job tell it.

use std::{collections::BTreeMap, sync::Arc};

use tokio::sync::mpsc;

use crate::{
    Epoch, EventTime,
    ledger::Ledger,
    sink::{RemovedFile, StagedFile},
    source::{PartitionId, Positions},
    state::Snapshot,
};

/// A message to the job.
#[derive(Debug)]
pub(super) enum Report {
    /// A task has passed a barrier and hands over its part of the cut.
    Cut(Epoch, Cut),
    /// Every known partition of this source has been at its end once.
    CaughtUp(Arc<str>),
    /// This bounded source has been read to its end.
    Exhausted(Arc<str>),
    /// The system behind a source cannot be reached (the reason), or can again.
    Reachable(Arc<str>, Option<String>),
}

/// One task's part of a cut.
#[derive(Debug)]
pub(super) enum Cut {
    /// Of a source's reader: where it goes on, and how many rows it has read of
    /// each partition since the last cut.
    Reader {
        source: Arc<str>,
        positions: Positions,
        rows: BTreeMap<Arc<PartitionId>, u64>,
    },
    /// Of a fragment on one lane.
    Lane {
        lane: usize,
        snapshots: Vec<(Arc<str>, Snapshot)>,
        ledger: Ledger,
        watermarks: BTreeMap<Arc<PartitionId>, EventTime>,
    },
    /// Of a sink on one lane.
    Writer {
        node: Arc<str>,
        lane: usize,
        files: Vec<StagedFile>,
        removed: Vec<RemovedFile>,
        snapshot: Snapshot,
        ledger: Ledger,
    },
}

/// Where reports go. Unbounded, but each task has at most one cut under way.
pub(super) type Reports = mpsc::UnboundedSender<Report>;
