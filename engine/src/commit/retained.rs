//! Commits whose records are kept.

use std::collections::BTreeSet;

use super::record::Record;

/// The part of a commit that its collection needs.
pub(super) struct Retained {
    pub(super) seq: u64,
    /// The paths of the state parts that it names.
    pub(super) state: BTreeSet<String>,
}

impl Retained {
    pub(super) fn of(commit: &Record) -> Self {
        let parts = commit
            .checkpoint
            .iter()
            .flat_map(|checkpoint| &checkpoint.state);
        Self {
            seq: commit.seq,
            state: parts.map(|part| part.path.clone()).collect(),
        }
    }
}
