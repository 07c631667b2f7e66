//! Tagflow's operators: transformations of rows between a source and a sink.
//!
//! - [`map`]: filter and projection;
//! - [`join`]: joins of rows;
//! - [`top_n`]: the best rows of each window;
//! - [`keyed`]: de-duplication, sessions and rates, by key in the order of event time;
//! - [`aggregate`]: aggregate functions that `DataFusion` does not have;
//! - [`bots`]: the detection of bots by their user agents;
//! - [`tags`]: values of each key, and segments of keys;
//! - [`window`]: windows, aggregated in two phases;
//! - [`row_errors`]: dead letters of rows on which an expression fails;
//! - [`size`]: estimates of the memory for state.
//!
//! Operators use `DataFusion`'s expressions, group values and accumulators, which are synchronous
//! and columnar. No operator runs a query plan.

pub mod aggregate;
pub mod bots;
pub mod expr;
pub mod join;
pub mod keyed;
mod late;
pub mod map;
mod portions;
mod row_buffer;
pub mod row_errors;
pub mod size;
pub mod tags;
pub mod top_n;
pub mod window;
