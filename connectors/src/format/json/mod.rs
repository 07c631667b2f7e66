//! Rows of JSON, one object each.
//!
//! The rows are read in one pass, straight into columns: a [`scanner`] that
//! hands out values as slices of the row, a table of [`fields`] that knows what
//! name most likely comes next, and no tree in between. A value is judged
//! strictly even where no column wants it, and nesting costs no stack, so that
//! no row, however made, can do more than be rejected.

mod decoder;
mod fields;
mod mask;
mod scanner;
mod text;
mod value;

pub use decoder::{JsonFormat, JsonOptions};
pub(super) use mask::masked;
pub(super) use value::append_json;
