//! State in one part.

use arrow::record_batch::RecordBatch;

use super::{Restore, Snapshot};
use crate::Result;

/// Whether the single part of a small state is stored, and whether it is up to date. A snapshot
/// after a change replaces the whole part.
#[derive(Debug, Default)]
pub struct WholePart {
    /// The name of the stored part.
    key: Option<String>,
    is_changed: bool,
}

impl WholePart {
    /// Records that the state has changed.
    pub fn change(&mut self) {
        self.is_changed = true;
    }

    /// Records that the state was restored from the part `key`. It stays stored if the lanes are the
    /// same; otherwise the next snapshot stores it.
    pub fn restore(&mut self, key: &str, lanes: Restore) {
        self.is_changed = lanes == Restore::Rescaled;
        if lanes == Restore::InPlace {
            self.key = Some(key.to_owned());
        }
    }

    /// Replaces the part in `snapshot` if the state has changed. `rows` returns the state; `None` if
    /// there is nothing to store.
    ///
    /// # Errors
    /// Those of `rows`.
    pub fn snapshot(
        &mut self,
        key: impl Into<String>,
        snapshot: &mut Snapshot,
        rows: impl FnOnce() -> Result<Option<RecordBatch>>,
    ) -> Result<()> {
        if !std::mem::take(&mut self.is_changed) {
            return Ok(());
        }
        snapshot.removed.extend(self.key.take());
        if let Some(rows) = rows()? {
            let key = key.into();
            snapshot.put_rows(key.clone(), rows);
            self.key = Some(key);
        }
        Ok(())
    }

    /// Takes out the name of the stored part, for a snapshot that removes it.
    pub fn take_name(&mut self) -> Option<String> {
        self.key.take()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::{array::ArrayRef, array::Int64Array};

    use super::*;

    /// Whether a snapshot has a new part, and how many it removes.
    fn store(part: &mut WholePart, rows: Option<i64>) -> (usize, usize) {
        let mut snapshot = Snapshot::default();
        let rows = || {
            let batch = |number| {
                let numbers: ArrayRef = Arc::new(Int64Array::from(vec![number]));
                RecordBatch::try_from_iter([("number", numbers)])
            };
            Ok(rows.map(batch).transpose()?)
        };
        part.snapshot("it", &mut snapshot, rows).unwrap();
        (snapshot.put.len(), snapshot.removed.len())
    }

    #[test]
    fn a_change_replaces_the_part() {
        let mut part = WholePart::default();
        assert_eq!(store(&mut part, Some(1)), (0, 0));
        part.change();
        assert_eq!(store(&mut part, Some(1)), (1, 0));
        assert_eq!(store(&mut part, Some(1)), (0, 0));
        part.change();
        assert_eq!(store(&mut part, Some(2)), (1, 1));
        part.change();
        assert_eq!(store(&mut part, None), (0, 1));
        part.change();
        assert_eq!(store(&mut part, None), (0, 0));
    }

    #[test]
    fn a_restored_part_stays_unless_the_lanes_change() {
        let mut part = WholePart::default();
        part.change();
        part.restore("it", Restore::InPlace);
        assert_eq!(store(&mut part, Some(1)), (0, 0));
        assert_eq!(part.take_name().as_deref(), Some("it"));

        let mut part = WholePart::default();
        part.restore("it", Restore::Rescaled);
        assert_eq!(store(&mut part, Some(1)), (1, 0));
    }
}
