//! Actual rows.

use std::sync::Arc;

use arrow::{
    array::{Array, RecordBatch},
    compute::{cast, concat_batches},
    datatypes::Schema,
};
use datafusion::common::ScalarValue;
use tagflow_engine::{Error, Result};

use tagflow_pipelines::expected::{Expected, legible, shown};

/// The relative difference up to which two floating-point numbers count as equal: a test need not
/// write seventeen digits.
const FLOAT_TOLERANCE: f64 = 1e-9;

/// Actual rows.
pub(super) struct Table(RecordBatch);

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
