//! Tagflow's operators: what happens to rows between a source and a sink.
//!
//! - [`map`]: filter and projection;
//! - [`join`]: rows with what belongs to them;
//! - [`top`]: the best rows of each window;
//! - [`ordered`]: de-duplication, sessions and rates, by key in the order of event
//!   time;
//! - [`aggregate`]: aggregate functions that `DataFusion` has not;
//! - [`bots`]: which user agents are of bots;
//! - [`tags`]: what is known of each key, and segments of keys;
//! - [`window`]: windows, aggregated in two phases;
//! - [`size`]: how much memory state will take.
//!
//! Operators use `DataFusion`'s expressions, group values and accumulators, which
//! are synchronous and columnar; no operator runs a query plan.

pub mod aggregate;
pub mod bots;
pub mod expr;
mod held;
pub mod join;
mod late;
pub mod map;
pub mod ordered;
pub mod size;
pub mod tags;
pub mod top;
pub mod window;
