//! The JSON format.

use chrono_tz::Tz;
use tagflow_engine::{
    Result,
    source::{Decoded, Decoder, Rows},
};
use tagflow_schemas::Column;

use super::{
    fields::Fields,
    scanner::{Scanner, SyntaxError, Value},
    value::{append, describe},
};
use crate::format::{
    DEFAULT_MAX_ROW_BYTES,
    encoded::{decode_rows, encoded},
    problem::Problem,
    table::Table,
};

/// How JSON rows are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonOptions {
    /// A row of more bytes is rejected.
    pub max_row_bytes: usize,
    /// The zone of `timestamp(rfc3339)` texts that name none; without it they
    /// are rejected.
    pub assume_timezone: Option<Tz>,
}

impl Default for JsonOptions {
    fn default() -> Self {
        Self {
            max_row_bytes: DEFAULT_MAX_ROW_BYTES,
            assume_timezone: None,
        }
    }
}

/// Rows of JSON objects.
///
/// Fields that are no column are read over. Where a row has a field twice, each
/// must fit and the last one counts. A null is the same as a missing field.
///
/// | type | in the row |
/// | --- | --- |
/// | `string` | a string |
/// | `int64` | a number without fraction or exponent |
/// | `float64` | a number |
/// | `bool` | `true`, `false` |
/// | `decimal(p,s)` | a number or a string, read digit by digit; more than s places are refused unless they are zeros |
/// | `timestamp(s)` | a number, with a fraction or not |
/// | `timestamp(ms)`, `(us)`, `(ns)` | a whole number |
/// | `timestamp(rfc3339)` | a string with a zone |
/// | `date` | a string, `YYYY-MM-DD` |
/// | `json` | any value, kept as it is written |
/// | `list<T>` | an array of T and nulls |
#[derive(Debug)]
pub struct JsonFormat {
    table: Table,
    fields: Fields,
    options: JsonOptions,
}

impl JsonFormat {
    /// Reads `columns` out of each row, and nothing else.
    pub fn new(columns: Vec<Column>, options: JsonOptions) -> Self {
        Self {
            fields: Fields::new(columns.iter().map(|column| column.name.as_str())),
            table: Table::new(columns),
            options,
        }
    }
}

impl Decoder for JsonFormat {
    fn decode(&mut self, rows: &Rows) -> Result<Decoded> {
        let rows = encoded(rows, "JSON")?;
        let zone = self.options.assume_timezone;
        let rejected = decode_rows(
            rows,
            self.options.max_row_bytes,
            &mut self.table,
            |text, table| read_row(text, table, &mut self.fields, zone),
        );
        Ok(Decoded {
            records: self.table.finish()?,
            rejected,
        })
    }
}

/// Reads the whole row even where a value does not fit, for a row that is not
/// JSON is said to be that first of all.
#[inline]
fn read_row(
    text: &str,
    table: &mut Table,
    fields: &mut Fields,
    zone: Option<Tz>,
) -> Result<(), Problem> {
    let mut scanner = Scanner::new(text);
    match scanner.peek() {
        Some(b'{') => {}
        Some(_) => return Err(not_an_object(&mut scanner)),
        None => return Err(Problem::empty()),
    }
    let mut problem = None;
    fields.start_row();
    let mut more = scanner.open(b'}');
    while more {
        let column = if scanner.take(fields.guess()) {
            fields.guessed()
        } else {
            // A name that is not text is no column's name.
            let key = scanner.key()?.unescape().ok();
            key.and_then(|key| fields.column(&key))
        };
        match column {
            None => scanner.skip()?,
            Some(column) => {
                let value = scanner.value()?;
                if let Err(misfit) = put(value, table, column, zone) {
                    problem.get_or_insert(misfit);
                }
            }
        }
        more = scanner.more(b'}')?;
    }
    scanner.end()?;
    problem.map_or(Ok(()), Err)
}

#[inline]
fn put(
    value: Value<'_>,
    table: &mut Table,
    column: usize,
    zone: Option<Tz>,
) -> Result<(), Problem> {
    let (name, cell) = table.cell(column);
    match value {
        // The cell is empty now.
        Value::Null => Ok(()),
        value => append(value, cell, name, zone),
    }
}

#[cold]
fn not_an_object(scanner: &mut Scanner<'_>) -> Problem {
    let value = scanner.value().and_then(|value| {
        scanner.end()?;
        Ok(value)
    });
    match value {
        Ok(value) => Problem::not_an_object(&describe(value)),
        Err(error) => error.into(),
    }
}

impl From<SyntaxError> for Problem {
    fn from(error: SyntaxError) -> Self {
        Self::not_json(error.byte, error.what)
    }
}

#[cfg(test)]
mod tests;
