//! `sinks`: the targets of results.

use schemars::JsonSchema;
use serde::Serialize;
use tagflow_config::{Read, Reader, Setting, yaml::Node};
use tagflow_connectors::SinkConfig;

use super::Deliver;

/// The target of results: exactly one component.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Sink {
    /// The source, step or query whose rows it writes.
    pub from: Setting<String>,
    /// The component that writes.
    #[serde(flatten)]
    pub output: SinkConfig,
    /// How far the target may be behind the commits. Only for sinks that
    /// deliver, such as `parquet`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deliver: Option<Deliver>,
}

impl Read for Sink {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let mut fields = reader.fields(node)?;
        let from = fields.required(reader, "from");
        let output = SinkConfig::read(&mut fields, reader);
        let deliver = fields.optional(reader, "deliver");
        fields.finish(reader);
        Some(Self {
            from: from?,
            output: output?,
            deliver: deliver?,
        })
    }
}
