//! The table of rows that could not be read.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

/// The columns of [`schema`], and what they mean.
pub const COLUMNS: [(&str, &str); 9] = [
    ("pipeline", "the pipeline's name"),
    ("source", "the source's name"),
    ("partition", "the partition: topic/3, a file's path"),
    ("offset", "the row's offset in it"),
    ("reason", "a stable name: not_json, wrong_type, …"),
    ("field", "the field where it happened, if there is one"),
    ("error", "the whole message"),
    (
        "payload",
        "the row's original bytes, personal values masked; null for a tombstone",
    ),
    ("failed_at", "when it was set aside, processing time"),
];

/// The columns of the dead-letter table. One row a bad input row.
///
/// What they mean is in [`COLUMNS`].
pub fn schema() -> SchemaRef {
    let utc = DataType::Timestamp(TimeUnit::Microsecond, Some(Arc::from("UTC")));
    Arc::new(Schema::new(vec![
        Field::new("pipeline", DataType::Utf8, false),
        Field::new("source", DataType::Utf8, false),
        Field::new("partition", DataType::Utf8, false),
        Field::new("offset", DataType::Int64, false),
        Field::new("reason", DataType::Utf8, false),
        Field::new("field", DataType::Utf8, true),
        Field::new("error", DataType::Utf8, false),
        Field::new("payload", DataType::Binary, true),
        Field::new("failed_at", utc, false),
    ]))
}
