//! Builds one record batch row by row.

use arrow::{
    datatypes::SchemaRef,
    record_batch::{RecordBatch, RecordBatchOptions},
};
use tagflow_engine::Result;
use tagflow_schemas::Column;

use super::{buffer::ColumnBuffer, decode_error::DecodeError};

/// Columns that grow row by row. The cells of the incomplete row follow the others and can be
/// removed.
#[derive(Debug)]
pub(super) struct RowBuilder {
    schema: SchemaRef,
    columns: Vec<Column>,
    buffers: Vec<ColumnBuffer>,
    /// Complete rows.
    rows: usize,
}

impl RowBuilder {
    pub(super) fn new(columns: Vec<Column>) -> Self {
        Self {
            schema: Column::schema(&columns),
            buffers: columns
                .iter()
                .map(|column| ColumnBuffer::new(&column.kind))
                .collect(),
            columns,
            rows: 0,
        }
    }

    pub(super) fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// The column's name, and the buffer for the current row's value. An earlier value of the same
    /// row is removed: the last one wins.
    #[inline]
    pub(super) fn cell(&mut self, column: usize) -> (&str, &mut ColumnBuffer) {
        let buffer = &mut self.buffers[column];
        buffer.truncate(self.rows);
        (&self.columns[column].name, buffer)
    }

    /// Completes the current row: missing columns become null where they may.
    pub(super) fn end_row(&mut self) -> Result<(), DecodeError> {
        for (column, buffer) in self.columns.iter().zip(&mut self.buffers) {
            if buffer.len() == self.rows {
                if !column.nullable {
                    return Err(DecodeError::missing_field(&column.name));
                }
                buffer.append_null();
            }
        }
        self.rows += 1;
        Ok(())
    }

    /// Discards the current row.
    pub(super) fn undo_row(&mut self) {
        for buffer in &mut self.buffers {
            buffer.truncate(self.rows);
        }
    }

    /// Returns the complete rows and leaves an empty builder.
    pub(super) fn finish(&mut self) -> Result<RecordBatch> {
        let arrays = self
            .buffers
            .iter_mut()
            .map(ColumnBuffer::finish)
            .collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows));
        self.rows = 0;
        Ok(RecordBatch::try_new_with_options(
            self.schema.clone(),
            arrays,
            &options,
        )?)
    }
}
