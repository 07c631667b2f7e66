//! Relations as the pipeline file defines them, and what can be wrong with them.

use tagflow_schemas::Column;

use super::SqlError;

/// What the pipeline file says of a relation.
#[derive(Debug, Clone)]
pub enum Definition {
    /// Rows from outside.
    Source {
        /// All columns.
        columns: Vec<Column>,
        /// The one with the event time.
        event_time: String,
    },
    /// Rows that streams are joined with.
    Table {
        /// All columns.
        columns: Vec<Column>,
        /// Those that name a row.
        key: Vec<String>,
    },
    /// Row by row.
    Step {
        /// The relation that it reads.
        from: String,
        /// Which rows go on.
        filter: Option<String>,
        /// The columns; those of `from`, if there are none.
        select: Option<Vec<SelectItem>>,
    },
    /// Streaming SQL.
    Query {
        /// The text.
        sql: String,
    },
}

/// A column of a step.
#[derive(Debug, Clone)]
pub struct SelectItem {
    /// Its name, where that is not in the text.
    pub name: Option<String>,
    /// An expression, with `AS` and a name where `name` gives none; or `*`.
    pub text: String,
}

/// Something wrong with one text of one relation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The relation.
    pub relation: String,
    /// Which of its texts.
    pub part: Part,
    /// What, and where in that text.
    pub error: SqlError,
}

/// A text of a relation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// What it reads.
    From,
    /// The filter of a step.
    Where,
    /// The column of a step at this place.
    Select(usize),
    /// The SQL of a query.
    Query,
}
