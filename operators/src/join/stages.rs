//! The operators of a join, and the size of their state.

use std::sync::Arc;

use tagflow_engine::{Result, operator::OperatorFactory};

use super::{
    interval::{IntervalJoin, SLOTS},
    spec::{Bound, JoinSpec},
    window::WindowJoin,
};
use crate::size::{Load, StateSize};

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
