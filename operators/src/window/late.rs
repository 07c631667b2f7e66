//! The rows of the late output.

use arrow::{
    array::{AsArray, RecordBatch, TimestampMicrosecondArray},
    datatypes::{Int64Type, TimestampMicrosecondType},
};
use tagflow_engine::{EventTime, Origin, Result, time::micros};

use super::{Windows, spec::Aggregation};
use crate::late::LateRows;

/// `maybe_late`, which were late at `watermark`, as rows of [`tagflow_schemas::late::schema`].
pub(super) fn rows(
    aggregation: &Aggregation,
    origin: &Origin,
    watermark: EventTime,
    maybe_late: &RecordBatch,
) -> Result<RecordBatch> {
    let times = |column: usize| {
        let times = maybe_late.column(column);
        times.as_primitive::<TimestampMicrosecondType>()
    };
    let event_times = times(aggregation.group_width() + aggregation.spec.time);
    let spec = &aggregation.spec;
    let mut ends = Vec::with_capacity(maybe_late.num_rows());
    for (start, time) in times(0).values().iter().zip(event_times.values()) {
        ends.push(match (spec.emission.ttl, &spec.windows) {
            (Some(after), _) | (None, &Windows::Session { gap: after }) => {
                time.saturating_add(micros(after))
            }
            (None, windows) => windows.last_end(aggregation.pane(*start)?),
        });
    }
    let offset = aggregation.straggler_offset();
    let read: Vec<usize> = (aggregation.group_width()..maybe_late.num_columns())
        .filter(|column| Some(*column) != offset)
        .collect();
    let late = LateRows {
        pipeline: &aggregation.spec.pipeline,
        query: &aggregation.spec.query,
        origin,
        event_times: event_times.clone(),
        ends: TimestampMicrosecondArray::from(ends),
        offsets: offset.map(|column| {
            let offsets = maybe_late.column(column);
            offsets.as_primitive::<Int64Type>().clone()
        }),
        watermark,
        reason: match spec.emission.ttl {
            Some(_) => "key_forgotten",
            None => "window_closed",
        },
        personal: &aggregation.spec.personal,
        rows: maybe_late.project(&read)?,
    };
    late.into_batch()
}
