//! Event time: the time that an event states for itself.

use std::{fmt, time::Duration};

use chrono::SecondsFormat;
use serde::{Deserialize, Serialize};

/// A point in time in microseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EventTime(i64);

impl EventTime {
    /// Before every event: the watermark before the first row.
    pub const MIN: Self = Self(i64::MIN);
    /// After every event.
    pub const MAX: Self = Self(i64::MAX);

    /// From microseconds since the Unix epoch.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since the Unix epoch.
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// This time plus `duration`, at most [`EventTime::MAX`].
    #[must_use]
    pub fn saturating_add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(micros(duration)))
    }

    /// This time minus `duration`, at least [`EventTime::MIN`].
    #[must_use]
    pub fn saturating_sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(micros(duration)))
    }

    /// The span from `earlier` to this time, zero if this time is not later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl fmt::Display for EventTime {
    /// `2026-01-06T08:29:51.500Z`; a dash before the first event.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::MIN => f.write_str("-"),
            Self::MAX => f.write_str("end"),
            Self(micros) => match chrono::DateTime::from_timestamp_micros(micros) {
                Some(time) => f.write_str(&time.to_rfc3339_opts(SecondsFormat::AutoSi, true)),
                None => write!(f, "{micros}us"),
            },
        }
    }
}

/// Microseconds of a duration, at most `i64::MAX`.
pub fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates() {
        let hour = Duration::from_hours(1);
        assert_eq!(EventTime::MIN.saturating_sub(hour), EventTime::MIN);
        assert_eq!(EventTime::MAX.saturating_add(hour), EventTime::MAX);
        assert_eq!(EventTime::MIN.since(EventTime::MAX), Duration::ZERO);
    }

    #[test]
    fn display_is_rfc3339() {
        assert_eq!(
            EventTime::from_micros(0).to_string(),
            "1970-01-01T00:00:00Z"
        );
        assert_eq!(
            EventTime::from_micros(1_500_000).to_string(),
            "1970-01-01T00:00:01.500Z"
        );
        assert_eq!(EventTime::MIN.to_string(), "-");
    }
}
