//! Actual rows, and expected rows.

use std::sync::Arc;

use arrow::{
    array::{Array, AsArray, RecordBatch},
    compute::{cast, concat_batches},
    datatypes::{DataType, Field, Schema, SchemaRef},
    error::ArrowError,
    json::ReaderBuilder,
    util::display::{ArrayFormatter, FormatOptions},
};
use datafusion::common::ScalarValue;
use tagflow_engine::{Error, Result};

use crate::{
    diagnostic::{Diagnostics, Position, unknown},
    spec::TestRow,
};

/// The relative difference up to which two floating-point numbers count as equal: a test need not
/// write seventeen digits.
const FLOAT_TOLERANCE: f64 = 1e-9;

/// Actual rows.
pub(super) struct Table(RecordBatch);

/// An expected row, with the columns that it names.
pub(crate) struct Expected {
    pub(super) at: Position,
    row: RecordBatch,
}

impl Table {
    /// A table of `batches` of one shape.
    pub(super) fn of(batches: &[RecordBatch]) -> Result<Self> {
        let Some(first) = batches.first() else {
            return Ok(Self(RecordBatch::new_empty(Arc::new(Schema::empty()))));
        };
        let all = concat_batches(&first.schema(), batches)?;
        let schema = legible(&all.schema());
        let columns = all.columns().iter().zip(schema.fields());
        let columns = columns
            .map(|(column, field)| cast(column, field.data_type()))
            .collect::<Result<_, _>>()?;
        Ok(Self(RecordBatch::try_new(schema, columns)?))
    }

    pub(super) fn num_rows(&self) -> usize {
        self.0.num_rows()
    }

    /// The rows that have the values of `expected`, among others.
    pub(super) fn containing(&self, expected: &Expected) -> Result<Vec<usize>> {
        self.matching(|row| self.misses(row, expected).map(|missed| missed == 0))
    }

    /// The rows that have the values of `expected`, and null in every other column.
    pub(super) fn equal_to(&self, expected: &Expected) -> Result<Vec<usize>> {
        let fields = self.0.schema();
        let others = fields.fields().iter().zip(self.0.columns());
        let others: Vec<_> = others
            .filter(|(field, _)| expected.row.column_by_name(field.name()).is_none())
            .map(|(_, column)| column)
            .collect();
        let is_else_null = |row| others.iter().all(|column| column.is_null(row));
        self.matching(|row| Ok(is_else_null(row) && self.misses(row, expected)? == 0))
    }

    /// The most similar row to `expected`, if any.
    pub(super) fn nearest(&self, expected: &Expected) -> Result<Option<usize>> {
        let mut nearest = None;
        for row in 0..self.num_rows() {
            let missed = self.misses(row, expected)?;
            let is_like = missed < expected.row.num_columns();
            if is_like && nearest.is_none_or(|(fewest, _)| missed < fewest) {
                nearest = Some((missed, row));
            }
        }
        Ok(nearest.map(|(_, row)| row))
    }

    /// `{campaign_id: c1, clicks: 2}`: the non-null values.
    pub(super) fn row(&self, row: usize) -> Result<String> {
        let columns = self.0.columns().iter().enumerate();
        let places = columns.filter(|(_, column)| !column.is_null(row));
        let places: Vec<usize> = places.map(|(place, _)| place).collect();
        shown(&self.0, row, &places)
    }

    /// Like [`Table::row`], for the columns that `of` names.
    pub(super) fn row_of(&self, row: usize, of: &Expected) -> Result<String> {
        let (schema, named) = (self.0.schema(), of.row.schema());
        let names = named.fields().iter().map(|field| field.name());
        let places: Vec<usize> = names
            .filter_map(|name| schema.index_of(name).ok())
            .collect();
        shown(&self.0, row, &places)
    }

    /// The number of columns in which `row` differs from `expected`.
    fn misses(&self, row: usize, expected: &Expected) -> Result<usize> {
        let mut missed = 0;
        let fields = expected.row.schema();
        for (field, wanted) in fields.fields().iter().zip(expected.row.columns()) {
            let is_equal = match self.0.column_by_name(field.name()) {
                Some(column) => equal(&cell(column, row)?, &cell(wanted, 0)?),
                None => false,
            };
            missed += usize::from(!is_equal);
        }
        Ok(missed)
    }

    fn matching(&self, is_match: impl Fn(usize) -> Result<bool>) -> Result<Vec<usize>> {
        let mut found = Vec::new();
        for row in 0..self.num_rows() {
            if is_match(row)? {
                found.push(row);
            }
        }
        Ok(found)
    }
}

impl Expected {
    /// Reads `row`, whose columns are some of `shape`. Problems are added to `diagnostics`, and
    /// then the result is `None`.
    pub(crate) fn read(
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
    pub(super) fn text(&self) -> Result<String> {
        let places: Vec<usize> = (0..self.row.num_columns()).collect();
        shown(&self.row, 0, &places)
    }
}

/// One row of these values, in columns of these types.
pub(super) fn read(
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
fn legible(schema: &Schema) -> SchemaRef {
    let field = |field: &Arc<Field>| match field.data_type() {
        DataType::Binary => field.as_ref().clone().with_data_type(DataType::Utf8),
        _ => field.as_ref().clone(),
    };
    let fields: Vec<Field> = schema.fields().iter().map(field).collect();
    Arc::new(Schema::new(fields))
}

fn cell(column: &dyn Array, row: usize) -> Result<ScalarValue> {
    ScalarValue::try_from_array(column, row)
        .map_err(|error| Error::internal("a value cannot be compared").with_source(error))
}

fn equal(got: &ScalarValue, wanted: &ScalarValue) -> bool {
    match (got, wanted) {
        (ScalarValue::Float64(Some(got)), ScalarValue::Float64(Some(wanted))) => {
            // The infinities equal only themselves; their difference is not a number.
            got.total_cmp(wanted).is_eq()
                || got.is_nan() && wanted.is_nan()
                || (got - wanted).abs() <= FLOAT_TOLERANCE * got.abs().max(wanted.abs())
        }
        _ => got == wanted,
    }
}

fn shown(batch: &RecordBatch, row: usize, places: &[usize]) -> Result<String> {
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
pub(super) fn shown_text(text: &str) -> String {
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
