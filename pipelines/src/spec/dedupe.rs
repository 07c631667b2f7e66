//! `dedupe`: repeated rows.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;
use tagflow_config::{Read, Reader, Setting, yaml::Node};

/// Drops rows whose key was seen before: in the order of event time, a row passes unless a row that
/// passed is at most `within` before it.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Dedupe {
    /// The columns that identify a row. A row with a null in any key column is never a
    /// duplicate.
    #[schemars(length(min = 1))]
    pub key: Vec<Setting<String>>,
    /// How long a row that passed blocks repetitions, in event time.
    pub within: Setting<Duration>,
}

impl Read for Dedupe {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let mut fields = reader.fields(node)?;
        let key = fields.key(reader);
        let within = fields.positive(reader, "within");
        fields.finish(reader);
        Some(Self {
            key: key?,
            within: within?,
        })
    }
}
