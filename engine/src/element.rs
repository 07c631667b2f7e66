//! The elements that flow along an edge.

use std::{fmt, sync::Arc};

use arrow::record_batch::RecordBatch;
use serde::{Deserialize, Serialize};

use crate::{EventTime, source::PartitionId};

/// One item on an edge. All kinds share one channel, because their order has a meaning: a watermark
/// describes the batches before it, and a barrier separates the batches before it from those after
/// it.
#[derive(Debug, Clone)]
pub enum Element {
    /// Rows, on one of the edges that share the channel.
    Batch(EdgeId, Batch),
    /// A promise about the event time of the rows that follow on an edge.
    Watermark(EdgeId, Watermark),
    /// The boundary between this epoch and the next.
    Barrier(Barrier),
    /// No row follows; a last barrier does. All rows are before this time.
    End(EventTime),
}

/// The index of an edge in [`crate::graph::Graph::edges`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EdgeId(pub usize);

/// Rows, with their source partition if they have one.
#[derive(Debug, Clone)]
pub struct Batch {
    /// The rows.
    pub records: RecordBatch,
    /// The origin of the rows.
    pub origin: Origin,
}

impl Batch {
    /// Rows read from one source partition.
    pub fn of_partition(records: RecordBatch, partition: Arc<PartitionId>) -> Self {
        Self {
            records,
            origin: Origin::Partition(partition),
        }
    }

    /// Rows that an operator produced.
    pub fn derived(records: RecordBatch) -> Self {
        Self {
            records,
            origin: Origin::Derived,
        }
    }

    /// The same origin with other rows.
    #[must_use]
    pub fn with_records(&self, records: RecordBatch) -> Self {
        Self {
            records,
            origin: self.origin.clone(),
        }
    }

    /// The number of rows.
    pub fn num_rows(&self) -> usize {
        self.records.num_rows()
    }
}

/// The origin of a batch. A batch of source rows never mixes partitions, so each row can be
/// accounted for ([`crate::ledger`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Input rows of a partition, each passed through as one row.
    Partition(Arc<PartitionId>),
    /// Rows that an operator produced. They do not count against the input.
    Derived,
}

/// An input or output of an operator. Inputs and outputs have separate numbers.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Port(pub u8);

impl Port {
    /// The first input, and the output for results.
    pub const MAIN: Self = Self(0);
    /// By convention the side output: dead letters and late rows.
    pub const SIDE: Self = Self(1);
    /// The output of an operator for rows on which an expression fails.
    pub const DEAD_LETTERS: Self = Self(u8::MAX);
}

/// The promise of an upstream about the event time of the rows that follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watermark {
    /// Rows before this time are late. `EventTime::MIN` promises nothing and holds back the
    /// watermark of every node downstream.
    At(EventTime),
    /// The upstream is idle, and the other upstreams determine the watermark. Once an upstream that
    /// became idle together with this one is active again, the last promise of this upstream counts
    /// until it sends a new one.
    Idle,
    /// The upstream has no partition. The others determine the watermark, even if all are idle.
    Absent,
}

/// The rows between two commits.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Epoch(pub u64);

impl Epoch {
    /// The epoch after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The boundary between two epochs in the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Barrier {
    /// The epoch that ends here.
    pub epoch: Epoch,
    /// The action after the boundary.
    pub kind: BarrierKind,
    /// Whether operators should emit full profiles before this barrier, which takes time.
    pub emit_profiles: bool,
}

/// The action after a barrier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BarrierKind {
    /// The stream continues.
    Checkpoint,
    /// The stream continues, but memory is short: sinks finish their open files.
    Relief,
    /// The job stops here: sinks finish their open files.
    Stop,
}
