//! Relations as the pipeline file defines them, and what can be wrong with them.

use std::time::Duration;

use tagflow_operators::window::Emission;
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
        /// What its texts call that relation.
        called: String,
        /// Which rows go on.
        filter: Option<String>,
        /// The columns; those of `from`, if there are none.
        select: Option<Vec<SelectItem>>,
    },
    /// Part of a step: all rows, and whether each is of a bot.
    Flagged {
        /// The relation that it reads.
        from: String,
        /// The column with the user agent; without one, no row is.
        user_agent: Option<String>,
        /// The new column.
        column: String,
    },
    /// Part of a step: the rows by key, in the order of event time.
    Ordered {
        /// The relation that it reads.
        from: String,
        /// The columns of the key.
        key: Vec<String>,
        /// What happens to them.
        rule: OrderedRule,
    },
    /// Streaming SQL.
    Query {
        /// The text.
        sql: String,
        /// When results come out.
        emission: Emission,
    },
}

/// What happens to the rows of a key, in the order of event time.
#[derive(Debug, Clone)]
pub enum OrderedRule {
    /// A row passes unless one that passed lies at most `within` before it.
    Dedupe {
        /// How long a row that passed keeps others out.
        within: Duration,
    },
    /// A flag is set where there were more than so many rows.
    Rate {
        /// The time up to each row in which rows are counted.
        over: Duration,
        /// The most rows that are not flagged.
        more_than: u64,
        /// The column with the flag, which is there already.
        flag: String,
    },
    /// The session of each row is a new column.
    Sessions {
        /// A row more than this after the one before begins a session.
        gap: Duration,
        /// The new column.
        column: String,
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
    /// The column at this place of a key.
    Key(usize),
    /// The name of a new column.
    Column,
    /// The column with the user agent.
    UserAgent,
    /// The filter of a step.
    Where,
    /// The column of a step at this place.
    Select(usize),
    /// The SQL of a query.
    Query,
}
