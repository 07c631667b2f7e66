//! Attempts to write a record.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::Ids;

/// One attempt to write a record; unique.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Attempt(Uuid);

impl Attempt {
    /// A new attempt.
    pub(super) fn unique(ids: &dyn Ids) -> Self {
        Self(ids.unique())
    }

    /// Its first eight hex digits, for file names.
    pub(crate) fn short(self) -> String {
        let mut text = self.0.simple().to_string();
        text.truncate(8);
        text
    }
}

impl TryFrom<String> for Attempt {
    type Error = uuid::Error;

    fn try_from(text: String) -> std::result::Result<Self, Self::Error> {
        text.parse().map(Self)
    }
}

impl From<Attempt> for String {
    fn from(attempt: Attempt) -> Self {
        attempt.0.to_string()
    }
}
