//! Expected rows of tests.

use std::sync::Arc;

use arrow::{
    array::{Array, AsArray, RecordBatch},
    datatypes::{DataType, Field, Schema, SchemaRef},
    error::ArrowError,
    json::ReaderBuilder,
    util::display::{ArrayFormatter, FormatOptions},
};
use tagflow_config::diagnostic::{Diagnostics, Position, unknown};
use tagflow_engine::Result;

use crate::spec::TestRow;

/// An expected row, with the columns that it names.
pub struct Expected {
    /// Its position in the file.
    pub at: Position,
    /// Its values: one row.
    pub row: RecordBatch,
}

impl Expected {
    /// Reads `row`, whose columns are some of `shape`. Problems are added to `diagnostics`, and
    /// then the result is `None`.
    pub fn read(
        row: &TestRow,
        shape: &Schema,
        node: &str,
        diagnostics: &mut Diagnostics,
    ) -> Option<Self> {
        let shape = legible(shape);
        let mut fields = Vec::new();
        let mut sound = true;
        for (name, value) in row.fields() {
            let Ok(field) = shape.field_with_name(name) else {
                let names = shape.fields().iter().map(|field| field.name().as_str());
                let names = unknown(name, names);
                let message = format!("column `{name}` not found in `{node}`{names}");
                diagnostics.error(name.at(), "tests", message);
                sound = false;
                continue;
            };
            let field = field.clone().with_nullable(true);
            if let Err(error) = read(std::slice::from_ref(&field), &[(name, value)]) {
                let kind = field.data_type();
                let message = format!("`{name}` of `{node}` is {kind}, and not `{value}`: {error}");
                diagnostics.error(name.at(), "tests", message);
                sound = false;
            }
            fields.push(field);
        }
        if !sound {
            return None;
        }
        let values: Vec<_> = row
            .fields()
            .iter()
            .map(|(name, value)| (&**name, value))
            .collect();
        let read = read(&fields, &values).ok()?;
        Some(Self {
            at: row.at,
            row: read,
        })
    }

    /// `{campaign_id: c1, clicks: 2}`.
    pub fn text(&self) -> Result<String> {
        let places: Vec<usize> = (0..self.row.num_columns()).collect();
        shown(&self.row, 0, &places)
    }
}

/// One row of these values, in columns of these types.
pub fn read(
    fields: &[Field],
    values: &[(&str, &serde_json::Value)],
) -> Result<RecordBatch, ArrowError> {
    let schema = Arc::new(Schema::new(fields.to_vec()));
    let mut decoder = ReaderBuilder::new(Arc::clone(&schema))
        .with_coerce_primitive(true)
        .build_decoder()?;
    let row: serde_json::Map<_, _> = values
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).clone()))
        .collect();
    decoder.serialize(&[row])?;
    let read = decoder.flush()?;
    read.ok_or_else(|| ArrowError::JsonError("there is no value".to_owned()))
}

/// Bytes are shown and expected as text.
pub fn legible(schema: &Schema) -> SchemaRef {
    let field = |field: &Arc<Field>| match field.data_type() {
        DataType::Binary => field.as_ref().clone().with_data_type(DataType::Utf8),
        _ => field.as_ref().clone(),
    };
    let fields: Vec<Field> = schema.fields().iter().map(field).collect();
    Arc::new(Schema::new(fields))
}

/// `{campaign_id: c1, clicks: 2}`: the values of a row at these places.
pub fn shown(batch: &RecordBatch, row: usize, places: &[usize]) -> Result<String> {
    let schema = batch.schema();
    let mut cells = Vec::with_capacity(places.len());
    for &place in places {
        let value = shown_value(batch.column(place), row)?;
        cells.push(format!("{}: {value}", schema.field(place).name()));
    }
    Ok(format!("{{{}}}", cells.join(", ")))
}

/// A value, so that different values look different.
fn shown_value(column: &dyn Array, row: usize) -> Result<String> {
    if column.is_null(row) {
        return Ok("null".to_owned());
    }
    if let Some(texts) = column.as_string_opt::<i32>() {
        return Ok(shown_text(texts.value(row)));
    }
    if let Some(lists) = column.as_list_opt::<i32>() {
        let items = lists.value(row);
        let items = (0..items.len()).map(|item| shown_value(&items, item));
        return Ok(format!(
            "[{}]",
            items.collect::<Result<Vec<_>>>()?.join(", ")
        ));
    }
    if let Some(fields) = column.as_struct_opt() {
        let fields = RecordBatch::from(fields);
        let places: Vec<usize> = (0..fields.num_columns()).collect();
        return shown(&fields, row, &places);
    }
    let options = FormatOptions::default();
    let formatter = ArrayFormatter::try_new(column, &options)?;
    Ok(formatter.value(row).to_string())
}

/// A text as it is if it is plain. Otherwise it is in quotes: `null` is no null, and one
/// text with a comma is no list of two.
pub fn shown_text(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '\'' => escaped.push(char),
            _ => escaped.extend(char.escape_debug()),
        }
    }
    let is_plain = escaped == text
        && !text.is_empty()
        && text != "null"
        && text.trim() == text
        && !text.contains("  ")
        && !text.contains([',', '[', ']', '{', '}']);
    if is_plain {
        escaped
    } else {
        format!("\"{escaped}\"")
    }
}
