//! `memory`: the memory limit of the process.

use schemars::JsonSchema;
use serde::Serialize;

use super::{
    ByteSize, Setting, Spec,
    read::{Read, Reader},
};
use crate::yaml::Node;

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

impl Spec {
    /// The size of a buffer: `most`, or this part of the limit if that is less.
    pub(crate) fn part_of_memory(&self, part: usize, most: usize) -> usize {
        let limit = self.memory.as_ref().map(|memory| memory.limit.bytes());
        limit.map_or(most, |limit| most.min(limit as usize / part))
    }
}
