//! What two streams are joined by.

use std::{collections::BTreeSet, sync::Arc};

use arrow::datatypes::SchemaRef;
use datafusion::physical_plan::PhysicalExpr;
use tagflow_engine::{Result, operator::OperatorFactory};

use super::{
    interval::{IntervalJoin, SLOTS},
    window::WindowJoin,
};
use crate::size::{Load, StateSize};

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

impl JoinSpec {
    /// What both sides will hold: of events, the rows that may still get company, a
    /// slot of time too long; of windows, a row a key until the window has closed.
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
