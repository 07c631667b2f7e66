//! Streaming SQL: from the text of a query to a [`Stream`] plan.
//!
//! DataFusion parses, resolves names, coerces types and simplifies; nothing of
//! it executes. Then the logical plan is walked into the few shapes that can
//! run on a stream: scan, map, union and tumbling aggregate. Whatever does not
//! fit is refused here, with the reason and what to write instead.
//!
//! The pieces, in the order in which a query meets them:
//!
//! 1. [`parse`]: one statement, or one expression, with its places.
//! 2. [`refuse`]: what the text itself shows cannot run on a stream.
//! 3. [`catalog`]: the relations that the text may name.
//! 4. [`plan`]: DataFusion's plan, walked into a [`Stream`] and checked.
//! 5. [`relations`]: all relations of a pipeline in the order of their needs,
//!    and which columns each must deliver.

mod catalog;
mod display;
mod error;
mod functions;
mod lineage;
mod optimize;
mod output;
mod parse;
mod plan;
mod refuse;
mod relations;
mod resolve;
mod stream;

#[cfg(test)]
mod tests;

pub use catalog::{Catalog, Relation, Rows};
pub use error::SqlError;
pub use functions::{Functions, batch_functions};
pub use lineage::Lineage;
pub use output::{Output, OutputColumn};
pub use relations::{Definition, Fault, Needs, Part, Program, SelectItem};
pub use stream::{Map, Scan, Stream, Tumble, Union};
