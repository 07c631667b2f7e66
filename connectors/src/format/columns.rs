//! Columnar rows, as a columnar file provides them.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, BooleanArray, BooleanBufferBuilder},
    compute::{CastOptions, cast_with_options, filter_record_batch},
    datatypes::{
        DataType, Int64Type, Schema, SchemaRef, TimeUnit as ArrowTimeUnit, TimestampMicrosecondType,
    },
    record_batch::{RecordBatch, RecordBatchOptions},
};
use chrono::DateTime;
use tagflow_engine::{
    Error, Result,
    source::{Decoded, Decoder, Rows},
};
use tagflow_schemas::{Column, ColumnType, TimeUnit};

use super::{Tz, buffer::ColumnBuffer, csv::append_text, decode_error::DecodeError, scalar};

/// Selects the declared columns from columnar rows by name and converts them to the declared types.
///
/// Conversions are exact: integers widen, decimals gain places, and times of any unit become
/// microseconds. Whole numbers are times in the declared unit. Text, and times with a fraction, are
/// parsed as in CSV. A value that does not fit costs its row; a column whose type can never fit
/// costs every row with a value in it. Times without a zone are UTC by default.
#[derive(Debug)]
pub struct ColumnsFormat {
    columns: Vec<Column>,
    schema: SchemaRef,
    assume_timezone: Option<Tz>,
}

impl ColumnsFormat {
    /// Selects `columns`. `assume_timezone` is the zone of times without one.
    pub fn new(columns: Vec<Column>, assume_timezone: Option<Tz>) -> Self {
        Self {
            schema: Column::schema(&columns),
            columns,
            assume_timezone,
        }
    }
}

impl Decoder for ColumnsFormat {
    fn decode(&mut self, rows: &Rows) -> Result<Decoded> {
        let Rows::Columns(rows) = rows else {
            return Err(Error::internal("the columns format was given encoded rows"));
        };
        let records = &rows.records;
        let mut problems = DecodeErrors::new(records.num_rows());
        let arrays = self
            .columns
            .iter()
            .map(|column| self.column(column, records, &mut problems))
            .collect::<Result<Vec<_>>>()?;

        let options = RecordBatchOptions::new().with_row_count(Some(records.num_rows()));
        // Not the schema yet: rejected rows may lack required values.
        let loose = Arc::new(Schema::new(
            self.schema
                .fields()
                .iter()
                .map(|field| field.as_ref().clone().with_nullable(true))
                .collect::<Vec<_>>(),
        ));
        let all = RecordBatch::try_new_with_options(loose, arrays, &options)?;
        let good = match problems.good_rows() {
            Some(good) => filter_record_batch(&all, &good)?,
            None => all,
        };
        let options = RecordBatchOptions::new().with_row_count(Some(good.num_rows()));
        Ok(Decoded {
            records: RecordBatch::try_new_with_options(
                Arc::clone(&self.schema),
                good.columns().to_vec(),
                &options,
            )?,
            rejected: problems
                .by_row
                .into_iter()
                .enumerate()
                .filter_map(|(row, problem)| Some(problem?.at(row)))
                .collect(),
        })
    }
}

impl ColumnsFormat {
    fn column(
        &self,
        column: &Column,
        records: &RecordBatch,
        problems: &mut DecodeErrors,
    ) -> Result<ArrayRef> {
        let rows = records.num_rows();
        let Some(source) = records.column_by_name(&column.name) else {
            if !column.nullable {
                (0..rows).for_each(|row| problems.add(row, || missing(column)));
            }
            return Ok(arrow::array::new_null_array(&column.kind.arrow(), rows));
        };
        let values = match plan(source.data_type(), &column.kind) {
            Plan::Cast => cast(source, &column.kind.arrow())?,
            Plan::Micros(factor) => {
                let times = micros(&cast(source, &DataType::Int64)?, factor);
                match (source.data_type(), self.assume_timezone) {
                    (DataType::Timestamp(_, None), Some(zone)) => local(&times, zone),
                    _ => times,
                }
            }
            Plan::Text => return self.text(column, source, problems),
            Plan::Never => arrow::array::new_null_array(&column.kind.arrow(), rows),
        };
        for row in 0..rows {
            if source.is_null(row) {
                if !column.nullable {
                    problems.add(row, || missing(column));
                }
            } else if values.is_null(row) {
                problems.add(row, || {
                    let got = format!("a {} that does not fit", source.data_type());
                    DecodeError::wrong_type(
                        &column.name,
                        &format!("expected {}, got {got}", column.kind),
                    )
                });
            }
        }
        Ok(values)
    }

    fn text(
        &self,
        column: &Column,
        source: &ArrayRef,
        problems: &mut DecodeErrors,
    ) -> Result<ArrayRef> {
        let source = cast(source, &DataType::Utf8)?;
        let mut values = ColumnBuffer::new(&column.kind);
        for (row, text) in source.as_string::<i32>().iter().enumerate() {
            let result = match text {
                Some(text) => append_text(text, &mut values, &column.name, self.assume_timezone),
                None if column.nullable => Ok(()),
                None => Err(missing(column)),
            };
            if let Err(problem) = result {
                values.truncate(row);
                problems.add(row, || problem);
            }
            if values.len() == row {
                values.append_null();
            }
        }
        values.finish()
    }
}

