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
//!    [`Stream`] and checked. `walk` translates each node: `windowed` aggregates, `join`, `lookup`
//!    and `join_bounds` joins, and `top_n` rankings. `lineage` follows the event time, `row_kind`
//!    the kind of rows, and `revision_key` the key columns of revisions. `resolve` adds steps and
//!    sinks, `stages` the stateful parts of steps, and `metrics` writes the SQL of its blocks.
//! 6. `program`: which columns each relation must deliver; `optimize` narrows plans to them.
//! 7. `tags`: the columns and rules of tags and segments.
//! 8. `output`: the columns that a sink reads.

mod catalog;
mod column_name;
mod definition;
mod display;
mod error;
mod functions;
mod grain;
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
mod places;
mod plan;
mod program;
mod relation;
mod resolve;
mod revision_key;
mod row_kind;
mod stages;
mod stream;
pub(crate) mod tags;
mod top_n;
mod unsupported;
mod updating;
mod walk;
mod windowed;

#[cfg(test)]
mod tests;

pub use catalog::Catalog;
pub use definition::{Definition, Fault, MetricsPart, OrderedRule, Part, SelectItem};
pub use error::SqlError;
pub use functions::{Functions, batch_functions, planners};
pub use grain::EVENT_GRAIN;
pub(crate) use grain::EXACT;
pub use output::{Output, OutputColumn};
pub use program::{Needs, Program};
pub use relation::{Lineage, Relation, Rows, Upsert};
pub use stream::{Join, JoinBound, Lookup, Map, Ordered, Scan, Stream, Top, Union, Windowed};
