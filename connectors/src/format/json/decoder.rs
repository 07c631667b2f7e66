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
    decode_error::DecodeError,
    encoded::{decode_rows, encoded},
    row_builder::RowBuilder,
};

/// The options of the JSON format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonOptions {
    /// Longer rows are rejected, in bytes.
    pub max_row_bytes: usize,
    /// The zone of `timestamp(rfc3339)` texts without one; if `None`, such texts are rejected.
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
/// Fields without a column are ignored. If a row repeats a field, each value must fit and the last
/// one counts. A null equals a missing field.
///
/// | type | in the row |
/// | --- | --- |
/// | `string` | a string |
/// | `int64` | a number without fraction or exponent |
/// | `float64` | a number |
/// | `bool` | `true`, `false` |
/// | `decimal(p,s)` | a number or a string, parsed digit by digit; more than s places are refused unless they are zeros |
/// | `timestamp(s)`, `(ms)`, `(us)`, `(ns)` | a number, with a fraction or exponent or not |
/// | `timestamp(rfc3339)` | a string with a zone |
/// | `date` | a string, `YYYY-MM-DD` |
/// | `json` | any value, kept as it is written |
/// | `list<T>` | an array of T and nulls |
#[derive(Debug)]
pub struct JsonFormat {
    table: RowBuilder,
    fields: Fields,
    options: JsonOptions,
}

impl JsonFormat {
    /// Decodes only `columns` from each row.
    pub fn new(columns: Vec<Column>, options: JsonOptions) -> Self {
        Self {
            fields: Fields::new(columns.iter().map(|column| column.name.as_str())),
            table: RowBuilder::new(columns),
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

/// Parses the whole row even after a value that does not fit: invalid JSON is the more important
/// reason.
#[inline]
fn read_row(
    text: &str,
    table: &mut RowBuilder,
    fields: &mut Fields,
    zone: Option<Tz>,
) -> Result<(), DecodeError> {
    let mut scanner = Scanner::new(text);
    match scanner.peek() {
        Some(b'{') => {}
        Some(_) => return Err(not_an_object(&mut scanner)),
        None => return Err(DecodeError::empty()),
    }
    let mut problem = None;
    fields.start_row();
    let mut more = scanner.open(b'}');
    while more {
        let column = if scanner.take(fields.guess()) {
            fields.guessed()
        } else {
            // A name that is not text names no column.
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
    table: &mut RowBuilder,
    column: usize,
    zone: Option<Tz>,
) -> Result<(), DecodeError> {
    let (name, cell) = table.cell(column);
    match value {
        // The cell stays empty.
        Value::Null => Ok(()),
        value => append(value, cell, name, zone),
    }
}

#[cold]
fn not_an_object(scanner: &mut Scanner<'_>) -> DecodeError {
    let value = scanner.value().and_then(|value| {
        scanner.end()?;
        Ok(value)
    });
    match value {
        Ok(value) => DecodeError::not_an_object(&describe(value)),
        Err(error) => error.into(),
    }
}

impl From<SyntaxError> for DecodeError {
    fn from(error: SyntaxError) -> Self {
        Self::not_json(error.byte, error.what)
    }
}

#[cfg(test)]
mod tests;
