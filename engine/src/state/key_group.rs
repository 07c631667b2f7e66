//! Key groups: 256 hash ranges, the grain in which keyed state moves.

use std::fmt;

use arrow::{
    array::{Array, ArrayRef},
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

/// A key that is known by its hash alone: two 64-bit halves, XXH3 with two seeds.
/// The odds that any two of n keys share one are n² / 2¹²⁹: 4 in 10²⁴ for 50
/// million keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyHash {
    /// The half with the key group.
    pub high: u64,
    /// The other half.
    pub low: u64,
}

/// Any number but 0, the seed of the high half.
const LOW_SEED: u64 = 0x9e37_79b9_7f4a_7c15;

impl KeyHash {
    /// The key's group.
    pub fn key_group(self) -> KeyGroup {
        (self.high >> 56) as KeyGroup
    }

    /// The hash of the key together with `number`.
    #[must_use]
    pub fn with(self, number: i64) -> Self {
        let mut bytes = [0; 24];
        bytes[..8].copy_from_slice(&self.high.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.low.to_be_bytes());
        bytes[16..].copy_from_slice(&number.to_be_bytes());
        Self::of(&bytes)
    }

    fn of(bytes: &[u8]) -> Self {
        Self {
            high: XxHash3_64::oneshot(bytes),
            low: XxHash3_64::oneshot_with_seed(LOW_SEED, bytes),
        }
    }
}

impl fmt::Display for KeyHash {
    /// 32 hex digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}{:016x}", self.high, self.low)
    }
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

    /// The hash of the key in each row of `columns`; none where a column is null.
    pub fn hashes(&self, columns: &[ArrayRef]) -> Result<Vec<Option<KeyHash>>> {
        let rows = self.rows.convert_columns(columns)?;
        let is_null = |row| columns.iter().any(|column| column.is_null(row));
        let hashes = rows.iter().enumerate();
        Ok(hashes
            .map(|(row, key)| (!is_null(row)).then(|| KeyHash::of(key.as_ref())))
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
        let hashes = hasher.hashes(&keys).unwrap();
        let groups: Vec<_> = hashes.iter().map(|it| it.map(KeyHash::key_group)).collect();
        assert_eq!(groups, [Some(156), Some(58), None]);
        let first = hashes[0].unwrap();
        assert_eq!(
            first.with(1).to_string(),
            "26837c5ac2da2f3bfa5b8a232b88c76c"
        );
    }
}
