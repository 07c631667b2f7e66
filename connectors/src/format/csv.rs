//! Rows of separated values.

use std::borrow::Cow;

use chrono_tz::Tz;
use memchr::{memchr, memchr2};
use tagflow_engine::{
    Result,
    source::{Decoded, Decoder, EncodedRows, Rows},
};
use tagflow_schemas::{Column, ColumnType, TimeUnit, personal::HIDDEN};

use super::{
    DEFAULT_MAX_ROW_BYTES,
    buffer::{ColumnBuffer, Misfit},
    decode_error::{DecodeError, shortened},
    encoded::{decode_rows, encoded},
    json::append_json,
    record::{RecordEnd, Separators},
    row_builder::RowBuilder,
};

/// The options of the CSV format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CsvOptions {
    /// The source of the field names.
    pub header: CsvHeader,
    /// Separates two values: one ASCII character.
    pub delimiter: u8,
    /// Surrounds values that contain a delimiter; doubled inside a value.
    pub quote: u8,
    /// Longer rows are rejected, in bytes.
    pub max_row_bytes: usize,
    /// The zone of `timestamp(rfc3339)` texts without one; if `None`, such texts are rejected.
    pub assume_timezone: Option<Tz>,
}

impl Default for CsvOptions {
    fn default() -> Self {
        Self {
            header: CsvHeader::Line,
            delimiter: b',',
            quote: b'"',
            max_row_bytes: DEFAULT_MAX_ROW_BYTES,
            assume_timezone: None,
        }
    }
}

/// The source of the names of CSV fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CsvHeader {
    /// The first line of each file. The files source puts it before the data of every chunk,
    /// outside the rows, so that each chunk can be decoded alone.
    Line,
    /// There is no header; these are the fields in order.
    Names(Vec<String>),
}

/// Rows of separated values (RFC 4180). A quoted value may contain line breaks.
///
/// Types follow the rules of [`JsonFormat`](super::JsonFormat), applied to the value's text; `json`
/// and `list<T>` values are JSON. An empty value without quotes is null. A row with more or fewer
/// values than fields is rejected.
#[derive(Debug)]
pub struct CsvFormat {
    table: RowBuilder,
    options: CsvOptions,
    fields: Fields,
}

impl CsvFormat {
    /// Decodes only `columns` from each row.
    pub fn new(columns: Vec<Column>, options: CsvOptions) -> Self {
        let mut fields = Fields::default();
        if let CsvHeader::Names(names) = &options.header {
            fields.set(names.iter().map(String::as_str), &columns);
        }
        Self {
            table: RowBuilder::new(columns),
            options,
            fields,
        }
    }

    fn read_header(&mut self, rows: &EncodedRows) {
        let line = header_line(rows, &self.options);
        if self.options.header == CsvHeader::Line && *line != *self.fields.header {
            let names = header_names(line, &self.options);
            self.fields
                .set(names.iter().map(String::as_str), self.table.columns());
            self.fields.header = line.to_vec();
        }
    }
}

impl Decoder for CsvFormat {
    fn decode(&mut self, rows: &Rows) -> Result<Decoded> {
        let rows = encoded(rows, "CSV")?;
        self.read_header(rows);
        let rejected = decode_rows(
            rows,
            self.options.max_row_bytes,
            &mut self.table,
            |text, table| read_row(text, table, &self.fields, &self.options),
        );
        Ok(Decoded {
            records: self.table.finish()?,
            rejected,
        })
    }
}

/// The header before a chunk's rows.
fn header_line<'a>(rows: &'a EncodedRows, options: &CsvOptions) -> &'a [u8] {
    let separators = Separators {
        delimiter: options.delimiter,
        quote: options.quote,
        line_end: b'\n',
    };
    let header = match separators.record_end(&rows.data) {
        RecordEnd::At(end) => &rows.data[..end],
        RecordEnd::Beyond(_) => &rows.data[..],
    };
    header.trim_ascii_end()
}

fn header_names(line: &[u8], options: &CsvOptions) -> Vec<String> {
    let text = String::from_utf8_lossy(line);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    Values::new(text, options)
        .map_while(Result::ok)
        .map(|value| value.text.trim().to_owned())
        .collect()
}

/// `row` of `rows` with the values of the fields masked for which `hides` is true. Empty values
/// stay. `None` if its values cannot be separated.
pub(super) fn masked(
    rows: &EncodedRows,
    row: &str,
    options: &CsvOptions,
    hides: impl Fn(&str) -> bool,
) -> Option<String> {
    let names = match &options.header {
        CsvHeader::Line => header_names(header_line(rows, options), options),
        CsvHeader::Names(names) => names.clone(),
    };
    let mut names = names.iter();
    let mut values = Values::new(row, options);
    let mut masked = String::with_capacity(row.len());
    let mut begin = 0;
    while let Some(value) = values.next() {
        value.ok()?;
        let end = values
            .rest
            .map_or(row.len(), |rest| row.len() - rest.len() - 1);
        let written = &row[begin..end];
        let hidden = hides(names.next()?) && !written.is_empty();
        masked.push_str(if hidden { HIDDEN } else { written });
        if values.rest.is_some() {
            masked.push(char::from(options.delimiter));
        }
        begin = end + 1;
    }
    names.next().is_none().then_some(masked)
}

