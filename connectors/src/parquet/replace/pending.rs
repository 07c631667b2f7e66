//! Rows of one folder that are not in a file yet.

use arrow::{compute::concat_batches, record_batch::RecordBatch};
use tagflow_engine::{EventTime, Ids, Result};

use crate::parquet::{carry::Carry, sink::CUT_CARRY_BYTES};

/// Rows of the table's shape, all revisions of them.
#[derive(Debug)]
pub(super) struct Pending {
    batches: Vec<RecordBatch>,
    bytes: usize,
    since: EventTime,
    /// What a crash must not lose.
    pub(super) carry: Carry,
}

impl Pending {
    /// None yet, at `now`.
    pub(super) fn new(now: EventTime, ids: &dyn Ids) -> Self {
        Self {
            batches: Vec::new(),
            bytes: 0,
            since: now,
            carry: Carry::new(ids.unique().simple().to_string()),
        }
    }

    /// Takes rows.
    pub(super) fn push(&mut self, rows: RecordBatch) {
        self.bytes += rows.get_array_memory_size();
        self.batches.push(rows.clone());
        self.carry.push(rows);
        if self.carry.pending_bytes() > CUT_CARRY_BYTES {
            self.carry.give_up();
        }
    }

    /// Memory that they take.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Since when there have been some.
    pub(super) fn since(&self) -> EventTime {
        self.since
    }

    /// All of them; there are some.
    pub(super) fn rows(&self) -> Result<RecordBatch> {
        let first = self.batches.first().expect("rows wait from the first on");
        Ok(concat_batches(&first.schema(), &self.batches)?)
    }
}
