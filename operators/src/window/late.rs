//! The rows of the late output.

use std::sync::Arc;

use arrow::{
    array::{AsArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray},
    datatypes::TimestampMicrosecondType,
    error::ArrowError,
    json::{WriterBuilder, writer::LineDelimited},
};
use tagflow_engine::{EventTime, Origin, Result};

use super::spec::Tumble;

/// The offset of a row that came from no source partition.
const NO_OFFSET: i64 = -1;

/// `stragglers`, which came at `watermark`, as rows of
/// [`tagflow_schemas::late::schema`]. Rows that an operator made have neither
/// source nor partition (empty strings) nor offset (-1).
pub(super) fn rows(
    tumble: &Tumble,
    origin: &Origin,
    watermark: EventTime,
    stragglers: &RecordBatch,
) -> Result<RecordBatch> {
    let count = stragglers.num_rows();
    let text = |value: &str| Arc::new(StringArray::from(vec![value; count]));
    let utc = |times: TimestampMicrosecondArray| Arc::new(times.with_timezone("UTC"));
    let (source, partition) = match origin {
        Origin::Partition(id) => (id.source.as_ref(), id.partition.as_ref()),
        Origin::Derived => ("", ""),
    };
    let offsets = match tumble.straggler_offset() {
        Some(column) => Arc::clone(stragglers.column(column)),
        None => Arc::new(Int64Array::from_value(NO_OFFSET, count)),
    };
    let event_times = tumble.group_width() + tumble.spec.time;
    let starts = stragglers
        .column(0)
        .as_primitive::<TimestampMicrosecondType>();
    let ends: TimestampMicrosecondArray =
        starts.unary(|start| start.saturating_add(tumble.size_us));
    let delays: Int64Array = ends.unary(|end| watermark.as_micros().saturating_sub(end));

    let read: Vec<usize> = (tumble.group_width()..stragglers.num_columns())
        .filter(|column| Some(*column) != tumble.straggler_offset())
        .collect();
    Ok(RecordBatch::try_new(
        tagflow_schemas::late::schema(),
        vec![
            text(&tumble.spec.pipeline),
            text(&tumble.spec.query),
            text(source),
            text(partition),
            offsets,
            Arc::clone(stragglers.column(event_times)),
            utc(ends),
            utc(TimestampMicrosecondArray::from_value(
                watermark.as_micros(),
                count,
            )),
            Arc::new(delays),
            text("window_closed"),
            Arc::new(json_objects(&stragglers.project(&read)?)?),
        ],
    )?)
}

/// Each row as a JSON object, nulls included.
pub(crate) fn json_objects(rows: &RecordBatch) -> Result<StringArray, ArrowError> {
    let mut writer = WriterBuilder::new()
        .with_explicit_nulls(true)
        .build::<_, LineDelimited>(Vec::new());
    writer.write(rows)?;
    writer.finish()?;
    let lines = String::from_utf8(writer.into_inner())
        .map_err(|error| ArrowError::JsonError(error.to_string()))?;
    Ok(lines.lines().map(Some).collect())
}
