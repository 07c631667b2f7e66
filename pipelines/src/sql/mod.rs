//! Streaming SQL: from the text of a query to a [`Stream`] plan.
//!
//! DataFusion parses, resolves names, coerces types and simplifies; nothing of
//! it executes. Then the logical plan is walked into the few shapes that can
//! run on a stream: scan, map, union, windowed aggregate, join, lookup in a table,
//! the best rows of a window, and the parts of steps that need rows in order.
//! Whatever does not fit is refused here, with the reason and what to write instead.
//!
//! The pieces, in the order in which a pipeline meets them:
//!
//! 1. `definition`: what the file says of each relation.
//! 2. `planning`: one after another, inputs first.
//! 3. `parse`: one statement, or one expression, with its places.
//! 4. `refuse`: what the text itself shows cannot run on a stream.
//! 5. `plan`: DataFusion's plan over the `catalog` of relations and `functions`,
//!    walked into a [`Stream`] and checked, aggregates by `windowed`, joins by
//!    `join`, `lookup` and `bound`, rankings by `top`; `lineage` follows the event
//!    time, `upsert` the columns that revisions go by. Steps and sinks come in by
//!    `resolve`, the stateful parts of steps by `stages`, and `metrics` writes the
//!    SQL of its blocks.
//! 6. `program`: which columns each relation must deliver; `optimize` narrows
//!    plans to them.
//! 7. `tags`: the columns and rules of tags and segments.
//! 8. `output`: what a sink sees.

mod bound;
mod catalog;
mod definition;
mod display;
mod error;
mod functions;
mod join;
mod lineage;
mod lookup;
mod metrics;
mod optimize;
mod output;
mod parse;
mod plan;
mod planning;
mod program;
mod refuse;
mod resolve;
mod stages;
mod stream;
pub(crate) mod tags;
mod top;
mod updating;
mod upsert;
mod windowed;

#[cfg(test)]
mod tests;

pub use catalog::{Catalog, Relation, Rows};
pub use definition::{Definition, Fault, MetricsPart, OrderedRule, Part, SelectItem};
pub use error::SqlError;
pub use functions::{Functions, batch_functions};
pub use lineage::Lineage;
pub use output::{Output, OutputColumn};
pub use program::{Needs, Program};
pub(crate) use stream::EXACT;
pub use stream::{
    EVENT_GRAIN, Join, JoinBound, Lookup, Map, Ordered, Scan, Stream, Top, Union, Windowed,
};
pub use upsert::Upsert;
