//! Operator state between two runs.
//!
//! State is snapshotted as Arrow batches in *parts*. A part is immutable once written. A snapshot
//! names the new and the removed parts, so a commit writes only the changes.

mod key_column;
mod key_group;
mod spill;

use std::{fmt, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, UInt8Array},
    record_batch::RecordBatch,
};

use crate::Result;

pub use key_column::{canonical, key_column};
pub use key_group::{KEY_GROUP_COLUMN, KEY_GROUPS, KeyGroup, KeyHash, KeyHasher, lane_of};
pub use spill::{DiskStore, SpillReader, SpillStore};

/// A part of an operator's state, named by the operator.
#[derive(Debug, Clone)]
pub struct StatePart {
    /// The name, unique within the operator and lane; `[a-z0-9_.-]`.
    pub key: String,
    /// The rows. A nullable `UInt8` column [`KEY_GROUP_COLUMN`] determines the lane of a row when
    /// the number of lanes changes. All lanes receive a row with null.
    pub rows: RecordBatch,
}

/// A new part in a snapshot. Its rows exist already, or another thread creates them when they are
/// written, few parts at a time. A snapshot of a large state then blocks its lane for less time and
/// needs less memory.
#[derive(Debug)]
pub struct NewPart {
    key: String,
    rows: NewRows,
}

enum NewRows {
    Here(RecordBatch),
    Later {
        bytes: usize,
        make: Box<dyn FnOnce() -> Result<RecordBatch> + Send>,
    },
}

impl fmt::Debug for NewRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Here(rows) => f.debug_tuple("Here").field(rows).finish(),
            Self::Later { bytes, .. } => {
                let mut later = f.debug_struct("Later");
                later.field("bytes", bytes).finish_non_exhaustive()
            }
        }
    }
}

impl NewPart {
    /// A part of about `bytes`. `make` creates its rows later, but from the state as of now.
    pub fn later(
        key: String,
        bytes: usize,
        make: impl FnOnce() -> Result<RecordBatch> + Send + 'static,
    ) -> Self {
        let make = Box::new(make);
        Self {
            key,
            rows: NewRows::Later { bytes, make },
        }
    }

    /// The part with its rows. It may read the disk.
    ///
    /// # Errors
    /// Those of the function that creates the rows.
    pub fn load(self) -> Result<StatePart> {
        let rows = match self.rows {
            NewRows::Here(rows) => rows,
            NewRows::Later { make, .. } => make()?,
        };
        let key = self.key;
        Ok(StatePart { key, rows })
    }

    /// An estimate of the memory for its rows.
    pub(crate) fn bytes(&self) -> u64 {
        match &self.rows {
            NewRows::Here(rows) => rows.get_array_memory_size() as u64,
            NewRows::Later { bytes, .. } => *bytes as u64,
        }
    }

    /// Whether its rows exist already.
    pub(crate) fn is_here(&self) -> bool {
        matches!(self.rows, NewRows::Here(_))
    }
}

impl From<StatePart> for NewPart {
    fn from(part: StatePart) -> Self {
        Self {
            key: part.key,
            rows: NewRows::Here(part.rows),
        }
    }
}

/// The changes since the last snapshot.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// New parts. A key may be used again only after it was removed, or in the snapshot that
    /// removes it: then these rows replace the old ones.
    pub put: Vec<NewPart>,
    /// Parts that are no longer needed.
    pub removed: Vec<String>,
}

impl Snapshot {
    /// Whether there are no changes.
    pub fn is_empty(&self) -> bool {
        self.put.is_empty() && self.removed.is_empty()
    }

    /// Adds a part with its rows.
    pub fn put_rows(&mut self, key: impl Into<String>, rows: RecordBatch) {
        let key = key.into();
        self.put.push(StatePart { key, rows }.into());
    }

    /// Adds a part of a single column, whose rows every lane receives. It replaces the part of this
    /// name if that `is_stored`.
    ///
    /// # Errors
    /// `Internal` if the rows make no batch.
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
        self.put_rows(key, RecordBatch::try_from_iter_with_nullable(columns)?);
        Ok(())
    }
}

/// The number at the end of a part's name, after a `-`; 0 without one.
pub fn part_number(key: &str) -> u64 {
    let number = key.rsplit_once('-').map(|(_, number)| number.parse());
    number.and_then(std::result::Result::ok).unwrap_or(0)
}

/// The restored state of an operator on a lane.
#[derive(Debug, Clone)]
pub struct LaneState {
    /// The parts, without the rows of other lanes.
    pub parts: Vec<StatePart>,
    /// Whether the operator must write its whole state again.
    pub lanes: Restore,
}

/// Whether the number of lanes has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restore {
    /// This lane wrote the parts, and they stay in the state.
    InPlace,
    /// The parts were divided among other lanes, and the old ones are dropped: the next snapshot's
    /// `put` must contain everything restored. Keys may repeat.
    Rescaled,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_known_by_its_number() {
        let names = [
            "users-2",
            "users-10",
            "w-60000000-3",
            "watermark",
            "last-one",
        ];
        assert_eq!(names.map(part_number), [2, 10, 3, 0, 0]);
    }
}
