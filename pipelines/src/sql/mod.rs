//! Streaming SQL: plans the text of a query as a [`Stream`].
//!
//! DataFusion parses, resolves names, coerces types and simplifies; it executes nothing. Then the
//! logical plan is translated into the few shapes that can run on a stream: scan, map, union,
//! windowed aggregate, join, lookup in a table, the best rows of a window, and the parts of steps
//! that need rows in order. This module refuses all other plans, with the reason and a replacement.
//!
//! The parts, in the order of their use:
//!
//! 1. `definition`: the definition of each relation in the file.
//! 2. `order`: one after another, inputs first.
//! 3. `parse`: one statement, or one expression, with its positions.
//! 4. `unsupported`: the parts of the text that cannot run on a stream.
//! 5. `plan`: DataFusion's plan over the `catalog` of relations and `functions`, translated into a
//!    [`Stream`] and checked. `windowed` translates aggregates, `join`, `lookup` and `join_bounds` joins,
//!    and `top_n` rankings. `lineage` follows the event time, `revision_key` the key columns of revisions.
//!    `resolve` adds steps and sinks, `stages` the stateful parts of steps, and `metrics` writes
//!    the SQL of its blocks.
//! 6. `program`: which columns each relation must deliver; `optimize` narrows plans to them.
//! 7. `tags`: the columns and rules of tags and segments.
//! 8. `output`: the columns that a sink reads.

mod catalog;
mod definition;
mod display;
mod error;
mod functions;
mod implicit;
mod join;
mod join_bounds;
mod limits;
mod lineage;
mod lookup;
mod metrics;
mod optimize;
mod order;
mod output;
mod parse;
mod plan;
mod program;
mod resolve;
mod revision_key;
mod stages;
mod stream;
pub(crate) mod tags;
mod top_n;
mod unsupported;
mod updating;
mod windowed;

#[cfg(test)]
mod tests;

pub use catalog::{Catalog, Relation, Rows};
pub use definition::{Definition, Fault, MetricsPart, OrderedRule, Part, SelectItem};
pub use error::SqlError;
pub use functions::{Functions, batch_functions, planners};
pub use lineage::Lineage;
pub use output::{Output, OutputColumn};
pub use program::{Needs, Program};
pub use revision_key::Upsert;
pub(crate) use stream::EXACT;
pub use stream::{
    EVENT_GRAIN, Join, JoinBound, Lookup, Map, Ordered, Scan, Stream, Top, Union, Windowed,
};
