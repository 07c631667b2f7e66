//! `absence`: whether something did not happen in time.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    spec::{
        Setting, SqlText,
        read::{Read, Reader, positive, positive_or_none},
        scalars::Choice,
    },
    yaml::Node,
};

/// Whether something did not happen in time.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct AbsenceTag {
    /// What did not happen, and after what.
    pub absence: Absence,
    /// How long it stays true. Default: for ever.
    pub ttl: Option<Setting<Duration>>,
}

/// What did not happen, and after what.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Absence {
    /// A SQL condition: the event that begins a wait.
    pub after: SqlText,
    /// A SQL condition: the event that is waited for.
    pub expect: SqlText,
    /// Columns in which both events must be the same.
    #[schemars(extend("default" = serde_json::json!([])))]
    pub same: Vec<Setting<String>>,
    /// For how long to wait.
    pub within: Setting<Duration>,
    /// What another `after` does to a wait that goes on: `each` begins a wait of its
    /// own, `first` does nothing, `restart` begins the wait anew.
    #[schemars(extend("default" = "each"))]
    pub again: Setting<Again>,
}

/// What another `after` does to a wait that goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// It begins a wait of its own.
    Each,
    /// Nothing.
    First,
    /// It begins the wait anew.
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
        let ttl = positive_or_none(&mut fields, reader, "ttl");
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
        let within = positive(&mut fields, reader, "within");
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
