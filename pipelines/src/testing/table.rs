//! Rows that have come out, and rows that are expected.

use std::sync::Arc;

use arrow::{
    array::{Array, RecordBatch},
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

/// How far two floating-point numbers may be apart and count as equal, for their
/// size: nobody writes seventeen digits.
const FLOAT_TOLERANCE: f64 = 1e-9;

/// Rows that have come out.
pub(super) struct Table(RecordBatch);

/// A row that is expected: one row, of the columns that it names.
pub(crate) struct Expected {
    pub(super) at: Position,
    row: RecordBatch,
}

impl Table {
    /// Of `batches` of one shape.
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

    /// The rows that have the values of `expected`, and null in every other
    /// column.
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

    /// The row that is most like `expected`, if any is.
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

    /// `{campaign_id: c1, clicks: 2}`: what is not null.
    pub(super) fn row(&self, row: usize) -> Result<String> {
        let columns = self.0.columns().iter().enumerate();
        let places = columns.filter(|(_, column)| !column.is_null(row));
        let places: Vec<usize> = places.map(|(place, _)| place).collect();
        shown(&self.0, row, &places)
    }

    /// As [`Table::row`], of the columns that `of` names.
    pub(super) fn row_of(&self, row: usize, of: &Expected) -> Result<String> {
        let (schema, named) = (self.0.schema(), of.row.schema());
        let names = named.fields().iter().map(|field| field.name());
        let places: Vec<usize> = names
            .filter_map(|name| schema.index_of(name).ok())
            .collect();
        shown(&self.0, row, &places)
    }

    /// In how many of its columns `row` is not as `expected`.
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
    /// Reads `row`, whose columns are some of `shape`. What cannot be is added
    /// to `diagnostics`, and then there is none.
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
            (got - wanted).abs() <= FLOAT_TOLERANCE * got.abs().max(wanted.abs())
        }
        _ => got == wanted,
    }
}

fn shown(batch: &RecordBatch, row: usize, places: &[usize]) -> Result<String> {
    let options = FormatOptions::default().with_null("null");
    let schema = batch.schema();
    let mut cells = Vec::with_capacity(places.len());
    for &place in places {
        let value = ArrayFormatter::try_new(batch.column(place), &options)?;
        cells.push(format!(
            "{}: {}",
            schema.field(place).name(),
            value.value(row)
        ));
    }
    Ok(format!("{{{}}}", cells.join(", ")))
}
