//! Rows of a step that come too late to be judged, for the late output.

use std::sync::Arc;

use arrow::{
    array::{Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray},
    datatypes::TimestampMicrosecondType,
};
use tagflow_engine::{Batch, Origin, Result};

use tagflow_schemas::personal;

use super::spec::Ordered;
use crate::window::json_objects;

/// The offset of a row that came from no source partition.
const NO_OFFSET: i64 = -1;

/// `batch`, which came at `watermark`, as rows of
/// [`tagflow_schemas::late::schema`]. A row would have been in time until the
/// watermark is `reach_us` past it. Rows that an operator made have neither
/// source nor partition (empty strings) nor offset (-1).
pub(super) fn rows(
    ordered: &Ordered,
    batch: &Batch,
    watermark: i64,
    reach_us: i64,
) -> Result<RecordBatch> {
    let rows = &batch.records;
    let count = rows.num_rows();
    let text = |value: &str| Arc::new(StringArray::from(vec![value; count]));
    let utc = |times: TimestampMicrosecondArray| Arc::new(times.with_timezone("UTC"));
    let (source, partition) = match &batch.origin {
        Origin::Partition(id) => (id.source.as_ref(), id.partition.as_ref()),
        Origin::Derived => ("", ""),
    };
    let offsets = match ordered.offset() {
        Some(column) => Arc::clone(rows.column(column)),
        None => Arc::new(Int64Array::from_value(NO_OFFSET, count)),
    };
    let until = ordered
        .times(rows)
        .unary::<_, TimestampMicrosecondType>(|time| time.saturating_add(reach_us));
    let delays: Int64Array = until.unary(|until| watermark.saturating_sub(until));
    let read: Vec<usize> = (0..rows.num_columns())
        .filter(|column| Some(*column) != ordered.offset())
        .collect();
    let personal = &ordered.spec.personal;
    let shown = personal::masked(&rows.project(&read)?, |name| personal.contains(name))?;
    Ok(RecordBatch::try_new(
        tagflow_schemas::late::schema(),
        vec![
            text(&ordered.spec.pipeline),
            text(&ordered.spec.step),
            text(source),
            text(partition),
            offsets,
            Arc::clone(rows.column(ordered.spec.time)),
            utc(until),
            utc(TimestampMicrosecondArray::from_value(watermark, count)),
            Arc::new(delays),
            text("behind_watermark"),
            Arc::new(json_objects(&shown)?),
        ],
    )?)
}
