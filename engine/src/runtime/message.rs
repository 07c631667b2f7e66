//! Messages between the tasks of a job.

use std::sync::Arc;

use super::{channel::Weight, decoded_chunk::DecodedChunk, gauges::PartitionGauge};
use crate::{
    Element, EventTime, Result,
    source::{Chunk, PartitionId},
};

/// A partition that the reader assigns to a lane.
#[derive(Debug, Clone)]
pub(super) struct Assignment {
    pub(super) id: Arc<PartitionId>,
    /// The watermark of the last commit.
    pub(super) watermark: EventTime,
    pub(super) gauge: Arc<PartitionGauge>,
}

/// A message to a lane.
#[derive(Debug)]
pub(super) enum Message {
    /// From an upstream lane.
    Element(Element),
    /// From a source's reader.
    Assigned(Vec<Assignment>),
    /// From a source's reader: partitions that are assigned later have no older row.
    Unassigned(Option<EventTime>),
    /// From a source's reader.
    Chunk(Chunk),
    /// The decoded rows of a chunk.
    Rows(Result<Box<DecodedChunk>>),
    /// From a source's reader: all its partitions are idle.
    Sleep,
    /// From a source's reader: a partition is active again.
    Wake,
    /// From a source's reader: no older row follows in the partition.
    Promised(Arc<str>, EventTime),
    /// From a source's reader: the partition is finished.
    Finished(Arc<str>),
}

impl Weight for Message {
    fn weight(&self) -> usize {
        match self {
            Self::Element(Element::Batch(_, batch)) => batch.records.get_array_memory_size().max(1),
            Self::Chunk(chunk) => chunk.rows.bytes().max(1),
            _ => 0,
        }
    }
}
