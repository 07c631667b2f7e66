//! Decoded rows of a source.

use arrow::array::RecordBatch;

use crate::source::{Chunk, Rejected};

/// A chunk that has been decoded.
#[derive(Debug)]
pub(super) struct DecodedChunk {
    pub(super) chunk: Chunk,
    /// The good rows, in order.
    pub(super) records: RecordBatch,
    /// The others, by row.
    pub(super) rejected: Vec<Rejected>,
}
