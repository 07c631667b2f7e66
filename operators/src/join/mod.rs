//! Joins: rows with what belongs to them.
//!
//! - [`lookup`]: each row with the row of a table that has its key; the table
//!   is the same on all lanes, so nothing is exchanged and nothing is kept.

mod dimension;
pub mod lookup;

#[cfg(test)]
mod tests;

pub use dimension::{CurrentDimension, Dimension};
