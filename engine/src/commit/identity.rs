//! Which log a file, a staging folder or a table belongs to.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::attempt::Attempt;

/// Names a log for ever: the attempt of its first record.
///
/// Two logs may have the same name, on two machines or in two state folders,
/// and write to the same table. Their first records differ. The first record is
/// a claim, and claims are never deleted, so that the identity of a log of any
/// version can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LogId(Attempt);

impl LogId {
    /// The identity of the log whose first record has this attempt.
    pub(super) fn of(first: Attempt) -> Self {
        Self(first)
    }

    /// Its first eight hex digits, for names of files and folders.
    pub fn short(self) -> String {
        self.0.short()
    }
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from(self.0))
    }
}
