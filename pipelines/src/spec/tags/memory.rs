//! How much memory tags may take.

use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    spec::{
        ByteSize, Setting,
        read::{Read, Reader},
    },
    yaml::Node,
};

/// Where keys rest that memory has no room for: those without an event lately are on
/// the local disk, which is a cache; commits hold all.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct TagMemory {
    /// What the states of keys may take in memory, all lanes together, about. An
    /// index of some 100 bytes a key comes on top.
    pub limit: Setting<ByteSize>,
    /// A folder on a local disk. Default: `tagflow` in the system's folder for
    /// temporary files.
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
