//! The specification of a join of two streams.

use std::{collections::BTreeSet, sync::Arc};

use arrow::datatypes::SchemaRef;
use datafusion::physical_plan::PhysicalExpr;

use crate::row_errors::RowErrors;

/// A join of two streams, exchanged by their keys.
#[derive(Debug, Clone)]
pub struct JoinSpec {
    /// The pipeline's name, for late rows.
    pub pipeline: Arc<str>,
    /// The query's name, for late rows and errors.
    pub query: Arc<str>,
    /// The left and the right side, which are the inputs 0 and 1.
    pub sides: [JoinSide; 2],
    /// Which rows match, besides having equal keys.
    pub bound: Bound,
    /// A condition over a row of the output that rows must also meet to match.
    pub condition: Option<Arc<dyn PhysicalExpr>>,
    /// The output: the columns of the left side, then those of the right one.
    pub output: SchemaRef,
    /// How to handle pairs on which the condition fails.
    pub errors: RowErrors,
}

/// A side of a join.
#[derive(Debug, Clone)]
pub struct JoinSide {
    /// Its rows: first the columns of the output, then the keys, then the offset where
    /// rows have one.
    pub input: SchemaRef,
    /// The columns of `input` whose values late rows withhold.
    pub personal: BTreeSet<String>,
    /// The number of columns in the output.
    pub columns: usize,
    /// How many keys the side has: equally many and of the same types on both sides. A
    /// null equals nothing.
    pub keys: usize,
    /// The column of the window or of the event time.
    pub time: usize,
    /// How to handle a row without a match.
    pub alone: Alone,
}

/// How to handle a row without a match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alone {
    /// It is dropped.
    Drop,
    /// It is emitted with nulls for the other side.
    Emit,
}

/// Which rows can match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// Rows of the same window, which is among the keys.
    Window,
    /// Rows where the right event is at least `min_us` and at most `max_us` microseconds
    /// after the left one.
    Interval {
        /// The minimum.
        min_us: i64,
        /// The maximum.
        max_us: i64,
    },
}

impl JoinSide {
    /// The columns by which its rows are exchanged.
    pub fn hash_columns(&self) -> Vec<usize> {
        (self.columns..self.columns + self.keys).collect()
    }
}
