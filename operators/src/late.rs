//! Rows of the late output.

use std::{collections::BTreeSet, sync::Arc};

use arrow::{
    array::{Int64Array, StringArray, TimestampMicrosecondArray},
    error::ArrowError,
    json::{WriterBuilder, writer::LineDelimited},
    record_batch::RecordBatch,
};
use tagflow_engine::{EventTime, Origin, Result};
use tagflow_schemas::personal;

/// The offset of a row without a source partition.
const NO_OFFSET: i64 = -1;

/// Rows that were too late to count.
pub(crate) struct LateRows<'a> {
    /// The pipeline's name.
    pub(crate) pipeline: &'a str,
    /// The query's name.
    pub(crate) query: &'a str,
    /// Their origin.
    pub(crate) origin: &'a Origin,
    /// Their event times.
    pub(crate) event_times: TimestampMicrosecondArray,
    /// The times up to which they would have been in time.
    pub(crate) ends: TimestampMicrosecondArray,
    /// Their offsets, if they have any.
    pub(crate) offsets: Option<Int64Array>,
    /// The watermark at their arrival.
    pub(crate) watermark: EventTime,
    /// The reason.
    pub(crate) reason: &'static str,
    /// The columns whose values are masked.
    pub(crate) personal: &'a BTreeSet<String>,
    /// The columns that the query reads.
    pub(crate) rows: RecordBatch,
}

impl LateRows<'_> {
    /// Converts them to rows of [`tagflow_schemas::late::schema`]. Derived rows have neither source
    /// nor partition (empty strings) nor offset (-1).
    pub(crate) fn into_batch(self) -> Result<RecordBatch> {
        let count = self.rows.num_rows();
        let watermark = self.watermark.as_micros();
        let text = |value: &str| Arc::new(StringArray::from(vec![value; count]));
        let utc = |times: TimestampMicrosecondArray| Arc::new(times.with_timezone("UTC"));
        let (source, partition) = match self.origin {
            Origin::Partition(id) => (id.source.as_ref(), id.partition.as_ref()),
            Origin::Derived => ("", ""),
        };
        let offsets = self.offsets;
        let offsets = offsets.unwrap_or_else(|| Int64Array::from_value(NO_OFFSET, count));
        let delays: Int64Array = self.ends.unary(|end| watermark.saturating_sub(end));
        let shown = personal::masked(&self.rows, |name| self.personal.contains(name))?;
        Ok(RecordBatch::try_new(
            tagflow_schemas::late::schema(),
            vec![
                text(self.pipeline),
                text(self.query),
                text(source),
                text(partition),
                Arc::new(offsets),
                utc(self.event_times),
                utc(self.ends),
                utc(TimestampMicrosecondArray::from_value(watermark, count)),
                Arc::new(delays),
                text(self.reason),
                Arc::new(json_objects(&shown)?),
            ],
        )?)
    }
}

/// Each row as a JSON object, nulls included.
fn json_objects(rows: &RecordBatch) -> Result<StringArray, ArrowError> {
    let mut writer = WriterBuilder::new()
        .with_explicit_nulls(true)
        .build::<_, LineDelimited>(Vec::new());
    writer.write(rows)?;
    writer.finish()?;
    let lines = String::from_utf8(writer.into_inner())
        .map_err(|error| ArrowError::JsonError(error.to_string()))?;
    Ok(lines.lines().map(Some).collect())
}
