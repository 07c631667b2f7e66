//! `deliver`: how far the target of a sink may be behind the commits.

use schemars::JsonSchema;
use serde::Serialize;
use tagflow_config::{ByteSize, Read, Reader, Setting, yaml::Node};

/// The undelivered output of a sink at which the pipeline stops reading. It continues when the
/// target has more of the output.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Deliver {
    /// The number of undelivered commits at which nothing more is read.
    #[schemars(extend("default" = 64))]
    pub max_pending_commits: Setting<u64>,
    /// Their staged bytes at which nothing more is read.
    #[schemars(extend("default" = "1GiB"))]
    pub max_pending_bytes: Setting<ByteSize>,
}

impl Read for Deliver {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let mut fields = reader.fields(node)?;
        let max_pending_commits = fields.or(reader, "max_pending_commits", 64);
        let max_pending_bytes = fields.or(reader, "max_pending_bytes", ByteSize::mib(1024));
        fields.finish(reader);
        Some(Self {
            max_pending_commits: max_pending_commits?,
            max_pending_bytes: max_pending_bytes?,
        })
    }
}
