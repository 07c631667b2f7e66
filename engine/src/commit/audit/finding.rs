//! What an audit finds.

use serde::Serialize;

use super::super::record::{Kind, Record};

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What it is about.
    pub subject: Subject,
    /// What it is, where, and what to do.
    pub message: String,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// It costs nothing but space, and somebody may want to know.
    Odd,
    /// No crash explains it: rows may be lost, doubled or foreign.
    Wrong,
}

/// What is proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// The records.
    Log,
    /// The positions.
    Offsets,
    /// The counts of rows.
    Rows,
    /// The files that readers see.
    Tables,
    /// The state parts.
    State,
}

impl Finding {
    /// What no crash explains.
    pub fn wrong(subject: Subject, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Wrong,
            subject,
            message: message.into(),
        }
    }

    /// What harms nobody.
    pub fn odd(subject: Subject, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Odd,
            ..Self::wrong(subject, message)
        }
    }
}

/// A record as messages name it.
pub(super) fn name(record: &Record) -> String {
    let kind = match record.kind {
        Kind::Claim => "claim",
        Kind::Commit => "commit",
    };
    format!("{kind} #{}", record.seq)
}
