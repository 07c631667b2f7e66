//! Tags and segments: turns SQL over events and tags into columns and rules.
//!
//! Conditions, arguments and weights are computed before rows are sent to the lane of their key,
//! each distinct expression once (`columns`). The name of such a column is its expression, because
//! names identify state: a tag keeps its state as long as the names of its columns are the same.
//! `plan` builds the tags from the columns, and `rules` builds the segments from the tags.

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
    /// The operator's configuration; its input has no offsets.
    pub(crate) spec: TagsSpec,
    /// The relation with the events.
    pub(crate) from: String,
    /// The columns of `from` that are read.
    pub(crate) reads: Vec<String>,
    /// Its schema for expressions.
    pub(crate) schema: DFSchemaRef,
    /// The operator's input: values over `schema`.
    pub(crate) columns: Vec<(Expr, Arc<Field>)>,
    /// The definition of the events, their keys and their times; `None` for a source.
    pub(crate) events: Option<String>,
}
