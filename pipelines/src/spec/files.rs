//! `files`: files, read once to their end.

use schemars::JsonSchema;
use serde::Serialize;
use tagflow_config::{Read, Reader, Setting, yaml::Node};

/// Files on a local disk or an object store, each read once, in the order of their event times.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct FilesSource {
    /// A path or URL (`s3://`, `gs://`, `az://`, `file://`), with `*`, `?`, `[…]` and `**` for
    /// many: `./data/2026-*/*.ndjson`. A path is relative to Tagflow's working directory.
    pub url: Setting<String>,
    /// Whether a pattern may match no file. Default: that is an error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_empty: Option<Setting<bool>>,
}

impl Read for FilesSource {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let mut fields = reader.fields(node)?;
        let url = fields.required(reader, "url");
        let allow_empty = fields.optional(reader, "allow_empty");
        fields.finish(reader);
        Some(Self {
            url: url?,
            allow_empty: allow_empty?,
        })
    }
}
