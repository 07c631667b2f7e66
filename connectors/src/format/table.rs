//! The rows of one record batch while it is being filled.

use arrow::{
    datatypes::SchemaRef,
    record_batch::{RecordBatch, RecordBatchOptions},
};
use tagflow_engine::Result;
use tagflow_schemas::Column;

use super::{buffer::ColumnBuffer, problem::Problem};

/// Columns that grow row by row. The cells of a row that is not complete yet
/// lie after the others and can be taken back.
#[derive(Debug)]
pub(super) struct Table {
    schema: SchemaRef,
    columns: Vec<Column>,
    buffers: Vec<ColumnBuffer>,
    /// Complete rows.
    rows: usize,
}

impl Table {
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

    /// The name of a column and the buffer to put the current row's value into,
    /// without the value that it may have been given before: the last one wins.
    #[inline]
    pub(super) fn cell(&mut self, column: usize) -> (&str, &mut ColumnBuffer) {
        let buffer = &mut self.buffers[column];
        buffer.truncate(self.rows);
        (&self.columns[column].name, buffer)
    }

    /// Completes the current row: what it lacks is null, where it may be.
    pub(super) fn end_row(&mut self) -> Result<(), Problem> {
        for (column, buffer) in self.columns.iter().zip(&mut self.buffers) {
            if buffer.len() == self.rows {
                if !column.nullable {
                    return Err(Problem::missing_field(&column.name));
                }
                buffer.append_null();
            }
        }
        self.rows += 1;
        Ok(())
    }

    /// Forgets the current row.
    pub(super) fn undo_row(&mut self) {
        for buffer in &mut self.buffers {
            buffer.truncate(self.rows);
        }
    }

    /// Takes the complete rows and starts anew.
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
