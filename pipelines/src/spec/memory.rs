//! `memory`: what the process may take.

use schemars::JsonSchema;
use serde::Serialize;

use super::{
    ByteSize, Setting, Spec,
    read::{Read, Reader},
};
use crate::yaml::Node;

/// What the process may take: before it takes more, reading pauses and a commit
/// comes early.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Memory {
    /// All in all, resident, at least 128MiB. Nothing is read from 85 % of it on;
    /// state that does not fit ends the run.
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

impl Spec {
    /// What a buffer may hold: `most`, or this part of the limit where that is less.
    pub(crate) fn part_of_memory(&self, part: usize, most: usize) -> usize {
        let limit = self.memory.as_ref().map(|memory| memory.limit.bytes());
        limit.map_or(most, |limit| most.min(limit as usize / part))
    }
}
