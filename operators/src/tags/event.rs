//! Events of keys.

use arrow::{
    array::{Array, AsArray, RecordBatch},
    datatypes::Float64Type,
};

use super::value::Value;

/// An event of a key: a row of the input.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Event<'a> {
    pub(crate) time: i64,
    pub(crate) tiebreak: u64,
    pub(crate) rows: &'a RecordBatch,
    pub(crate) row: usize,
}

/// When an event is processed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Timing {
    /// After all earlier events.
    InOrder,
    /// Behind the watermark.
    Late,
}

impl Event<'_> {
    /// The value in a column.
    pub(crate) fn value(&self, column: usize) -> Value {
        Value::at(self.rows.column(column), self.row)
    }

    /// Whether a condition is true; so is none.
    pub(crate) fn passes(&self, column: Option<usize>) -> bool {
        column.is_none_or(|column| {
            let column = self.rows.column(column).as_boolean();
            column.is_valid(self.row) && column.value(self.row)
        })
    }

    /// The weight in a column: 0 for null. Without a column, it is 1.
    pub(crate) fn weight(&self, column: Option<usize>) -> f64 {
        column.map_or(1.0, |column| {
            let column = self.rows.column(column).as_primitive::<Float64Type>();
            if column.is_valid(self.row) {
                column.value(self.row)
            } else {
                0.0
            }
        })
    }
}
