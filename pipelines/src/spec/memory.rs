//! `memory`: the memory limit of the process.

use schemars::JsonSchema;
use serde::Serialize;
use tagflow_config::{ByteSize, Read, Reader, Setting, yaml::Node};

/// The memory limit of the process: near the limit, reading pauses and a commit happens early.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Memory {
    /// All resident memory, at least 128MiB. Reading pauses from 85 % on; state that does not fit
    /// ends the run.
    pub limit: Setting<ByteSize>,
}

impl Read for Memory {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let mut fields = reader.fields(node)?;
        let limit = fields.required(reader, "limit");
        fields.finish(reader);
        Some(Self { limit: limit? })
    }
}
