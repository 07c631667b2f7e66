//! Rows that are buffered until their file ends, then sorted.

use std::ops::Range;

use arrow::{
    array::{Array, RecordBatch, UInt32Array},
    compute::{SortColumn, SortOptions, concat, interleave_record_batch, lexsort_to_indices},
    error::ArrowError,
};

/// Ascending, nulls first.
pub(super) const ORDER: SortOptions = SortOptions {
    descending: false,
    nulls_first: true,
};

/// The rows of a file.
#[derive(Debug)]
pub(super) struct SortBuffer {
    /// The sort columns.
    columns: Vec<usize>,
    batches: Vec<RecordBatch>,
    rows: usize,
    bytes: usize,
}

impl SortBuffer {
    /// Sorts by these columns.
    pub(super) fn new(columns: Vec<usize>) -> Self {
        Self {
            columns,
            batches: Vec::new(),
            rows: 0,
            bytes: 0,
        }
    }

    /// Adds rows.
    pub(super) fn push(&mut self, rows: RecordBatch) -> Result<(), ArrowError> {
        self.rows += rows.num_rows();
        // Batches share buffers, which count once.
        for column in rows.columns() {
            self.bytes += column.to_data().get_slice_memory_size()?;
        }
        self.batches.push(rows);
        Ok(())
    }

    /// The memory of the rows.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Passes on all rows, sorted, in groups of even size with at most `group_rows` rows. The order
    /// of equal rows is undefined.
    pub(super) fn drain<E: From<ArrowError>>(
        self,
        group_rows: usize,
        mut pass_on: impl FnMut(RecordBatch) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.rows == 0 {
            return Ok(());
        }
        let order = self.order()?;
        let places = self.places();
        let batches: Vec<&RecordBatch> = self.batches.iter().collect();
        for group in even(self.rows, group_rows) {
            let rows = order.values()[group].iter();
            let rows: Vec<_> = rows.map(|row| places[*row as usize]).collect();
            pass_on(interleave_record_batch(&batches, &rows)?)?;
        }
        Ok(())
    }

    /// The indexes of the rows, sorted.
    fn order(&self) -> Result<UInt32Array, ArrowError> {
        let keys = self.columns.iter().map(|&column| {
            let parts: Vec<&dyn Array> = self
                .batches
                .iter()
                .map(|batch| batch.column(column).as_ref())
                .collect();
            Ok(SortColumn {
                values: concat(&parts)?,
                options: Some(ORDER),
            })
        });
        lexsort_to_indices(&keys.collect::<Result<Vec<_>, ArrowError>>()?, None)
    }

    /// The batch of each row, and its index there.
    fn places(&self) -> Vec<(usize, usize)> {
        let batches = self.batches.iter().enumerate();
        batches
            .flat_map(|(number, batch)| (0..batch.num_rows()).map(move |row| (number, row)))
            .collect()
    }
}

/// The fewest ranges of even size that split `count` rows, with at most `limit` rows each.
fn even(count: usize, limit: usize) -> impl Iterator<Item = Range<usize>> {
    let groups = count.div_ceil(limit.max(1));
    (0..groups).map(move |group| count * group / groups..count * (group + 1) / groups)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regression_groups_are_of_even_size() {
        let sizes = |count, limit| {
            let ranges = even(count, limit).collect::<Vec<_>>();
            assert!(ranges.windows(2).all(|two| two[0].end == two[1].start));
            ranges
                .iter()
                .map(ExactSizeIterator::len)
                .collect::<Vec<_>>()
        };
        assert_eq!(sizes(51_920, 50_000), [25_960, 25_960]);
        assert_eq!(sizes(10_000, 4_000), [3_333, 3_333, 3_334]);
        assert_eq!(sizes(8_000, 4_000), [4_000, 4_000]);
        assert_eq!(sizes(1, 4_000), [1]);
    }
}
