//! The columns of windows.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, TimeUnit};

/// The type of a window's value: a struct of `start` and `end`.
pub fn window_type() -> DataType {
    DataType::Struct(window_fields())
}

pub(super) fn window_fields() -> Fields {
    Fields::from(vec![
        Field::new("start", utc(), false),
        Field::new("end", utc(), false),
    ])
}

pub(super) fn utc() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some(Arc::from("UTC")))
}
