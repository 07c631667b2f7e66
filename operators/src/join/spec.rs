//! What two streams are joined by.

use std::{collections::BTreeSet, sync::Arc};

use arrow::datatypes::SchemaRef;
use datafusion::physical_plan::PhysicalExpr;
use tagflow_engine::{Result, operator::OperatorFactory};

use super::{interval::IntervalJoin, window::WindowJoin};

/// A join of two streams, exchanged by their keys.
#[derive(Debug, Clone)]
pub struct JoinSpec {
    /// The pipeline's name, for late rows.
    pub pipeline: Arc<str>,
    /// The query's name, for late rows and errors.
    pub query: Arc<str>,
    /// The left and the right side, which are the inputs 0 and 1.
    pub sides: [JoinSide; 2],
    /// Which rows may belong together, beside those of equal keys.
    pub bound: Bound,
    /// Over a row of the output: what else must be true of two rows that belong
    /// together.
    pub condition: Option<Arc<dyn PhysicalExpr>>,
    /// The output: the columns of the left side, then those of the right one.
    pub output: SchemaRef,
}

/// A side of a join.
#[derive(Debug, Clone)]
pub struct JoinSide {
    /// Its rows: first the columns that come out, then the keys, then the offset
    /// where rows have one.
    pub input: SchemaRef,
    /// The columns of `input` whose values late rows do not show.
    pub personal: BTreeSet<String>,
    /// How many columns come out.
    pub columns: usize,
    /// How many keys there are: as many and of the same types on both sides. A
    /// null equals nothing.
    pub keys: usize,
    /// The column of the window or of the event time.
    pub time: usize,
    /// What becomes of a row to which no other belongs.
    pub alone: Alone,
}

/// What becomes of a row to which no other belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alone {
    /// It does not come out.
    Drop,
    /// It comes out with nulls for the other side.
    Emit,
}

/// When rows may belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// In the same window, which is among the keys.
    Window,
    /// Where the right event is at least `min_us` and at most `max_us`
    /// microseconds after the left one.
    Interval {
        /// At least.
        min_us: i64,
        /// At most.
        max_us: i64,
    },
}

impl JoinSpec {
    /// Makes the operators.
    pub fn factory(self) -> OperatorFactory {
        let spec = Arc::new(self);
        Arc::new(move |lane| -> Result<_> {
            let spec = Arc::clone(&spec);
            Ok(match spec.bound {
                Bound::Window => Box::new(WindowJoin::new(spec, lane.lane)?),
                Bound::Interval { min_us, max_us } => {
                    Box::new(IntervalJoin::new(spec, [min_us, max_us], lane.lane)?)
                }
            })
        })
    }
}

impl JoinSide {
    /// The columns by which its rows are exchanged.
    pub fn hash_columns(&self) -> Vec<usize> {
        (self.columns..self.columns + self.keys).collect()
    }
}
