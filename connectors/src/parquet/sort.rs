//! Rows held back until they fill a row group, then sorted.

use std::mem;

use arrow::{
    compute::{SortColumn, SortOptions, concat_batches, lexsort_to_indices, take_record_batch},
    datatypes::SchemaRef,
    error::ArrowError,
    record_batch::RecordBatch,
};

/// Ascending, nulls first.
pub(super) const ORDER: SortOptions = SortOptions {
    descending: false,
    nulls_first: true,
};

/// The rows of the row group to come.
#[derive(Debug)]
pub(super) struct SortBuffer {
    schema: SchemaRef,
    columns: Vec<usize>,
    batches: Vec<RecordBatch>,
    rows: usize,
    bytes: usize,
}

impl SortBuffer {
    /// Sorts by `columns` of `schema`.
    pub(super) fn new(schema: SchemaRef, columns: Vec<usize>) -> Self {
        Self {
            schema,
            columns,
            batches: Vec::new(),
            rows: 0,
            bytes: 0,
        }
    }

    /// Takes rows.
    pub(super) fn push(&mut self, rows: RecordBatch) {
        self.rows += rows.num_rows();
        self.bytes += rows.get_array_memory_size();
        self.batches.push(rows);
    }

    /// How many rows it holds.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Memory that they take.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Gives all rows back, sorted; rows that compare equal keep no order.
    pub(super) fn drain(&mut self) -> Result<RecordBatch, ArrowError> {
        let batches = mem::take(&mut self.batches);
        (self.rows, self.bytes) = (0, 0);
        let rows = concat_batches(&self.schema, &batches)?;
        drop(batches);
        let keys: Vec<_> = self
            .columns
            .iter()
            .map(|&column| SortColumn {
                values: rows.column(column).clone(),
                options: Some(ORDER),
            })
            .collect();
        take_record_batch(&rows, &lexsort_to_indices(&keys, None)?)
    }
}
