//! Columns and rows for the tests of formats.

use arrow::{
    array::{Array, ArrayRef},
    compute::cast,
    datatypes::DataType,
    util::display::array_value_to_string,
};
use tagflow_engine::source::{EncodedRows, Rows};
use tagflow_schemas::Column;

/// Columns as a pipeline file declares them: `amount: decimal(18,2)?`.
pub(super) fn columns(declared: &[&str]) -> Vec<Column> {
    let column = |text: &&str| {
        let (name, kind) = text.split_once(": ").unwrap();
        Column {
            name: name.to_owned(),
            kind: kind.trim_end_matches('?').parse().unwrap(),
            nullable: kind.ends_with('?'),
        }
    };
    declared.iter().map(column).collect()
}

/// Rows without separators.
pub(super) fn rows(texts: &[&str]) -> Rows {
    let mut rows = EncodedRows {
        data: texts.concat().into(),
        ..EncodedRows::default()
    };
    let mut start = 0;
    for (index, text) in texts.iter().enumerate() {
        let end = start + text.len() as u32;
        rows.spans.push((start, end));
        rows.offsets.push(index as i64);
        start = end;
    }
    Rows::Encoded(rows)
}

/// A cell as text, a time as its microseconds; `None` for null.
pub(super) fn cell(column: &ArrayRef, row: usize) -> Option<String> {
    let column = match column.data_type() {
        DataType::Timestamp(..) => &cast(column, &DataType::Int64).unwrap(),
        _ => column,
    };
    column
        .is_valid(row)
        .then(|| array_value_to_string(column, row).unwrap())
}
