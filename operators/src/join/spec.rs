//! The specification of a join of two streams.

use std::{collections::BTreeSet, sync::Arc};

use arrow::datatypes::SchemaRef;
use datafusion::physical_plan::PhysicalExpr;
use tagflow_engine::{Result, operator::OperatorFactory};

use super::{
    interval::{IntervalJoin, SLOTS},
    window::WindowJoin,
};
use crate::{
    row_errors::RowErrors,
    size::{Load, StateSize},
};

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

impl JoinSpec {
    /// The estimated state of both sides. For events, it holds the rows that may still
    /// find a match, for one slot of time too long. For windows, it holds a row per key
    /// until the window has closed.
    pub fn size(&self, load: &Load) -> StateSize {
        let entries = match self.bound {
            Bound::Window => [load.keys; 2],
            Bound::Interval { min_us, max_us } => [max_us, min_us.saturating_neg()].map(|reach| {
                let reach_s = reach.max(0) as f64 / 1e6;
                let slots = 1.0 + 1.5 / SLOTS as f64;
                load.rate * (reach_s * slots + load.delay_s)
            }),
        };
        let bytes = entries.iter().zip(&self.sides);
        let bytes = bytes.map(|(rows, side)| rows * load.row_bytes(&side.input));
        StateSize {
            entries: entries.iter().sum(),
            unit: "rows",
            bytes: bytes.sum(),
        }
    }
}

impl JoinSide {
    /// The columns by which its rows are exchanged.
    pub fn hash_columns(&self) -> Vec<usize> {
        (self.columns..self.columns + self.keys).collect()
    }
}
