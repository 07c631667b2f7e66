//! The findings of an audit.

use serde::Serialize;

use super::super::record::{Kind, Record};

/// A deviation from the expected content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Its severity.
    pub severity: Severity,
    /// Its subject.
    pub subject: Subject,
    /// The deviation, its location, and the repair.
    pub message: String,
}

/// The severity of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// It costs only space.
    Odd,
    /// No crash explains it: rows may be lost, duplicated or foreign.
    Wrong,
}

/// The subject of a proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// The records.
    Log,
    /// The positions.
    Offsets,
    /// The counts of rows.
    Rows,
    /// The visible files.
    Tables,
    /// The state parts.
    State,
}

impl Finding {
    /// A finding that no crash explains.
    pub fn wrong(subject: Subject, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Wrong,
            subject,
            message: message.into(),
        }
    }

    /// A harmless finding.
    pub fn odd(subject: Subject, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Odd,
            ..Self::wrong(subject, message)
        }
    }
}

/// The name of a record in messages.
pub(super) fn name(record: &Record) -> String {
    let kind = match record.kind {
        Kind::Claim => "claim",
        Kind::Commit => "commit",
    };
    format!("{kind} #{}", record.seq)
}