/// The columns of a row's fields, in the order of the fields.
#[derive(Debug, Default)]
struct Fields {
    /// The line that the fields were parsed from.
    header: Vec<u8>,
    columns: Vec<Option<usize>>,
}

impl Fields {
    fn set<'a>(&mut self, names: impl Iterator<Item = &'a str>, columns: &[Column]) {
        let of_name = |name| columns.iter().position(|column| column.name == name);
        self.columns = names.map(of_name).collect();
    }
}

fn read_row(
    text: &str,
    table: &mut RowBuilder,
    fields: &Fields,
    options: &CsvOptions,
) -> Result<(), DecodeError> {
    let mut count = 0;
    let mut problem = None;
    for value in Values::new(text, options) {
        let value = value?;
        if let Some(&Some(column)) = fields.columns.get(count) {
            let (name, cell) = table.cell(column);
            let put = append(&value, cell, name, options.assume_timezone);
            problem = problem.or(put.err());
        }
        count += 1;
    }
    let expected = fields.columns.len();
    if count != expected {
        let message = format!("the row has {count} values, and there are {expected} fields");
        return Err(DecodeError::not_csv(message));
    }
    problem.map_or(Ok(()), Err)
}

/// A value of a row.
#[derive(Debug, PartialEq)]
struct Value<'a> {
    text: Cow<'a, str>,
    quoted: bool,
}

/// Splits a row at its delimiters.
struct Values<'a> {
    rest: Option<&'a str>,
    delimiter: u8,
    quote: u8,
}

impl<'a> Values<'a> {
    fn new(row: &'a str, options: &CsvOptions) -> Self {
        Self {
            rest: Some(row),
            delimiter: options.delimiter,
            quote: options.quote,
        }
    }

    fn plain(&mut self, rest: &'a str) -> Result<Value<'a>, DecodeError> {
        let stop = memchr2(self.delimiter, self.quote, rest.as_bytes());
        let end = stop.unwrap_or(rest.len());
        if rest.as_bytes().get(end) == Some(&self.quote) {
            return Err(DecodeError::not_csv(
                "a quote inside a value without quotes",
            ));
        }
        self.rest = stop.map(|stop| &rest[stop + 1..]);
        Ok(Value {
            text: Cow::Borrowed(&rest[..end]),
            quoted: false,
        })
    }

    /// `rest` begins after the opening quote.
    fn quoted(&mut self, rest: &'a str) -> Result<Value<'a>, DecodeError> {
        let bytes = rest.as_bytes();
        let mut doubled = false;
        let mut end = 0;
        loop {
            let Some(quote) = memchr(self.quote, &bytes[end..]) else {
                return Err(DecodeError::not_csv(
                    "a quote is not closed before the end of the row",
                ));
            };
            end += quote;
            if bytes.get(end + 1) != Some(&self.quote) {
                break;
            }
            doubled = true;
            end += 2;
        }
        self.rest = match bytes.get(end + 1) {
            None => None,
            Some(byte) if *byte == self.delimiter => Some(&rest[end + 2..]),
            Some(_) => {
                return Err(DecodeError::not_csv(
                    "something follows after a closing quote",
                ));
            }
        };
        let text = &rest[..end];
        let quote = char::from(self.quote);
        Ok(Value {
            text: if doubled {
                Cow::Owned(text.replace(&format!("{quote}{quote}"), &quote.to_string()))
            } else {
                Cow::Borrowed(text)
            },
            quoted: true,
        })
    }
}

impl<'a> Iterator for Values<'a> {
    type Item = Result<Value<'a>, DecodeError>;

    /// After an error the rest of the row is ignored.
    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.rest.take()?;
        Some(match rest.as_bytes().first() {
            Some(byte) if *byte == self.quote => self.quoted(&rest[1..]),
            _ => self.plain(rest),
        })
    }
}

fn append(
    value: &Value<'_>,
    column: &mut ColumnBuffer,
    name: &str,
    zone: Option<Tz>,
) -> Result<(), DecodeError> {
    if value.text.is_empty() && !value.quoted {
        return Ok(());
    }
    append_text(&value.text, column, name, zone)
}

/// Appends the value of `text`, for formats that have only text.
pub(super) fn append_text(
    text: &str,
    column: &mut ColumnBuffer,
    name: &str,
    zone: Option<Tz>,
) -> Result<(), DecodeError> {
    let result = match column.kind() {
        ColumnType::String
        | ColumnType::Date
        | ColumnType::Decimal { .. }
        | ColumnType::Timestamp(TimeUnit::Rfc3339) => column.append_string(text, zone),
        ColumnType::Int64 | ColumnType::Float64 | ColumnType::Timestamp(_) => {
            column.append_number(text)
        }
        ColumnType::Bool => match text {
            "true" => column.append_bool(true),
            "false" => column.append_bool(false),
            _ => Err(Misfit::Type),
        },
        ColumnType::Json | ColumnType::List(_) => match append_json(text, column, name, zone) {
            Some(result) => return result,
            None => Err(Misfit::Type),
        },
    };
    result.map_err(|misfit| {
        let got = format!("\"{}\"", shortened(text));
        DecodeError::wrong_type(name, &misfit.message(column.kind(), &got))
    })
}

#[cfg(test)]
mod tests;
