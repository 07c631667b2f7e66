//! `absence`: whether an event did not follow in time.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;
use tagflow_config::{Choice, Read, Reader, Setting, SqlText, yaml::Node};

/// Whether an event did not follow in time.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct AbsenceTag {
    /// The missing event, and the event before it.
    pub absence: Absence,
    /// How long it stays true. Default: forever.
    pub ttl: Option<Setting<Duration>>,
}

/// The missing event, and the event before it.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Absence {
    /// A SQL condition: the event that starts the wait.
    pub after: SqlText,
    /// A SQL condition: the expected event.
    pub expect: SqlText,
    /// Columns in which both events must be equal.
    #[schemars(extend("default" = serde_json::json!([])))]
    pub same: Vec<Setting<String>>,
    /// How long to wait.
    pub within: Setting<Duration>,
    /// The effect of another `after` during a wait: `each` starts its own wait, `first` has no
    /// effect, `restart` restarts the wait.
    #[schemars(extend("default" = "each"))]
    pub again: Setting<Again>,
}

/// The effect of another `after` during a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// It starts its own wait.
    Each,
    /// It has no effect.
    First,
    /// It restarts the wait.
    Restart,
}

impl Choice for Again {
    const EXPECTED: &'static str = "`each`, `first` or `restart`";
    const NAMES: &'static [(&'static str, Self)] = &[
        ("each", Self::Each),
        ("first", Self::First),
        ("restart", Self::Restart),
    ];
}

impl Read for AbsenceTag {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let mut fields = reader.fields(node)?;
        let absence = fields.required(reader, "absence");
        let ttl = fields.positive_or_none(reader, "ttl");
        fields.finish(reader);
        Some(Self {
            absence: absence?,
            ttl: ttl?,
        })
    }
}

impl Read for Absence {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let mut fields = reader.fields(node)?;
        let after = fields.required(reader, "after");
        let expect = fields.required(reader, "expect");
        let same: Option<Option<Vec<_>>> = fields.optional(reader, "same");
        let within = fields.positive(reader, "within");
        let again = fields.or(reader, "again", Again::Each);
        fields.finish(reader);
        Some(Self {
            after: after?,
            expect: expect?,
            same: same?.unwrap_or_default(),
            within: within?,
            again: again?,
        })
    }
}
