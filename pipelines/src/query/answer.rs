//! The rows of an answer, and how they are written.

use arrow::datatypes::SchemaRef;
use arrow::{array::RecordBatch, csv, json, util::pretty::pretty_format_batches_with_schema};
use tagflow_engine::Result;

/// The rows of an answer.
#[derive(Debug, Clone)]
pub struct Answer {
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
}

impl Answer {
    pub(crate) fn new(schema: SchemaRef, batches: Vec<RecordBatch>) -> Self {
        Self { schema, batches }
    }

    /// The rows.
    pub fn batches(&self) -> &[RecordBatch] {
        &self.batches
    }

    /// How many rows.
    pub fn num_rows(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }

    /// Columns for the eye, then how many rows.
    ///
    /// # Errors
    /// `Internal` where a value cannot be written.
    pub fn table(&self) -> Result<String> {
        let table = pretty_format_batches_with_schema(self.schema.clone(), &self.batches)?;
        let rows = match self.num_rows() {
            1 => "1 row".to_owned(),
            rows => format!("{rows} rows"),
        };
        Ok(format!("{table}\n{rows}\n"))
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

    /// A JSON object a line; nulls are written.
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

/// Both writers write UTF-8 only.
fn text(bytes: Vec<u8>) -> String {
    String::from_utf8_lossy(&bytes).into_owned()
}
