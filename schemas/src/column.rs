//! The types of a source's columns, and their Arrow types.

use std::{fmt, str::FromStr, sync::Arc};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit as ArrowTimeUnit};

/// A column of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name in the rows and in SQL.
    pub name: String,
    /// Its type.
    pub kind: ColumnType,
    /// Whether a row may lack it. A row that lacks a required column is a dead
    /// letter.
    pub nullable: bool,
}

impl Column {
    /// The column as an Arrow field.
    pub fn field(&self) -> Field {
        Field::new(&self.name, self.kind.arrow(), self.nullable)
    }

    /// The schema of `columns`, in order.
    pub fn schema(columns: &[Self]) -> SchemaRef {
        Arc::new(Schema::new(
            columns.iter().map(Self::field).collect::<Vec<_>>(),
        ))
    }
}

/// A column's type, as written in a pipeline file: `string`, `decimal(18,2)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ColumnType {
    /// `string`: UTF-8.
    String,
    /// `int64`.
    Int64,
    /// `float64`.
    Float64,
    /// `bool`.
    Bool,
    /// `decimal(precision,scale)`, at most 38 digits.
    Decimal {
        /// Digits in all, 1 to 38.
        precision: u8,
        /// Digits after the point, 0 to `precision`.
        scale: i8,
    },
    /// `timestamp(unit)`: always microseconds UTC in memory; the unit is that of the input.
    Timestamp(TimeUnit),
    /// `date`: days since 1970-01-01; `YYYY-MM-DD` in the input.
    Date,
    /// `json`: any JSON value, kept as its text.
    Json,
    /// `list<T>`.
    List(Box<ColumnType>),
}

/// The unit of a timestamp in the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeUnit {
    /// Seconds since the Unix epoch, whole or with a fraction.
    Second,
    /// Milliseconds since the Unix epoch.
    Millisecond,
    /// Microseconds since the Unix epoch.
    Microsecond,
    /// Nanoseconds since the Unix epoch; truncated to microseconds.
    Nanosecond,
    /// RFC 3339 text: `2026-01-05T12:00:00Z`, `2026-01-05 12:00:00.5+08:00`.
    Rfc3339,
}

impl ColumnType {
    /// The Arrow type of the decoded column.
    pub fn arrow(&self) -> DataType {
        match self {
            Self::String | Self::Json => DataType::Utf8,
            Self::Int64 => DataType::Int64,
            Self::Float64 => DataType::Float64,
            Self::Bool => DataType::Boolean,
            Self::Decimal { precision, scale } => DataType::Decimal128(*precision, *scale),
            Self::Timestamp(_) => {
                DataType::Timestamp(ArrowTimeUnit::Microsecond, Some(Arc::from("UTC")))
            }
            Self::Date => DataType::Date32,
            Self::List(item) => DataType::List(Arc::new(Field::new_list_field(item.arrow(), true))),
        }
    }
}

impl fmt::Display for ColumnType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::String => f.write_str("string"),
            Self::Int64 => f.write_str("int64"),
            Self::Float64 => f.write_str("float64"),
            Self::Bool => f.write_str("bool"),
            Self::Decimal { precision, scale } => write!(f, "decimal({precision},{scale})"),
            Self::Timestamp(unit) => write!(f, "timestamp({unit})"),
            Self::Date => f.write_str("date"),
            Self::Json => f.write_str("json"),
            Self::List(item) => write!(f, "list<{item}>"),
        }
    }
}

impl fmt::Display for TimeUnit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Second => "s",
            Self::Millisecond => "ms",
            Self::Microsecond => "us",
            Self::Nanosecond => "ns",
            Self::Rfc3339 => "rfc3339",
        })
    }
}

/// An invalid type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ParseTypeError(String);

/// The names that start a type, for messages and suggestions.
pub const TYPE_NAMES: [&str; 9] = [
    "string",
    "int64",
    "float64",
    "bool",
    "decimal",
    "timestamp",
    "date",
    "json",
    "list",
];

impl FromStr for ColumnType {
    type Err = ParseTypeError;

    fn from_str(text: &str) -> Result<Self, ParseTypeError> {
        let text = text.trim();
        let fail = |message: String| Err(ParseTypeError(message));
        if let Some(inner) = text
            .strip_prefix("list<")
            .and_then(|rest| rest.strip_suffix('>'))
        {
            return Ok(Self::List(Box::new(inner.parse()?)));
        }
        let (name, argument) = match text.split_once('(') {
            Some((name, rest)) => match rest.strip_suffix(')') {
                Some(argument) => (name.trim(), Some(argument)),
                None => return fail(format!("type `{text}` lacks a closing `)`")),
            },
            None => (text, None),
        };
        match (name, argument) {
            ("string", None) => Ok(Self::String),
            ("int64", None) => Ok(Self::Int64),
            ("float64", None) => Ok(Self::Float64),
            ("bool", None) => Ok(Self::Bool),
            ("date", None) => Ok(Self::Date),
            ("json", None) => Ok(Self::Json),
            ("decimal", Some(argument)) => decimal(argument),
            ("decimal", None) => fail("`decimal` needs its digits: `decimal(18,2)`".into()),
            ("timestamp", Some(unit)) => Ok(Self::Timestamp(match unit.trim() {
                "s" => TimeUnit::Second,
                "ms" => TimeUnit::Millisecond,
                "us" => TimeUnit::Microsecond,
                "ns" => TimeUnit::Nanosecond,
                "rfc3339" => TimeUnit::Rfc3339,
                other => {
                    return fail(format!(
                        "unknown time unit `{other}`; one of s, ms, us, ns, rfc3339"
                    ));
                }
            })),
            ("timestamp", None) => fail(
                "`timestamp` needs its unit: `timestamp(ms)`; one of s, ms, us, ns, rfc3339".into(),
            ),
            ("list", None) => fail("`list` needs its item type: `list<string>`".into()),
            _ => fail(format!(
                "unknown type `{text}`; one of string, int64, float64, bool, decimal(p,s), \
                 timestamp(s|ms|us|ns|rfc3339), date, json, list<T>"
            )),
        }
    }
}

fn decimal(argument: &str) -> Result<ColumnType, ParseTypeError> {
    let digits = argument.split_once(',').and_then(|(precision, scale)| {
        Some((
            precision.trim().parse::<u8>().ok()?,
            scale.trim().parse::<i8>().ok()?,
        ))
    });
    match digits {
        Some((precision, scale))
            if (1..=38).contains(&precision) && (0..=precision as i8).contains(&scale) =>
        {
            Ok(ColumnType::Decimal { precision, scale })
        }
        _ => Err(ParseTypeError(format!(
            "`decimal({argument})` is not a decimal; write `decimal(precision,scale)` with \
             1 to 38 digits and a scale from 0 to the precision"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_print_as_they_are_written() {
        for text in [
            "string",
            "int64",
            "float64",
            "bool",
            "decimal(18,2)",
            "timestamp(ms)",
            "timestamp(rfc3339)",
            "date",
            "json",
            "list<string>",
            "list<decimal(4,1)>",
        ] {
            assert_eq!(text.parse::<ColumnType>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn bad_types_say_what_to_write() {
        for (text, part) in [
            ("strng", "unknown type `strng`"),
            ("decimal", "decimal(18,2)"),
            ("decimal(40,2)", "1 to 38 digits"),
            ("decimal(4,5)", "scale"),
            ("timestamp", "needs its unit"),
            ("timestamp(minutes)", "unknown time unit `minutes`"),
            ("list", "list<string>"),
            ("timestamp(ms", "closing"),
        ] {
            let error = text.parse::<ColumnType>().unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
