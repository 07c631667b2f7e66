//! The rows of the dead-letter table.

use std::{borrow::Cow, sync::Arc};

use arrow::{array::UInt32Array, compute::take_record_batch, record_batch::RecordBatch};
use tagflow_engine::{
    Clock, Error, Result,
    source::{Chunk, ColumnRows, DeadLetters, EncodedRows, Rejected, Rows},
};
use tagflow_schemas::{
    dead_letter::{self, DeadLetter},
    personal,
};

use crate::format::Mask;

/// Makes dead letters that hold the rejected rows' original bytes, except for the values that a
/// [`Mask`] hides. Columnar rows have no original bytes, so their payload is the row as a JSON
/// object.
pub struct DeadLetterRows {
    pipeline: Arc<str>,
    clock: Arc<dyn Clock>,
    mask: Mask,
}

impl DeadLetterRows {
    /// For pipeline `pipeline`; `clock` gives the time of rejection.
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
        let mut letters = dead_letter::Builder::default();
        let payloads = payloads(&chunk.rows, rejected, &self.mask)?;
        for (rejected, payload) in rejected.iter().zip(&payloads) {
            let offset = chunk.rows.offset(rejected.row as usize);
            letters.push(&DeadLetter {
                origin: Some((source, &chunk.partition, Some(offset))),
                reason: rejected.reason,
                field: rejected.field.as_deref(),
                error: &rejected.message,
                payload: payload.as_deref(),
                expression: None,
            });
        }
        Ok(letters.finish(&self.pipeline, self.clock.now().as_micros())?)
    }
}

/// The payload of each rejected row; `None` for a tombstone.
fn payloads<'r>(
    rows: &'r Rows,
    rejected: &[Rejected],
    mask: &Mask,
) -> Result<Vec<Option<Cow<'r, [u8]>>>> {
    match rows {
        Rows::Encoded(rows) => original_bytes(rows, rejected, mask),
        Rows::Columns(rows) => json_objects(rows, rejected, mask),
    }
}

fn original_bytes<'r>(
    rows: &'r EncodedRows,
    rejected: &[Rejected],
    mask: &Mask,
) -> Result<Vec<Option<Cow<'r, [u8]>>>> {
    let row = |rejected: &Rejected| rows.row(rejected.row as usize);
    let bytes: usize = rejected.iter().filter_map(row).map(<[u8]>::len).sum();
    if i32::try_from(bytes).is_err() {
        return Err(Error::internal(format!(
            "a chunk has {bytes} bytes of dead letters"
        )));
    }
    let masked = |rejected| row(rejected).map(|bytes| mask.row(rows, bytes));
    Ok(rejected.iter().map(masked).collect())
}

fn json_objects<'r>(
    rows: &ColumnRows,
    rejected: &[Rejected],
    mask: &Mask,
) -> Result<Vec<Option<Cow<'r, [u8]>>>> {
    let indices = UInt32Array::from_iter_values(rejected.iter().map(|rejected| rejected.row));
    let bad = take_record_batch(&rows.records, &indices)?;
    let bad = personal::masked(&bad, |column| mask.hides(column))?;
    let objects = dead_letter::json_objects(&bad)?.into_iter();
    Ok(objects.map(|object| Some(Cow::Owned(object))).collect())
}

#[cfg(test)]
mod tests;
