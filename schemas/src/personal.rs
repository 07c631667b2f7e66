//! Masks personal data where it must not be shown.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, RecordBatch, StringArray},
    datatypes::{DataType, Field, Schema},
    error::ArrowError,
};

/// Replaces a hidden value.
pub const HIDDEN: &str = "***";

/// `rows` with the values of the columns masked for which `hides` is true; nulls stay.
///
/// # Errors
/// None that a correct batch could cause.
pub fn masked(rows: &RecordBatch, hides: impl Fn(&str) -> bool) -> Result<RecordBatch, ArrowError> {
    let (mut fields, mut columns) = (Vec::new(), Vec::new());
    for (field, column) in rows.schema_ref().fields().iter().zip(rows.columns()) {
        if hides(field.name()) {
            let hidden = (0..column.len()).map(|row| column.is_valid(row).then_some(HIDDEN));
            columns.push(Arc::new(hidden.collect::<StringArray>()) as ArrayRef);
            fields.push(Arc::new(Field::new(field.name(), DataType::Utf8, true)));
        } else {
            columns.push(Arc::clone(column));
            fields.push(Arc::clone(field));
        }
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
}
