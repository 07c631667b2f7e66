//! Rows that are columns already, as a columnar file gives them.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, BooleanArray, BooleanBufferBuilder},
    compute::{CastOptions, cast_with_options, filter_record_batch},
    datatypes::{
        DataType, Int64Type, Schema, SchemaRef, TimeUnit as ArrowTimeUnit, TimestampMicrosecondType,
    },
    record_batch::{RecordBatch, RecordBatchOptions},
};
use tagflow_engine::{
    Error, Result,
    source::{Decoded, Decoder, Rows},
};
use tagflow_schemas::{Column, ColumnType, TimeUnit};

use super::{Tz, buffer::ColumnBuffer, csv::append_text, problem::Problem};

/// Picks the declared columns out of columnar rows, by name, and makes them of
/// the declared types.
///
/// Nothing is rounded and nothing overflows: integers widen, decimals gain
/// places, times of any unit become microseconds, whole numbers are times in
/// the declared unit, and text is read as CSV reads it. A value that does not
/// fit costs its row; a column of a type that can never fit costs every row
/// with a value in it. Times without a zone are UTC unless told otherwise.
#[derive(Debug)]
pub struct ColumnsFormat {
    columns: Vec<Column>,
    schema: SchemaRef,
    assume_timezone: Option<Tz>,
}

impl ColumnsFormat {
    /// Picks `columns`. `assume_timezone` is the zone of times in text that
    /// name none.
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
        let mut problems = Problems::new(records.num_rows());
        let arrays = self
            .columns
            .iter()
            .map(|column| self.column(column, records, &mut problems))
            .collect::<Result<Vec<_>>>()?;

        let options = RecordBatchOptions::new().with_row_count(Some(records.num_rows()));
        // Not yet of the schema: rejected rows may lack required values.
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
        problems: &mut Problems,
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
            Plan::Micros(factor) => micros(&cast(source, &DataType::Int64)?, factor),
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
                    Problem::wrong_type(
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
        problems: &mut Problems,
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

fn missing(column: &Column) -> Problem {
    Problem::missing_field(&column.name)
}

/// How a column of a file becomes a column of a type.
enum Plan {
    /// A cast that is exact, or null.
    Cast,
    /// Its whole numbers count so many microseconds each; with a negative
    /// factor, so many make one microsecond.
    Micros(i64),
    /// Value by value, as text.
    Text,
    /// It cannot.
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
    // `safe`: what does not fit is null.
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

/// The first problem of each row.
struct Problems {
    by_row: Vec<Option<Problem>>,
}

impl Problems {
    fn new(rows: usize) -> Self {
        Self {
            by_row: (0..rows).map(|_| None).collect(),
        }
    }

    fn add(&mut self, row: usize, problem: impl FnOnce() -> Problem) {
        self.by_row[row].get_or_insert_with(problem);
    }

    /// The rows without a problem; `None` if that is all of them.
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
