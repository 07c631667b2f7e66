//! Rows that arrive too late for a step to judge them, for the late output.

use arrow::{
    array::{AsArray, RecordBatch},
    datatypes::{Int64Type, TimestampMicrosecondType},
};
use tagflow_engine::{Batch, EventTime, Result};

use super::timeline::Timeline;
use crate::late::LateRows;

/// `batch`, which arrived at `watermark`, as rows of [`tagflow_schemas::late::schema`]. A
/// row is in time until the watermark is `reach_us` past it.
pub(crate) fn rows(
    timeline: &Timeline,
    batch: &Batch,
    watermark: i64,
    reach_us: i64,
) -> Result<RecordBatch> {
    let rows = &batch.records;
    let times = timeline.times(rows);
    let read: Vec<usize> = (0..timeline.shown).collect();
    let late = LateRows {
        pipeline: &timeline.pipeline,
        query: &timeline.step,
        origin: &batch.origin,
        event_times: times.clone(),
        ends: times.unary::<_, TimestampMicrosecondType>(|time| time.saturating_add(reach_us)),
        offsets: timeline.offset().map(|column| {
            let offsets = rows.column(column);
            offsets.as_primitive::<Int64Type>().clone()
        }),
        watermark: EventTime::from_micros(watermark),
        reason: "behind_watermark",
        personal: &timeline.personal,
        rows: rows.project(&read)?,
    };
    late.into_batch()
}