fn missing(column: &Column) -> DecodeError {
    DecodeError::missing_field(&column.name)
}

/// The conversion of a file's column to a type.
enum Plan {
    /// A cast that is exact, or null.
    Cast,
    /// Each whole number is this many microseconds; if the factor is negative, its absolute value
    /// divides.
    Micros(i64),
    /// Value by value, as text.
    Text,
    /// No conversion exists.
    Never,
}

fn plan(from: &DataType, to: &ColumnType) -> Plan {
    use DataType as From;
    let text = match from {
        From::Dictionary(_, values) => values.is_string(),
        from => from.is_string(),
    };
    match to {
        ColumnType::String if text => Plan::Cast,
        _ if text => Plan::Text,
        ColumnType::Int64 | ColumnType::Decimal { .. } if from.is_integer() => Plan::Cast,
        ColumnType::Float64 if from.is_integer() || from.is_floating() => Plan::Cast,
        ColumnType::Bool if *from == From::Boolean => Plan::Cast,
        ColumnType::Decimal { scale, .. } => match from {
            From::Decimal32(_, places)
            | From::Decimal64(_, places)
            | From::Decimal128(_, places)
            | From::Decimal256(_, places)
                if places <= scale =>
            {
                Plan::Cast
            }
            _ => Plan::Never,
        },
        ColumnType::Timestamp(declared) => match (from, declared) {
            (From::Timestamp(ArrowTimeUnit::Second, _), _) => Plan::Micros(1_000_000),
            (From::Timestamp(ArrowTimeUnit::Millisecond, _), _) => Plan::Micros(1_000),
            (From::Timestamp(ArrowTimeUnit::Microsecond, _), _) => Plan::Micros(1),
            (From::Timestamp(ArrowTimeUnit::Nanosecond, _), _) => Plan::Micros(-1_000),
            (_, TimeUnit::Rfc3339) => Plan::Never,
            _ if from.is_floating() || from.is_decimal() => Plan::Text,
            _ if !from.is_integer() => Plan::Never,
            (_, TimeUnit::Second) => Plan::Micros(1_000_000),
            (_, TimeUnit::Millisecond) => Plan::Micros(1_000),
            (_, TimeUnit::Microsecond) => Plan::Micros(1),
            (_, TimeUnit::Nanosecond) => Plan::Micros(-1_000),
        },
        ColumnType::Date if matches!(from, From::Date32 | From::Date64) => Plan::Cast,
        ColumnType::List(item) => match from {
            From::List(field) | From::LargeList(field)
                if matches!(plan(field.data_type(), item), Plan::Cast) =>
            {
                Plan::Cast
            }
            _ => Plan::Never,
        },
        _ => Plan::Never,
    }
}

fn cast(array: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    // `safe`: a value that does not fit becomes null.
    let options = CastOptions {
        safe: true,
        ..CastOptions::default()
    };
    Ok(cast_with_options(array, to, &options)?)
}

fn micros(whole: &ArrayRef, factor: i64) -> ArrayRef {
    let whole = whole.as_primitive::<Int64Type>();
    let times = whole.unary_opt::<_, TimestampMicrosecondType>(|value| match factor {
        1.. => value.checked_mul(factor),
        _ => Some(value.div_euclid(-factor)),
    });
    Arc::new(times.with_timezone("UTC"))
}

/// Interprets times as local times of `zone`. Local times that its clocks skip become null.
fn local(times: &ArrayRef, zone: Tz) -> ArrayRef {
    let times = times.as_primitive::<TimestampMicrosecondType>();
    let times = times.unary_opt::<_, TimestampMicrosecondType>(|time| {
        let local = DateTime::from_timestamp_micros(time)?.naive_utc();
        scalar::at_local(local, zone).ok()
    });
    Arc::new(times.with_timezone("UTC"))
}

/// The first problem of each row.
struct DecodeErrors {
    by_row: Vec<Option<DecodeError>>,
}

impl DecodeErrors {
    fn new(rows: usize) -> Self {
        Self {
            by_row: (0..rows).map(|_| None).collect(),
        }
    }

    fn add(&mut self, row: usize, problem: impl FnOnce() -> DecodeError) {
        self.by_row[row].get_or_insert_with(problem);
    }

    /// Selects the rows without a problem; `None` if these are all rows.
    fn good_rows(&self) -> Option<BooleanArray> {
        if self.by_row.iter().all(Option::is_none) {
            return None;
        }
        let mut good = BooleanBufferBuilder::new(self.by_row.len());
        for problem in &self.by_row {
            good.append(problem.is_none());
        }
        Some(BooleanArray::new(good.finish(), None))
    }
}

#[cfg(test)]
mod tests;
