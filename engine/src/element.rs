//! What flows along an edge.

use std::{fmt, sync::Arc};

use arrow::record_batch::RecordBatch;
use serde::{Deserialize, Serialize};

use crate::{EventTime, source::PartitionId};

/// One item on an edge. All kinds share one channel, because their order is
/// their meaning: a watermark speaks of the batches before it, a barrier cuts
/// between the batches before it and those after.
#[derive(Debug, Clone)]
pub enum Element {
    /// Rows, on one of the edges that share the channel.
    Batch(EdgeId, Batch),
    /// A promise about the event time of the rows that follow on an edge.
    Watermark(EdgeId, Watermark),
    /// The cut between this epoch and the next.
    Barrier(Barrier),
    /// No row follows; a last barrier does.
    End,
}

/// An edge's place in [`crate::graph::Graph::edges`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EdgeId(pub usize);

/// Rows, with the source partition that they came from where there is one.
#[derive(Debug, Clone)]
pub struct Batch {
    /// The rows.
    pub records: RecordBatch,
    /// Where they came from.
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

    /// Rows that an operator made.
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

    /// How many rows.
    pub fn num_rows(&self) -> usize {
        self.records.num_rows()
    }
}

/// Where the rows of a batch came from. A batch of source rows never mixes
/// partitions, so that each row can be accounted for ([`crate::ledger`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Input rows of one partition, one for one.
    Partition(Arc<PartitionId>),
    /// Rows that an operator made of many; not counted against the input.
    Derived,
}

/// An input or output of an operator. Inputs and outputs are numbered apart.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Port(pub u8);

impl Port {
    /// The first input, and the output that carries the results.
    pub const MAIN: Self = Self(0);
    /// By custom the output for what is set aside: dead letters, late rows.
    pub const ASIDE: Self = Self(1);
}

/// What an upstream promises of the event time of the rows that follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watermark {
    /// Rows before this time are behind; `EventTime::MIN` promises nothing
    /// and holds everyone back.
    At(EventTime),
    /// The upstream has nothing to say for now: go by the others.
    Idle,
}

/// The span between two commits.
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

/// A cut through the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Barrier {
    /// The epoch that ends here.
    pub epoch: Epoch,
    /// What happens after the cut.
    pub kind: BarrierKind,
    /// Whether operators may say before it all that they know, which can take a while.
    pub says_all: bool,
}

/// What happens after a barrier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BarrierKind {
    /// The stream goes on.
    Checkpoint,
    /// The stream goes on, but memory is short: sinks finish what they hold open.
    Relief,
    /// The job stops here: sinks finish what they hold open.
    Stop,
}
