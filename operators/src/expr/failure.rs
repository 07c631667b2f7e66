//! The reason why an expression has no value, and a suggestion.

use std::sync::Arc;

use arrow::{datatypes::Schema, error::ArrowError};
use datafusion::{
    error::DataFusionError, physical_expr::utils::collect_columns, physical_plan::PhysicalExpr,
};
use tagflow_engine::Error;

use super::sql_text::{failed, sql};

/// The reason why rows could not be computed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// An expression has no value for a row.
    Row(FailedExpr),
    /// Another error, which stops the job.
    Job(Error),
}

/// An expression that has no value for a row.
#[derive(Debug)]
pub(crate) struct FailedExpr {
    pub(crate) expr: Arc<dyn PhysicalExpr>,
    pub(crate) cause: Box<DataFusionError>,
}

impl Failure {
    /// The error of `node`, if rows cannot become dead letters.
    pub(crate) fn into_error(self, node: &str) -> Error {
        match self {
            Self::Row(FailedExpr { expr, cause }) => failed(node, &sql(&expr), *cause),
            Self::Job(error) => error,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Job(error)
    }
}

impl From<ArrowError> for Failure {
    fn from(error: ArrowError) -> Self {
        Self::Job(error.into())
    }
}

/// A kind of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    DivisionByZero,
    Cast,
    Overflow,
    Time,
    Other,
}

impl Reason {
    fn of(cause: &DataFusionError) -> Self {
        match cause.find_root() {
            DataFusionError::ArrowError(error, _) => match error.as_ref() {
                ArrowError::DivideByZero => Self::DivisionByZero,
                ArrowError::ArithmeticOverflow(_) => Self::Overflow,
                ArrowError::CastError(_) | ArrowError::ParseError(_) => Self::Cast,
                other => Self::of_text(&other.to_string()),
            },
            other => Self::of_text(&other.to_string()),
        }
    }

    fn of_text(text: &str) -> Self {
        let text = text.to_lowercase();
        let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
        if has(&["regular expression", "regex"]) {
            Self::Other
        } else if has(&["divide by zero", "division by zero"]) {
            Self::DivisionByZero
        } else if has(&["timestamp", "date", "nanosecond"]) {
            Self::Time
        } else if has(&["overflow", "too large", "too small", "precision"]) {
            Self::Overflow
        } else if has(&["cast", "parse", "parsing"]) {
            Self::Cast
        } else {
            Self::Other
        }
    }

    /// Its stable name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::DivisionByZero => "division_by_zero",
            Self::Cast => "cast_failed",
            Self::Overflow => "overflow",
            Self::Time => "time_out_of_range",
            Self::Other => "expression_failed",
        }
    }

    /// The message if values are masked.
    fn without_values(self) -> &'static str {
        match self {
            Self::DivisionByZero => "division by zero",
            Self::Cast => "a value cannot be cast",
            Self::Overflow => "arithmetic overflow",
            Self::Time => "a time is out of range",
            Self::Other => "a value is not allowed",
        }
    }

    /// A suggestion for another expression.
    pub(crate) fn hint(self) -> &'static str {
        match self {
            Self::DivisionByZero => {
                "write `x / nullif(y, 0)`, which is null there, or drop such rows by a `where` \
                 in front"
            }
            Self::Cast => {
                "write `TRY_CAST(x AS type)`, which is null there, or drop such rows by a `where` \
                 in front"
            }
            Self::Overflow => {
                "cast to a wider type first, such as `CAST(x AS DECIMAL(38, 0))`, or drop such \
                 rows by a `where` in front"
            }
            Self::Time => {
                "many functions of time reach from 1677 to 2262 only: write `CASE WHEN x < \
                 '2262-01-01' THEN … END`, or drop such rows by a `where` in front"
            }
            Self::Other => {
                "guard it by `CASE WHEN … THEN … END`, or drop such rows by a `where` in front"
            }
        }
    }
}

impl FailedExpr {
    pub(crate) fn reason(&self) -> Reason {
        Reason::of(&self.cause)
    }

    /// The message, without the values of columns that `hides` selects.
    pub(crate) fn message(&self, schema: &Schema, hides: impl Fn(&str) -> bool) -> String {
        let columns = collect_columns(&self.expr);
        let mut names = columns.iter().map(|column| {
            let field = schema.fields().get(column.index());
            field.map_or(column.name(), |field| field.name().as_str())
        });
        if names.any(hides) {
            return self.reason().without_values().to_owned();
        }
        one_line(&self.cause_text())
    }

    fn cause_text(&self) -> String {
        match self.cause.find_root() {
            DataFusionError::ArrowError(error, _) => match error.as_ref() {
                ArrowError::DivideByZero => self.reason().without_values().to_owned(),
                ArrowError::CastError(text)
                | ArrowError::ParseError(text)
                | ArrowError::ComputeError(text)
                | ArrowError::InvalidArgumentError(text)
                | ArrowError::ArithmeticOverflow(text) => text.clone(),
                other => other.to_string(),
            },
            DataFusionError::Execution(text) | DataFusionError::Plan(text) => text.clone(),
            other => other.to_string(),
        }
    }

    /// The expression as SQL.
    pub(crate) fn text(&self) -> String {
        sql(&self.expr)
    }
}

/// A message of several lines, such as that of a regular expression, on one line.
fn one_line(text: &str) -> String {
    let lines = text.lines().map(str::trim);
    let lines: Vec<&str> = lines.filter(|line| !line.is_empty()).collect();
    lines.join(" ")
}

/// Whether an error may concern a single row. Others concern the expression or the machine.
pub(super) fn is_of_row(error: &DataFusionError) -> bool {
    !matches!(
        error.find_root(),
        DataFusionError::Internal(_)
            | DataFusionError::NotImplemented(_)
            | DataFusionError::ResourcesExhausted(_)
            | DataFusionError::IoError(_)
            | DataFusionError::Configuration(_)
            | DataFusionError::SchemaError(..)
    )
}
