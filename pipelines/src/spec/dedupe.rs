//! `dedupe`: rows that were seen before.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;

use super::{
    Setting,
    read::{Read, Reader, key, positive},
};
use crate::yaml::Node;

/// Drops rows whose key was seen before: in the order of event time, a row passes
/// unless one that passed lies at most `within` before it.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Dedupe {
    /// The columns that make two rows the same. A row where one of them is null
    /// is never a duplicate.
    #[schemars(length(min = 1))]
    pub key: Vec<Setting<String>>,
    /// How long a row that passed keeps others out, in event time.
    pub within: Setting<Duration>,
}

impl Read for Dedupe {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let mut fields = reader.fields(node)?;
        let key = key(&mut fields, reader);
        let within = positive(&mut fields, reader, "within");
        fields.finish(reader);
        Some(Self {
            key: key?,
            within: within?,
        })
    }
}
