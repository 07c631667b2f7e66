//! A change of a tag.

use arrow::datatypes::DataType;

use super::value::Value;

/// A change of a tag.
#[derive(Debug)]
pub(super) struct Change<'a> {
    /// The tag's name.
    pub(super) tag: &'a str,
    /// The type of its values.
    pub(super) data_type: &'a DataType,
    pub(super) op: Op,
    pub(super) cause: Cause,
    pub(super) old: &'a Value,
    pub(super) new: &'a Value,
    /// The time of the event that caused it.
    pub(super) event_time: Option<i64>,
    pub(super) effective_at: i64,
}

/// The operation on a tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Op {
    /// It has a new value.
    Set,
    /// Withdraws an absence that should not have fired.
    Retract,
    /// Its key is forgotten.
    Forget,
}

/// The cause of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// An event.
    Event,
    /// An event behind the watermark.
    LateEvent,
    /// Events left the window.
    Expiry,
    /// An expected event did not happen in time.
    Absence,
    /// The value was too old.
    Ttl,
    /// The key had no event for too long.
    StateTtl,
    /// Scores by quantiles have new thresholds.
    Quantiles,
}

impl Op {
    /// Its name in the rows.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Set => "set",
            Self::Retract => "retract",
            Self::Forget => "forget",
        }
    }
}

impl Cause {
    /// Its name in the rows.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Event => "event",
            Self::LateEvent => "late_event",
            Self::Expiry => "expiry",
            Self::Absence => "absence",
            Self::Ttl => "ttl",
            Self::StateTtl => "state_ttl",
            Self::Quantiles => "quantiles",
        }
    }
}
