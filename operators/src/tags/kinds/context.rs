//! The surroundings of a definition.

use std::time::Duration;

use arrow::datatypes::{DataType, Schema};

/// The surroundings of a definition when it is compiled.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    /// The input rows.
    pub(crate) input: &'a Schema,
    /// The type of the tag's values.
    pub(crate) data_type: &'a DataType,
    /// The tag's time to live.
    pub(crate) ttl: Option<Duration>,
    /// How late an event may be.
    pub(crate) lateness: Duration,
    /// The interval of new quantile thresholds.
    pub(crate) rescore_every: Duration,
}

impl Context<'_> {
    /// The name of an input column.
    pub(crate) fn name(&self, column: usize) -> &str {
        self.input.field(column).name()
    }
}
