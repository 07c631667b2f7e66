//! A part of an operator's state: some of its rows, with a name.

use std::fmt;

use arrow::record_batch::RecordBatch;

use crate::Result;

/// A part of an operator's state, named by the operator.
#[derive(Debug, Clone)]
pub struct StatePart {
    /// The name, unique within the operator and lane; `[a-z0-9_.-]`.
    pub key: String,
    /// The rows. A nullable `UInt8` column [`KEY_GROUP_COLUMN`](super::KEY_GROUP_COLUMN) determines
    /// the lane of a row when the number of lanes changes. All lanes receive a row with null.
    pub rows: RecordBatch,
}

/// A new part in a snapshot.
#[derive(Debug)]
pub struct NewPart {
    key: String,
    rows: NewRows,
}

/// The rows of a new part. They exist already, or another thread creates them when they are
/// written, few parts at a time. A snapshot of a large state then blocks its lane for less time and
/// needs less memory.
pub struct NewRows(Rows);

enum Rows {
    Here(RecordBatch),
    Later {
        bytes: usize,
        make: Box<dyn FnOnce() -> Result<RecordBatch> + Send>,
    },
}

impl NewRows {
    /// Rows of about `bytes`. `make` creates them later, but from the state as of now.
    pub fn later(
        bytes: usize,
        make: impl FnOnce() -> Result<RecordBatch> + Send + 'static,
    ) -> Self {
        let make = Box::new(make);
        Self(Rows::Later { bytes, make })
    }
}

impl From<RecordBatch> for NewRows {
    fn from(rows: RecordBatch) -> Self {
        Self(Rows::Here(rows))
    }
}

impl fmt::Debug for NewRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Rows::Here(rows) => f.debug_tuple("Here").field(rows).finish(),
            Rows::Later { bytes, .. } => {
                let mut later = f.debug_struct("Later");
                later.field("bytes", bytes).finish_non_exhaustive()
            }
        }
    }
}

impl NewPart {
    /// A part named `key`.
    pub fn new(key: impl Into<String>, rows: impl Into<NewRows>) -> Self {
        Self {
            key: key.into(),
            rows: rows.into(),
        }
    }

    /// The part with its rows. It may read the disk.
    ///
    /// # Errors
    /// Those of the function that creates the rows.
    pub fn load(self) -> Result<StatePart> {
        let rows = match self.rows.0 {
            Rows::Here(rows) => rows,
            Rows::Later { make, .. } => make()?,
        };
        let key = self.key;
        Ok(StatePart { key, rows })
    }

    /// An estimate of the memory for its rows.
    pub(crate) fn bytes(&self) -> u64 {
        match &self.rows.0 {
            Rows::Here(rows) => rows.get_array_memory_size() as u64,
            Rows::Later { bytes, .. } => *bytes as u64,
        }
    }

    /// Whether its rows exist already.
    pub(crate) fn is_here(&self) -> bool {
        matches!(self.rows.0, Rows::Here(_))
    }
}

/// The number at the end of a part's name, after a `-`; 0 without one.
pub fn part_number(key: &str) -> u64 {
    let number = key.rsplit_once('-').map(|(_, number)| number.parse());
    number.and_then(std::result::Result::ok).unwrap_or(0)
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
