//! The rows of the late output.

use std::sync::Arc;

use arrow::{
    array::{AsArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray},
    datatypes::TimestampMicrosecondType,
    error::ArrowError,
    json::{WriterBuilder, writer::LineDelimited},
};
use tagflow_engine::{EventTime, Origin, Result, time::micros};
use tagflow_schemas::personal;

use super::{Windows, spec::Aggregation};

/// The offset of a row that came from no source partition.
const NO_OFFSET: i64 = -1;

/// `stragglers`, which came at `watermark`, as rows of
/// [`tagflow_schemas::late::schema`]. Rows that an operator made have neither
/// source nor partition (empty strings) nor offset (-1).
pub(super) fn rows(
    aggregation: &Aggregation,
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
    let offsets = match aggregation.straggler_offset() {
        Some(column) => Arc::clone(stragglers.column(column)),
        None => Arc::new(Int64Array::from_value(NO_OFFSET, count)),
    };
    let event_times = aggregation.group_width() + aggregation.spec.time;
    let starts = stragglers
        .column(0)
        .as_primitive::<TimestampMicrosecondType>();
    let times = stragglers.column(event_times);
    let times = times.as_primitive::<TimestampMicrosecondType>();
    let mut ends = Vec::with_capacity(count);
    for (start, time) in starts.values().iter().zip(times.values()) {
        ends.push(match aggregation.spec.windows {
            Windows::Session { gap } => time.saturating_add(micros(gap)),
            ref windows => windows.last_end(aggregation.pane(*start)?),
        });
    }
    let ends = TimestampMicrosecondArray::from(ends);
    let delays: Int64Array = ends.unary(|end| watermark.as_micros().saturating_sub(end));

    let read: Vec<usize> = (aggregation.group_width()..stragglers.num_columns())
        .filter(|column| Some(*column) != aggregation.straggler_offset())
        .collect();
    let personal = &aggregation.spec.personal;
    let shown = personal::masked(&stragglers.project(&read)?, |name| personal.contains(name))?;
    Ok(RecordBatch::try_new(
        tagflow_schemas::late::schema(),
        vec![
            text(&aggregation.spec.pipeline),
            text(&aggregation.spec.query),
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
            Arc::new(json_objects(&shown)?),
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
