//! Rows split by key, so that one portion at a time fits memory.

use std::ops::Range;

use arrow::{
    array::{ArrayRef, UInt32Array},
    compute::take_record_batch,
    record_batch::RecordBatch,
};
use tagflow_engine::{Result, state::KeyHasher};

/// The number of bytes of state that an operator turns into output at a time.
pub(crate) const PORTION_BYTES: usize = 4 << 20;

/// A portion has at least this many rows: batches may be small views of the same large
/// buffer, and then their size in bytes means little.
const MIN_ROWS: usize = 1024;

/// The number of rows to hash at a time.
const HASHED_ROWS: usize = 8192;

/// Batches split into portions: all rows of a key are in the same portion.
pub(crate) struct Portions {
    batches: Vec<Batch>,
    count: usize,
    next: usize,
}

struct Batch {
    rows: RecordBatch,
    /// The rows in the order of their portions, and the end of each portion; none for a
    /// single portion.
    order: Option<(UInt32Array, Vec<usize>)>,
}

/// The number of portions of `portion_bytes` in these batches.
pub(crate) fn portions_of(batches: &[RecordBatch], portion_bytes: usize) -> usize {
    let bytes = batches.iter().map(RecordBatch::get_array_memory_size);
    let rows = batches.iter().map(RecordBatch::num_rows);
    let min_rows = MIN_ROWS.min(portion_bytes);
    let most = rows.sum::<usize>().div_ceil(min_rows);
    bytes
        .sum::<usize>()
        .div_ceil(portion_bytes)
        .min(most)
        .max(1)
}

impl Portions {
    /// Splits `batches` into `count` portions by the columns `key`, which `hasher`
    /// hashes.
    pub(crate) fn new(
        batches: Vec<RecordBatch>,
        count: usize,
        hasher: &KeyHasher,
        key: &[usize],
    ) -> Result<Self> {
        let cut = |rows: RecordBatch| {
            let order = match count {
                1 => None,
                _ => Some(order(&rows, count, hasher, key)?),
            };
            Ok(Batch { rows, order })
        };
        Ok(Self {
            batches: batches.into_iter().map(cut).collect::<Result<_>>()?,
            count,
            next: 0,
        })
    }

    /// The next portion that has rows.
    pub(crate) fn next_filled(&mut self) -> Result<Option<Vec<RecordBatch>>> {
        while let Some(batches) = self.next()? {
            if !batches.is_empty() {
                return Ok(Some(batches));
            }
        }
        Ok(None)
    }

    /// The next portion: non-empty batches.
    pub(crate) fn next(&mut self) -> Result<Option<Vec<RecordBatch>>> {
        if self.next == self.count {
            return Ok(None);
        }
        let number = self.next;
        self.next += 1;
        let batches = self.batches.iter().map(|batch| batch.portion(number));
        let mut batches: Vec<RecordBatch> = batches.collect::<Result<_>>()?;
        batches.retain(|rows| rows.num_rows() > 0);
        Ok(Some(batches))
    }
}

impl Batch {
    fn portion(&self, number: usize) -> Result<RecordBatch> {
        let Some((order, ends)) = &self.order else {
            return Ok(self.rows.clone());
        };
        let start = number.checked_sub(1).map_or(0, |before| ends[before]);
        let places = order.slice(start, ends[number] - start);
        Ok(take_record_batch(&self.rows, &places)?)
    }
}

/// The rows in the order of their portions, and the end of each portion.
fn order(
    rows: &RecordBatch,
    count: usize,
    hasher: &KeyHasher,
    key: &[usize],
) -> Result<(UInt32Array, Vec<usize>)> {
    let columns: Vec<ArrayRef> = rows.project(key)?.columns().to_vec();
    let mut portions: Vec<u32> = Vec::with_capacity(rows.num_rows());
    for rows in ranges(rows.num_rows()) {
        let columns: Vec<ArrayRef> = columns
            .iter()
            .map(|column| column.slice(rows.start, rows.len()))
            .collect();
        portions.extend(hasher.portions(&columns, count)?);
    }
    // A counting sort.
    let mut ends = vec![0; count];
    for portion in &portions {
        ends[*portion as usize] += 1;
    }
    let mut end = 0;
    for rows in &mut ends {
        end += *rows;
        *rows = end;
    }
    let mut free: Vec<usize> = [0].into_iter().chain(ends.iter().copied()).collect();
    let mut order = vec![0; portions.len()];
    for (row, portion) in (0_u32..).zip(portions) {
        let place = &mut free[portion as usize];
        order[*place] = row;
        *place += 1;
    }
    Ok((UInt32Array::from(order), ends))
}

fn ranges(rows: usize) -> impl Iterator<Item = Range<usize>> {
    (0..rows)
        .step_by(HASHED_ROWS)
        .map(move |start| start..rows.min(start + HASHED_ROWS))
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc};

    use arrow::{
        array::{AsArray, Int64Array},
        datatypes::{DataType, Int64Type},
    };

    use super::*;

    fn rows(keys: impl Iterator<Item = i64>) -> RecordBatch {
        let keys: ArrayRef = Arc::new(Int64Array::from_iter_values(keys));
        RecordBatch::try_from_iter([("key", keys)]).unwrap()
    }

    #[test]
    fn each_key_is_whole_in_one_portion_and_no_row_is_lost() {
        let hasher = KeyHasher::new([DataType::Int64]).unwrap();
        let batches = vec![rows(0..20_000), rows((0..20_000).rev()), rows(7..8)];
        let mut portions = Portions::new(batches, 7, &hasher, &[0]).unwrap();
        let mut found: BTreeMap<i64, Vec<usize>> = BTreeMap::new();
        let mut number = 0;
        while let Some(batches) = portions.next().unwrap() {
            let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
            assert!((4000..8000).contains(&rows), "{rows}");
            for key in batches
                .iter()
                .flat_map(|rows| rows.column(0).as_primitive::<Int64Type>().values())
            {
                found.entry(*key).or_default().push(number);
            }
            number += 1;
        }
        assert_eq!(number, 7);
        assert_eq!(found.len(), 20_000);
        for (key, portions) in found {
            assert_eq!(portions.len(), if key == 7 { 3 } else { 2 });
            assert!(portions.iter().all(|it| *it == portions[0]), "{key}");
        }
    }

    #[test]
    fn small_rows_are_one_portion_as_they_are() {
        let hasher = KeyHasher::new([DataType::Int64]).unwrap();
        let batches = vec![rows(0..10), rows(0..0)];
        assert_eq!(portions_of(&batches, PORTION_BYTES), 1);
        assert_eq!(portions_of(&[], PORTION_BYTES), 1);
        assert_eq!(portions_of(&[rows(0..1_000_000)], PORTION_BYTES), 2);
        let mut portions = Portions::new(batches, 1, &hasher, &[0]).unwrap();
        assert_eq!(portions.next().unwrap().unwrap(), [rows(0..10)]);
        assert!(portions.next().unwrap().is_none());
    }
}
