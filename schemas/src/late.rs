//! The table of late rows: their window had closed, or the step or join that needs them in time had
//! passed them.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

/// The columns of [`schema`], with their meaning.
pub const COLUMNS: [(&str, &str); 11] = [
    ("pipeline", "the pipeline's name"),
    (
        "query",
        "the query whose window had closed, or that joins, or the step, or tags",
    ),
    ("source", "the source's name"),
    ("partition", "the partition: topic/3, a file's path"),
    ("offset", "the row's offset in it"),
    ("event_time", "the row's event time"),
    (
        "window_end",
        "the end of the window that it belonged to; of a step, the watermark until which the row would have been in time; its own time where a join has none",
    ),
    ("watermark", "the watermark when it came"),
    (
        "delay_us",
        "how far window_end lay behind the watermark, µs",
    ),
    (
        "reason",
        "window_closed, behind_watermark of a step, a join or tags, or key_forgotten of an aggregate without a window",
    ),
    (
        "row",
        "the columns that the query or step reads, as a JSON object, personal values masked",
    ),
];

/// The columns of the late-rows table. It has one row per late input row and query.
///
/// Their meaning is in [`COLUMNS`].
pub fn schema() -> SchemaRef {
    let utc = DataType::Timestamp(TimeUnit::Microsecond, Some(Arc::from("UTC")));
    Arc::new(Schema::new(vec![
        Field::new("pipeline", DataType::Utf8, false),
        Field::new("query", DataType::Utf8, false),
        Field::new("source", DataType::Utf8, false),
        Field::new("partition", DataType::Utf8, false),
        Field::new("offset", DataType::Int64, false),
        Field::new("event_time", utc.clone(), false),
        Field::new("window_end", utc.clone(), false),
        Field::new("watermark", utc, false),
        Field::new("delay_us", DataType::Int64, false),
        Field::new("reason", DataType::Utf8, false),
        Field::new("row", DataType::Utf8, false),
    ]))
}
