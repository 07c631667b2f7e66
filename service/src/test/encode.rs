//! Encodes a test's rows for a source or a table.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, RecordBatch, RecordBatchOptions, StringArray},
    datatypes::{DataType, Field, Schema},
};
use serde_json::{Map, Value, json};
use tagflow_engine::{
    EventTime, Result,
    source::{ColumnRows, EncodedRows, Offset, Reference, Rows},
};
use tagflow_schemas::{Column, ColumnType, TimeUnit};

use tagflow_pipelines::spec::{Columns, Content, Format, TestRow};

/// `rows` in `format` with `columns`, the first at offset `first`. Their event times are checked
/// against `received`.
pub(super) fn encode(
    rows: &[TestRow],
    (format, columns): (&Format, &Columns),
    first: Offset,
    received: Option<EventTime>,
) -> Result<Rows> {
    let mut data = String::new();
    let delimiter = match format {
        Format::Parquet(_) => return texts(rows, columns, first, received).map(Rows::Columns),
        Format::Json(_) => None,
        Format::Csv(csv) => {
            let delimiter = csv.delimiter.value().as_str();
            if *csv.header {
                let columns = columns.as_slice().iter();
                let names: Vec<_> = columns.map(|column| quoted(&column.name)).collect();
                data = names.join(delimiter) + "\n";
            }
            Some(delimiter)
        }
    };
    let mut encoded = EncodedRows {
        reference: received.map_or(Reference::None, Reference::Received),
        ..EncodedRows::default()
    };
    for (offset, row) in (first..).zip(rows) {
        let start = data.len() as u32;
        match (&row.content, delimiter) {
            (Content::Text(text), _) => data.push_str(text),
            (Content::Fields(fields), None) => {
                let field = |(name, value): &(_, Value)| {
                    let name = ToString::to_string(name);
                    let value = written(value, columns.get(&name));
                    (name, value)
                };
                let object: Map<_, _> = fields.iter().map(field).collect();
                data.push_str(&Value::Object(object).to_string());
            }
            (Content::Fields(_), Some(delimiter)) => {
                let columns = columns.as_slice().iter();
                let values: Vec<_> = columns
                    .map(|column| text(row, column).map_or_else(String::new, |it| quoted(&it)))
                    .collect();
                data.push_str(&values.join(delimiter));
            }
        }
        encoded.spans.push((start, data.len() as u32));
        encoded.offsets.push(offset);
        data.push('\n');
    }
    encoded.data = data.into();
    Ok(Rows::Encoded(encoded))
}

/// Rows of a columnar file. Its columns are texts, so that a value of the wrong
/// type can be sent.
fn texts(
    rows: &[TestRow],
    columns: &Columns,
    first: Offset,
    received: Option<EventTime>,
) -> Result<ColumnRows> {
    let columns = columns.as_slice().iter();
    let (fields, arrays): (Vec<_>, Vec<_>) = columns
        .map(|column| {
            let values: StringArray = rows.iter().map(|row| text(row, column)).collect();
            let field = Field::new(&column.name, DataType::Utf8, true);
            (field, Arc::new(values) as ArrayRef)
        })
        .unzip();
    let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
    let schema = Arc::new(Schema::new(fields));
    Ok(ColumnRows {
        records: RecordBatch::try_new_with_options(schema, arrays, &options)?,
        first,
        reference: received.map_or(Reference::None, Reference::Received),
        folders: None,
    })
}

/// The value of a column of a row, as text; `None` for null.
fn text(row: &TestRow, column: &Column) -> Option<String> {
    let mut fields = row.fields().iter();
    let (_, value) = fields.find(|(name, _)| **name == *column.name)?;
    match written(value, Some(column)) {
        Value::Null => None,
        Value::String(text) => Some(text),
        value => Some(value.to_string()),
    }
}

/// `value` as the input writes it: a readable instant becomes the number that the column's type
/// requires.
fn written(value: &Value, column: Option<&Column>) -> Value {
    let micros = value.as_str().and_then(TestRow::instant);
    let (Some(micros), Some(column)) = (micros.map(EventTime::as_micros), column) else {
        return value.clone();
    };
    let in_units = |unit: i64| match micros % unit {
        0 => json!(micros / unit),
        _ => json!(micros as f64 / unit as f64),
    };
    match column.kind {
        ColumnType::Timestamp(TimeUnit::Second) => in_units(1_000_000),
        ColumnType::Timestamp(TimeUnit::Millisecond) => in_units(1_000),
        ColumnType::Timestamp(TimeUnit::Microsecond) => json!(micros),
        ColumnType::Timestamp(TimeUnit::Nanosecond) => json!(micros.saturating_mul(1_000)),
        _ => value.clone(),
    }
}

/// A value of a CSV row.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\"\""))
}
