//! `scenes`: the tags and segments that a caller may read.

use schemars::JsonSchema;
use serde::Serialize;
use tagflow_config::{Read, Reader, Setting, yaml::Node};

/// The tags and segments that one kind of caller may read.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Scene {
    /// Tags. The name of a tag with windows includes all its windows.
    #[schemars(extend("default" = serde_json::json!([])))]
    pub tags: Vec<Setting<String>>,
    /// Segments.
    #[schemars(extend("default" = serde_json::json!([])))]
    pub segments: Vec<Setting<String>>,
}

impl Read for Scene {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let mut fields = reader.fields(node)?;
        let tags: Option<Option<Vec<_>>> = fields.optional(reader, "tags");
        let segments: Option<Option<Vec<_>>> = fields.optional(reader, "segments");
        fields.finish(reader);
        Some(Self {
            tags: tags?.unwrap_or_default(),
            segments: segments?.unwrap_or_default(),
        })
    }
}
