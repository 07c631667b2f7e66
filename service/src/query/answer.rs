//! The rows of an answer, and their output formats.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch},
    compute::{CastOptions, cast_with_options},
    csv,
    datatypes::{DataType, Field, Schema, SchemaRef},
    json,
    util::display::{ArrayFormatter, FormatOptions},
};
use tagflow_engine::Result;

use super::grid::Grid;

/// The rows of an answer.
#[derive(Debug, Clone)]
pub struct Answer {
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
}

impl Answer {
    /// Columns of bytes become text if all their values are text.
    pub(crate) fn new(schema: SchemaRef, batches: Vec<RecordBatch>) -> Self {
        let mut answer = Self { schema, batches };
        for column in 0..answer.schema.fields().len() {
            answer.decode(column);
        }
        answer
    }

    fn decode(&mut self, column: usize) {
        let field = self.schema.field(column);
        let is_binary = matches!(
            field.data_type(),
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView
        );
        if !is_binary {
            return;
        }
        let strict = CastOptions {
            safe: false,
            ..CastOptions::default()
        };
        let text =
            |batch: &RecordBatch| cast_with_options(batch.column(column), &DataType::Utf8, &strict);
        let Ok(texts) = self.batches.iter().map(text).collect::<Result<Vec<_>, _>>() else {
            return;
        };
        let mut fields: Vec<Arc<Field>> = self.schema.fields().iter().cloned().collect();
        fields[column] = Arc::new(field.clone().with_data_type(DataType::Utf8));
        let schema = Arc::new(Schema::new(fields));
        let replaced = self.batches.iter().zip(texts).map(|(batch, text)| {
            let mut columns = batch.columns().to_vec();
            columns[column] = text;
            RecordBatch::try_new(Arc::clone(&schema), columns)
        });
        if let Ok(batches) = replaced.collect::<Result<Vec<_>, _>>() {
            self.batches = batches;
            self.schema = schema;
        }
    }

    /// The rows.
    pub fn batches(&self) -> &[RecordBatch] {
        &self.batches
    }

    /// How many rows.
    pub fn num_rows(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }

    /// Aligned columns, then the number of rows. With a `width` the lines are no longer than that,
    /// and a note marks omissions.
    ///
    /// # Errors
    /// `Internal` where a value cannot be written.
    pub fn table(&self, width: Option<usize>) -> Result<String> {
        let fields = self.schema.fields().iter();
        let header = fields.map(|field| one_line(field.name())).collect();
        let mut rows = Vec::with_capacity(self.num_rows());
        for batch in &self.batches {
            let columns: Vec<Vec<String>> =
                batch.columns().iter().map(cells).collect::<Result<_>>()?;
            rows.extend((0..batch.num_rows()).map(|row| {
                let cells = columns.iter().map(|column| column[row].clone());
                cells.collect::<Vec<_>>()
            }));
        }
        Ok(Grid { header, rows }.text(width))
    }

    /// Comma-separated values with a header.
    ///
    /// # Errors
    /// `Internal` where a value cannot be written, such as a list.
    pub fn csv(&self) -> Result<String> {
        let mut out = Vec::new();
        let mut writer = csv::WriterBuilder::new().with_header(true).build(&mut out);
        if self.batches.is_empty() {
            writer.write(&RecordBatch::new_empty(self.schema.clone()))?;
        }
        for batch in &self.batches {
            writer.write(batch)?;
        }
        drop(writer);
        Ok(text(out))
    }

    /// One JSON object per line; nulls are written.
    ///
    /// # Errors
    /// `Internal` where a value cannot be written.
    pub fn json(&self) -> Result<String> {
        let mut out = Vec::new();
        let builder = json::WriterBuilder::new().with_explicit_nulls(true);
        let mut writer = builder.build::<_, json::writer::LineDelimited>(&mut out);
        for batch in &self.batches {
            writer.write(batch)?;
        }
        writer.finish()?;
        drop(writer);
        Ok(text(out))
    }
}

/// The values of a column, one line each. Bytes that are text show as text.
fn cells(column: &ArrayRef) -> Result<Vec<String>> {
    let options = FormatOptions::default();
    let formatter = ArrayFormatter::try_new(column, &options)?;
    let bytes = column.as_binary_opt::<i32>();
    let cell = |row: usize| {
        let text = bytes
            .filter(|bytes| bytes.is_valid(row))
            .and_then(|bytes| std::str::from_utf8(bytes.value(row)).ok());
        text.map_or_else(|| one_line(&formatter.value(row).to_string()), one_line)
    };
    Ok((0..column.len()).map(cell).collect())
}

/// Without line breaks and escape codes.
fn one_line(text: &str) -> String {
    if !text.contains(char::is_control) {
        return text.to_owned();
    }
    let escaped = |c: char| match c {
        c if c.is_control() => c.escape_default().to_string(),
        c => c.to_string(),
    };
    text.chars().map(escaped).collect()
}

/// Both writers write UTF-8 only.
fn text(bytes: Vec<u8>) -> String {
    String::from_utf8_lossy(&bytes).into_owned()
}
