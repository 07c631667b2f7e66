//! Joins of rows.
//!
//! - [`lookup`]: each row with the row of a table that has its key. The table is the same
//!   on all lanes, so the join needs no exchange and no state.
//! - [`JoinSpec`]: the rows of two streams with equal keys, in the same *window* or
//!   within an *interval* of time. Both streams are exchanged by the keys. Both sides are
//!   buffered, by time, until the watermark has passed them.

mod dimension;
mod interval;
pub mod lookup;
mod pairs;
mod spec;
mod stages;
mod window;

#[cfg(test)]
mod tests;

pub use dimension::{CurrentDimension, Dimension};
pub use spec::{Alone, Bound, JoinSide, JoinSpec};
