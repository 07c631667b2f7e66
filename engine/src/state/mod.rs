//! Operator state between two runs.
//!
//! State is snapshotted as Arrow batches in *parts*. A part is immutable once
//! written; a snapshot names the parts that are new and those that are gone, so
//! that a commit writes only what changed.

mod cold;
mod key_group;

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, UInt8Array},
    record_batch::RecordBatch,
};

use crate::Result;

pub use cold::{ColdStore, DiskStore};
pub use key_group::{KEY_GROUP_COLUMN, KEY_GROUPS, KeyGroup, KeyHash, KeyHasher, lane_of};

/// A part of an operator's state, named by the operator.
#[derive(Debug, Clone)]
pub struct StatePart {
    /// The name, unique within the operator and lane; `[a-z0-9_.-]`.
    pub key: String,
    /// The rows. A nullable `UInt8` column [`KEY_GROUP_COLUMN`] says which lane
    /// a row belongs to when the number of lanes changes; a null goes to all.
    pub rows: RecordBatch,
}

/// What changed since the last snapshot.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// New parts. A key may be put again only after it was removed, or in the
    /// same snapshot that removes it: then the old rows go and these stay.
    pub put: Vec<StatePart>,
    /// Parts that are not needed any more.
    pub removed: Vec<String>,
}

impl Snapshot {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.put.is_empty() && self.removed.is_empty()
    }

    /// Puts a part of one column, whose rows every lane gets, in place of the one with
    /// this name if that `is_stored`.
    ///
    /// # Errors
    /// `Internal` where the rows make no batch.
    pub fn put_for_all(
        &mut self,
        key: &str,
        is_stored: bool,
        column: &str,
        values: ArrayRef,
    ) -> Result<()> {
        if is_stored {
            self.removed.push(key.into());
        }
        let groups: ArrayRef = Arc::new(UInt8Array::new_null(values.len()));
        let columns = [(column, values, true), (KEY_GROUP_COLUMN, groups, true)];
        self.put.push(StatePart {
            key: key.into(),
            rows: RecordBatch::try_from_iter_with_nullable(columns)?,
        });
        Ok(())
    }
}

/// What an operator gets back.
#[derive(Debug, Clone)]
pub struct LaneState {
    /// The parts, without the rows of other lanes.
    pub parts: Vec<StatePart>,
    /// Whether the operator must put its state anew.
    pub lanes: Lanes,
}

/// Whether the number of lanes is what it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lanes {
    /// The parts are the ones this lane wrote, and they stay in force.
    Same,
    /// The parts were split anew and the old ones are dropped: everything
    /// restored must be in the next snapshot's `put`. Keys may repeat.
    Changed,
}
