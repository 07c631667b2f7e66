//! Tagflow's operators: what happens to rows between a source and a sink.
//!
//! - [`map`]: filter and projection;
//! - [`join`]: rows with what belongs to them;
//! - [`window`]: tumbling windows, aggregated in two phases.
//!
//! Operators use `DataFusion`'s expressions, group values and accumulators, which
//! are synchronous and columnar; no operator runs a query plan.

pub mod expr;
pub mod join;
pub mod map;
pub mod window;
