//! Joins: rows with what belongs to them.
//!
//! - [`lookup`]: each row with the row of a table that has its key; the table
//!   is the same on all lanes, so nothing is exchanged and nothing is kept;
//! - [`JoinSpec`]: the rows of two streams with equal keys, which both are
//!   exchanged by, in the same *window* or within an *interval* of time. Both
//!   sides are held back, by time, until the watermark has passed them.

mod dimension;
mod interval;
pub mod lookup;
mod pairs;
mod spec;
mod window;

#[cfg(test)]
mod tests;

pub use dimension::{CurrentDimension, Dimension};
pub use spec::{Alone, Bound, JoinSide, JoinSpec};
