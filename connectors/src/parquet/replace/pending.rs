//! Rows of a folder that are not in a file yet.

use arrow::{compute::concat_batches, record_batch::RecordBatch};
use tagflow_engine::{Ids, Result, Uptime};

use crate::parquet::{sink::CUT_CARRY_BYTES, unflushed::Unflushed};

/// Rows of the table's shape, with all their revisions.
#[derive(Debug)]
pub(super) struct Pending {
    batches: Vec<RecordBatch>,
    bytes: usize,
    since: Uptime,
    /// The rows that a crash must not lose.
    pub(super) carry: Unflushed,
}

impl Pending {
    /// No rows yet, at `now`.
    pub(super) fn new(now: Uptime, ids: &dyn Ids) -> Self {
        Self {
            batches: Vec::new(),
            bytes: 0,
            since: now,
            carry: Unflushed::new(ids.unique().simple().to_string()),
        }
    }

    /// Adds rows.
    pub(super) fn push(&mut self, rows: RecordBatch) {
        self.bytes += rows.get_array_memory_size();
        self.batches.push(rows.clone());
        self.carry.push(rows);
        if self.carry.pending_bytes() > CUT_CARRY_BYTES {
            self.carry.discard();
        }
    }

    /// The memory of the rows.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The time of the first row.
    pub(super) fn since(&self) -> Uptime {
        self.since
    }

    /// All rows; there is at least one.
    pub(super) fn rows(&self) -> Result<RecordBatch> {
        let first = self.batches.first().expect("rows wait from the first on");
        Ok(concat_batches(&first.schema(), &self.batches)?)
    }
}
