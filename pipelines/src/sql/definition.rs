//! Relations as the pipeline file defines them, and their errors.

use std::time::Duration;

use tagflow_operators::window::Emission;
use tagflow_schemas::Column;

use super::SqlError;
use crate::spec::Metrics;

/// The definition of a relation in the pipeline file.
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
        /// The columns that identify a row.
        key: Vec<String>,
    },
    /// Row by row.
    Step {
        /// The relation that it reads.
        from: String,
        /// The name of that relation in its texts.
        called: String,
        /// The filter on rows.
        filter: Option<String>,
        /// The columns; those of `from`, if there are none.
        select: Option<Vec<SelectItem>>,
    },
    /// Part of a step: all rows, each with a flag for bots.
    Flagged {
        /// The relation that it reads.
        from: String,
        /// The column with the user agent; if `None`, no row is flagged.
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
        /// The rule that its rows pass through.
        rule: OrderedRule,
    },
    /// Streaming SQL.
    Query {
        /// The text.
        sql: String,
        /// When results are emitted.
        emission: Emission,
    },
    /// Measures by key and window.
    Metrics(Box<Metrics>),
}

/// A rule for the rows of a key, in the order of event time.
#[derive(Debug, Clone)]
pub enum OrderedRule {
    /// A row passes unless an earlier row passed at most `within` before it.
    Dedupe {
        /// How long a row that passed blocks repetitions.
        within: Duration,
    },
    /// Sets a flag if the key of a row has more than `more_than` rows in the time `over`.
    Rate {
        /// The time up to each row in which rows are counted.
        over: Duration,
        /// The most rows that are not flagged.
        more_than: u64,
        /// The column with the flag, which exists already.
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
    /// Its name, if the text does not contain it.
    pub name: Option<String>,
    /// An expression, with `AS` and a name unless `name` gives one; or `*`.
    pub text: String,
}

/// An error in a text of a relation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The relation.
    pub relation: String,
    /// The text with the error.
    pub part: Part,
    /// The error, and its place in that text.
    pub error: SqlError,
}

/// A text of a relation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// The relations that it reads.
    From,
    /// The column with this index in a key.
    Key(usize),
    /// The name of a new column.
    Column,
    /// The column with the user agent.
    UserAgent,
    /// The filter of a step.
    Where,
    /// The column with this index in a step.
    Select(usize),
    /// The SQL of a query.
    Query,
    /// A part of a `metrics` block.
    Metrics(MetricsPart),
}

/// A part of a `metrics` block; measures, keys and derived columns are numbered in the block's
/// order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MetricsPart {
    /// The whole block.
    Whole,
    /// A column of the key.
    Key(usize),
    /// The window of event time.
    Window,
    /// The time zone of the window.
    Timezone,
    /// When results are emitted.
    Emit,
    /// A measure.
    Measure(usize),
    /// The relation that a measure reads.
    From(usize),
    /// The rows that a measure counts.
    Where(usize),
    /// The argument that a measure aggregates.
    Arg(usize),
    /// A derived column.
    Derived(usize),
}
