//! Key groups: 256 hash ranges, the unit in which keyed state moves between lanes.

use std::{fmt, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, UInt8Array},
    datatypes::{DataType, Field, Schema},
    record_batch::RecordBatch,
    row::{Row, RowConverter, Rows, SortField},
};
use twox_hash::XxHash3_64;

use super::key_column;
use crate::Result;

/// The number of key groups.
pub const KEY_GROUPS: usize = 256;

/// The column of a state part that holds a row's key group.
pub const KEY_GROUP_COLUMN: &str = "_key_group";

/// One of the 256 ranges that keys hash to.
pub type KeyGroup = u8;

/// The lane that owns `group`, given the number of `lanes`.
pub fn lane_of(group: KeyGroup, lanes: usize) -> usize {
    usize::from(group) * lanes / KEY_GROUPS
}

/// A key that is identified by its hash: two 64-bit halves, XXH3 with two seeds. The probability
/// that any two of n keys have the same hash is n² / 2¹²⁹: 4 in 10²⁴ for 50 million keys.
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

/// The number of rows to hash at a time.
const HASHED_ROWS: usize = 8192;

/// Hashes keys to key groups: XXH3 of Arrow's row format. It is the same on every machine, because
/// stored state contains the groups. Floats are hashed in the form of [`key_column`].
#[derive(Debug)]
pub struct KeyHasher {
    rows: RowConverter,
}

impl KeyHasher {
    /// A hasher for key columns of these types.
    pub fn new(types: impl IntoIterator<Item = DataType>) -> Result<Self> {
        let fields = types.into_iter().map(SortField::new).collect();
        Ok(Self {
            rows: RowConverter::new(fields)?,
        })
    }

    /// The key group of each row of `columns`.
    pub fn key_groups(&self, columns: &[ArrayRef]) -> Result<Vec<KeyGroup>> {
        let rows = columns.first().map_or(0, arrow::array::Array::len);
        let mut groups = Vec::with_capacity(rows);
        // Encoded keys can be larger than the columns, so they are made for some rows at a time.
        for start in (0..rows).step_by(HASHED_ROWS) {
            let some = HASHED_ROWS.min(rows - start);
            let columns = columns.iter().map(|column| column.slice(start, some));
            let keys = self.rows(&columns.collect::<Vec<_>>())?;
            let group = |key: Row<'_>| (XxHash3_64::oneshot(key.as_ref()) >> 56) as KeyGroup;
            groups.extend(keys.iter().map(group));
        }
        Ok(groups)
    }

    /// `rows` in the form of a state part, with the key group of each row. The keys are `columns`.
    ///
    /// # Errors
    /// `Internal` if there are no such columns.
    pub fn with_key_groups(&self, rows: &RecordBatch, columns: &[usize]) -> Result<RecordBatch> {
        let groups = self.key_groups(rows.project(columns)?.columns())?;
        with_key_groups(rows, groups.into())
    }

    /// A number below `count` for each row of `columns`, the same for equal keys and
    /// independent of their groups.
    pub fn portions(&self, columns: &[ArrayRef], count: usize) -> Result<Vec<u32>> {
        let rows = self.rows(columns)?;
        Ok(rows
            .iter()
            .map(|row| {
                (XxHash3_64::oneshot_with_seed(LOW_SEED, row.as_ref()) % count as u64) as u32
            })
            .collect())
    }

    /// The hash of the key in each row of `columns`; `None` if a column is null.
    pub fn hashes(&self, columns: &[ArrayRef]) -> Result<Vec<Option<KeyHash>>> {
        let rows = self.rows(columns)?;
        let is_null = |row| columns.iter().any(|column| column.is_null(row));
        let hashes = rows.iter().enumerate();
        Ok(hashes
            .map(|(row, key)| (!is_null(row)).then(|| KeyHash::of(key.as_ref())))
            .collect())
    }

    fn rows(&self, columns: &[ArrayRef]) -> Result<Rows> {
        let columns: Vec<ArrayRef> = columns.iter().map(key_column).collect();
        Ok(self.rows.convert_columns(&columns)?)
    }
}

/// `rows` in the form of a state part: with the key group of each row.
///
/// # Errors
/// `Internal` if there are not as many groups as rows.
pub fn with_key_groups(rows: &RecordBatch, groups: UInt8Array) -> Result<RecordBatch> {
    let schema = rows.schema();
    let group = Arc::new(Field::new(KEY_GROUP_COLUMN, DataType::UInt8, true));
    let fields = schema.fields().iter().cloned().chain([group]);
    let mut columns = rows.columns().to_vec();
    columns.push(Arc::new(groups));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    Ok(RecordBatch::try_new(schema, columns)?)
}

/// The rows of a state part that every lane receives.
///
/// # Errors
/// `Internal` if the columns have different lengths.
pub fn rows_for_all<const N: usize>(columns: [(&str, ArrayRef); N]) -> Result<RecordBatch> {
    let columns = columns.map(|(name, values)| (name, values, true));
    let rows = RecordBatch::try_from_iter_with_nullable(columns)?;
    with_key_groups(&rows, UInt8Array::new_null(rows.num_rows()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Float64Array, Int64Array, StringArray};

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
        // Stored state depends on these values: a change loses state.
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
    #[test]
    fn regression_zeros_and_nans_have_one_hash() {
        let hasher = KeyHasher::new([DataType::Float64]).unwrap();
        let nan = f64::from_bits(0xfff8_0000_0000_0001);
        let keys: ArrayRef = Arc::new(Float64Array::from(vec![0.0, -0.0, f64::NAN, nan]));
        let keys = [keys];
        let hashes = hasher.hashes(&keys).unwrap();
        assert_eq!(hashes[0], hashes[1]);
        assert_eq!(hashes[2], hashes[3]);
        assert_ne!(hashes[0], hashes[2]);
        let groups = hasher.key_groups(&keys).unwrap();
        assert_eq!((groups[0], groups[2]), (groups[1], groups[3]));
    }

    #[test]
    fn null_is_not_the_empty_string() {
        let hasher = KeyHasher::new([DataType::Utf8, DataType::Utf8]).unwrap();
        let texts = |values: [Option<&str>; 2]| -> ArrayRef {
            Arc::new(StringArray::from(values.to_vec()))
        };
        let groups = hasher.key_groups(&[texts([Some(""), None]), texts([None, Some("")])]);
        let groups = groups.unwrap();
        assert_ne!(groups[0], groups[1]);
    }
}
