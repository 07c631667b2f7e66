//! Key groups: 256 hash ranges, the grain in which keyed state moves.

use arrow::{
    array::ArrayRef,
    datatypes::DataType,
    row::{RowConverter, SortField},
};
use twox_hash::XxHash3_64;

use crate::Result;

/// How many key groups there are.
pub const KEY_GROUPS: usize = 256;

/// The column of a state part that holds a row's key group.
pub const KEY_GROUP_COLUMN: &str = "_key_group";

/// One of the 256 ranges that keys hash to.
pub type KeyGroup = u8;

/// The lane that owns `group` when there are `lanes`.
pub fn lane_of(group: KeyGroup, lanes: usize) -> usize {
    usize::from(group) * lanes / KEY_GROUPS
}

/// Hashes keys to key groups: XXH3 of Arrow's row format, the same on every
/// machine, because state that is stored names them.
#[derive(Debug)]
pub struct KeyHasher {
    rows: RowConverter,
}

impl KeyHasher {
    /// For key columns of these types.
    pub fn new(types: impl IntoIterator<Item = DataType>) -> Result<Self> {
        let fields = types.into_iter().map(SortField::new).collect();
        Ok(Self {
            rows: RowConverter::new(fields)?,
        })
    }

    /// The key group of each row of `columns`.
    pub fn key_groups(&self, columns: &[ArrayRef]) -> Result<Vec<KeyGroup>> {
        let rows = self.rows.convert_columns(columns)?;
        Ok(rows
            .iter()
            .map(|row| (XxHash3_64::oneshot(row.as_ref()) >> 56) as KeyGroup)
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int64Array, StringArray};

    use super::*;

    #[test]
    fn lanes_own_contiguous_ranges() {
        for lanes in 1..=7 {
            let owners: Vec<usize> = (0..=u8::MAX).map(|group| lane_of(group, lanes)).collect();
            assert!(owners.is_sorted());
            assert_eq!(owners.first(), Some(&0));
            assert_eq!(owners.last(), Some(&(lanes - 1)));
        }
    }

    #[test]
    fn key_groups_are_stable() {
        let hasher = KeyHasher::new([DataType::Utf8, DataType::Int64]).unwrap();
        let keys: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from(vec![Some("c1"), Some("c2"), None])),
            Arc::new(Int64Array::from(vec![1, 2, 3])),
        ];
        // Stored state depends on these values: a change of them loses state.
        assert_eq!(hasher.key_groups(&keys).unwrap(), vec![156, 58, 46]);
    }
}
