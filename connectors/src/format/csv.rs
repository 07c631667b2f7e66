//! Rows of separated values, one line each.

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
    encoded::{decode_rows, encoded},
    json::append_json,
    problem::{Problem, shortened},
    table::Table,
};

/// How CSV rows are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CsvOptions {
    /// Where the names of the fields come from.
    pub header: CsvHeader,
    /// What stands between two values: one ASCII character.
    pub delimiter: u8,
    /// What values that hold a delimiter stand between; doubled inside.
    pub quote: u8,
    /// A row of more bytes is rejected.
    pub max_row_bytes: usize,
    /// The zone of `timestamp(rfc3339)` texts that name none; without it they
    /// are rejected.
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

/// Where the names of CSV fields come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CsvHeader {
    /// The first line of each file. The files source puts it in front of the
    /// data of every chunk, outside the rows, so that a chunk can be read by
    /// itself.
    Line,
    /// There is no header; these are the fields in order.
    Names(Vec<String>),
}

/// Rows of separated values (RFC 4180), one a line: a value cannot hold a line
/// break.
///
/// Types are read as [`JsonFormat`](super::JsonFormat) reads them, of the
/// value's text; `json` and `list<T>` values are JSON. A value without quotes
/// and of no length is null. A row with more or fewer values than there are
/// fields is rejected.
#[derive(Debug)]
pub struct CsvFormat {
    table: Table,
    options: CsvOptions,
    fields: Fields,
}

impl CsvFormat {
    /// Reads `columns` out of each row, and nothing else.
    pub fn new(columns: Vec<Column>, options: CsvOptions) -> Self {
        let mut fields = Fields::default();
        if let CsvHeader::Names(names) = &options.header {
            fields.set(names.iter().map(String::as_str), &columns);
        }
        Self {
            table: Table::new(columns),
            options,
            fields,
        }
    }

    fn read_header(&mut self, rows: &EncodedRows) {
        let line = header_line(rows);
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

/// The line in front of a chunk's rows.
fn header_line(rows: &EncodedRows) -> &[u8] {
    let end = memchr(b'\n', &rows.data).unwrap_or(rows.data.len());
    rows.data[..end].trim_ascii_end()
}

fn header_names(line: &[u8], options: &CsvOptions) -> Vec<String> {
    let text = String::from_utf8_lossy(line);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    Values::new(text, options)
        .map_while(Result::ok)
        .map(|value| value.text.trim().to_owned())
        .collect()
}

/// `row` of `rows` as it is but for the values of the fields that `hides` says;
/// empty ones stay. `None` where its values cannot be told apart.
pub(super) fn masked(
    rows: &EncodedRows,
    row: &str,
    options: &CsvOptions,
    hides: impl Fn(&str) -> bool,
) -> Option<String> {
    let names = match &options.header {
        CsvHeader::Line => header_names(header_line(rows), options),
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
    /// The line that they were read from.
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
    table: &mut Table,
    fields: &Fields,
    options: &CsvOptions,
) -> Result<(), Problem> {
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
        return Err(Problem::not_csv(message));
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

    fn plain(&mut self, rest: &'a str) -> Result<Value<'a>, Problem> {
        let stop = memchr2(self.delimiter, self.quote, rest.as_bytes());
        let end = stop.unwrap_or(rest.len());
        if rest.as_bytes().get(end) == Some(&self.quote) {
            return Err(Problem::not_csv("a quote inside a value without quotes"));
        }
        self.rest = stop.map(|stop| &rest[stop + 1..]);
        Ok(Value {
            text: Cow::Borrowed(&rest[..end]),
            quoted: false,
        })
    }

    /// `rest` begins after the opening quote.
    fn quoted(&mut self, rest: &'a str) -> Result<Value<'a>, Problem> {
        let bytes = rest.as_bytes();
        let mut doubled = false;
        let mut end = 0;
        loop {
            let Some(quote) = memchr(self.quote, &bytes[end..]) else {
                return Err(Problem::not_csv(
                    "a quote is not closed before the end of the line",
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
                return Err(Problem::not_csv("something follows after a closing quote"));
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
    type Item = Result<Value<'a>, Problem>;

    /// After an error the rest of the row means nothing.
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
) -> Result<(), Problem> {
    if value.text.is_empty() && !value.quoted {
        return Ok(());
    }
    append_text(&value.text, column, name, zone)
}

/// Appends the value that `text` stands for in a format that knows only text.
pub(super) fn append_text(
    text: &str,
    column: &mut ColumnBuffer,
    name: &str,
    zone: Option<Tz>,
) -> Result<(), Problem> {
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
        Problem::wrong_type(name, &misfit.message(column.kind(), &got))
    })
}

#[cfg(test)]
mod tests;
