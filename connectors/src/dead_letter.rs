//! Rows of the dead-letter table.

use std::sync::Arc;

use arrow::{
    array::{
        ArrayRef, BinaryBuilder, Int64Array, StringArray, TimestampMicrosecondArray, UInt32Array,
    },
    compute::take_record_batch,
    json::{WriterBuilder, writer::LineDelimited},
    record_batch::RecordBatch,
};
use tagflow_engine::{
    Clock, Error, Result,
    source::{Chunk, ColumnRows, DeadLetters, EncodedRows, Rejected, Rows},
};
use tagflow_schemas::{dead_letter, personal};

use crate::format::Mask;

/// Makes dead letters that hold the rejected rows' original bytes, whole but for
/// what a [`Mask`] hides. Rows that came as columns have none, so theirs are the
/// row as a JSON object.
pub struct DeadLetterRows {
    pipeline: Arc<str>,
    clock: Arc<dyn Clock>,
    mask: Mask,
}

impl DeadLetterRows {
    /// For pipeline `pipeline`; `clock` says when a row was set aside.
    pub fn new(pipeline: impl Into<Arc<str>>, clock: Arc<dyn Clock>, mask: Mask) -> Self {
        Self {
            pipeline: pipeline.into(),
            clock,
            mask,
        }
    }
}

impl DeadLetters for DeadLetterRows {
    fn batch(&mut self, source: &str, chunk: &Chunk, rejected: &[Rejected]) -> Result<RecordBatch> {
        let constant = |text: &str| -> ArrayRef {
            Arc::new(StringArray::from_iter_values(std::iter::repeat_n(
                text,
                rejected.len(),
            )))
        };
        let texts = |text: fn(&Rejected) -> Option<&str>| -> ArrayRef {
            Arc::new(rejected.iter().map(text).collect::<StringArray>())
        };
        let offsets = rejected
            .iter()
            .map(|rejected| chunk.rows.offset(rejected.row as usize));
        let failed_at = vec![self.clock.now().as_micros(); rejected.len()];
        let columns: Vec<ArrayRef> = vec![
            constant(&self.pipeline),
            constant(source),
            constant(&chunk.partition),
            Arc::new(Int64Array::from_iter_values(offsets)),
            texts(|rejected| Some(rejected.reason)),
            texts(|rejected| rejected.field.as_deref()),
            texts(|rejected| Some(&rejected.message)),
            payloads(&chunk.rows, rejected, &self.mask)?,
            Arc::new(TimestampMicrosecondArray::from(failed_at).with_timezone("UTC")),
        ];
        Ok(RecordBatch::try_new(dead_letter::schema(), columns)?)
    }
}

fn payloads(rows: &Rows, rejected: &[Rejected], mask: &Mask) -> Result<ArrayRef> {
    match rows {
        Rows::Encoded(rows) => original_bytes(rows, rejected, mask),
        Rows::Columns(rows) => json_objects(rows, rejected, mask),
    }
}

fn original_bytes(rows: &EncodedRows, rejected: &[Rejected], mask: &Mask) -> Result<ArrayRef> {
    let row = |rejected: &Rejected| rows.row(rejected.row as usize);
    let bytes: usize = rejected.iter().filter_map(row).map(<[u8]>::len).sum();
    if i32::try_from(bytes).is_err() {
        return Err(Error::internal(format!(
            "a chunk has {bytes} bytes of dead letters"
        )));
    }
    let mut payloads = BinaryBuilder::with_capacity(rejected.len(), bytes);
    for rejected in rejected {
        payloads.append_option(row(rejected).map(|bytes| mask.row(rows, bytes)));
    }
    Ok(Arc::new(payloads.finish()))
}

fn json_objects(rows: &ColumnRows, rejected: &[Rejected], mask: &Mask) -> Result<ArrayRef> {
    let indices = UInt32Array::from_iter_values(rejected.iter().map(|rejected| rejected.row));
    let bad = take_record_batch(&rows.records, &indices)?;
    let bad = personal::masked(&bad, |column| mask.hides(column))?;
    let mut json = Vec::new();
    let mut writer = WriterBuilder::new()
        .with_explicit_nulls(true)
        .build::<_, LineDelimited>(&mut json);
    writer.write(&bad)?;
    writer.finish()?;
    drop(writer);
    // JSON escapes the line feeds within strings.
    let mut payloads = BinaryBuilder::with_capacity(rejected.len(), json.len());
    for object in json.split(|&byte| byte == b'\n').take(rejected.len()) {
        payloads.append_value(object);
    }
    Ok(Arc::new(payloads.finish()))
}

#[cfg(test)]
mod tests;
