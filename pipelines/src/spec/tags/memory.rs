//! How much memory tags may take.

use schemars::JsonSchema;
use serde::Serialize;
use tagflow_config::{ByteSize, Read, Reader, Setting, yaml::Node};

/// The memory for keys. Keys without recent events are spilled to the local disk, which is a cache;
/// commits contain all keys.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct TagMemory {
    /// The approximate memory for the states of keys, over all lanes. An index of about 100 bytes
    /// per key is additional.
    pub limit: Setting<ByteSize>,
    /// A folder on a local disk. Default: `tagflow` in the system's folder for temporary files.
    pub spill: Option<Setting<String>>,
}

impl Read for TagMemory {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let mut fields = reader.fields(node)?;
        let limit = fields.required(reader, "limit");
        let spill = fields.optional(reader, "spill");
        fields.finish(reader);
        Some(Self {
            limit: limit?,
            spill: spill?,
        })
    }
}
