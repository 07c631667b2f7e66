//! Tags and segments: from SQL over events and tags to columns and rules.
//!
//! Conditions, arguments and weights are computed before rows are sent to the lane
//! of their key, each distinct expression once (`columns`). A column of these is
//! named after what it holds, because state goes by these names: a tag keeps its
//! state as long as the names of its columns are the same. `plan` makes the tags of
//! them, and `rules` the segments of those.

mod columns;
mod plan;
mod rules;

use std::sync::Arc;

use arrow::datatypes::Field;
use datafusion::{common::DFSchemaRef, logical_expr::Expr};
use tagflow_operators::tags::TagsSpec;

pub(crate) use plan::plan;

/// Tags and segments that can run.
#[derive(Debug, Clone)]
pub(crate) struct PlannedTags {
    /// What the operator is made with; its input is without offsets.
    pub(crate) spec: TagsSpec,
    /// The relation that the events are of.
    pub(crate) from: String,
    /// The columns of it that are read.
    pub(crate) reads: Vec<String>,
    /// Its columns, as expressions know them.
    pub(crate) schema: DFSchemaRef,
    /// The operator's input: values over `schema`.
    pub(crate) columns: Vec<(Expr, Arc<Field>)>,
    /// What determines which events come, with their keys and times; nothing does
    /// for a source.
    pub(crate) events: Option<String>,
}
