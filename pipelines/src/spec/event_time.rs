//! `time`: when an event happened, and what to expect of it.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;
use tagflow_engine::EventTime;

use super::{
    Setting,
    read::{Read, Reader},
    scalars::Choice,
};
use crate::{diagnostic::Position, yaml::Node};

/// When an event happened, and what to expect of it.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Time {
    /// The column that says when an event happened: a required `timestamp`.
    pub event_time: Setting<String>,
    /// How far out of order events come. The watermark lies this far behind the
    /// latest event, so results wait this long; a row that comes later yet may
    /// find its window closed.
    #[schemars(extend("default" = "5s"))]
    pub delay: Setting<Duration>,
    /// A partition that has been read to its end for this long holds up the
    /// others no more.
    #[schemars(extend("default" = "60s"))]
    pub idle_after: Setting<Duration>,
    /// What becomes of the watermark of such a partition. `hold`: it stands still.
    /// `clock`: it follows the clock, `delay` behind, so windows close and tags fall
    /// though no event comes; an event that comes after all from before that may be
    /// late.
    #[schemars(extend("default" = "hold"))]
    pub when_idle: Setting<WhenIdle>,
    /// A row further than this in the future is a dead letter: against the
    /// broker's clock where it stamps records, else against ours. Default: 5m;
    /// for `files`, none.
    pub max_future: Option<Setting<Duration>>,
    /// A row of before this is a dead letter. Default: any time since 1970.
    pub earliest: Option<Setting<EventTime>>,
    /// A partition that is further than this ahead of the slowest is paused.
    /// Default: none is.
    pub max_drift: Option<Setting<Duration>>,
}

/// What becomes of the watermark of a partition that is idle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenIdle {
    /// It stands still.
    Hold,
    /// It follows the clock.
    Clock,
}

impl Choice for WhenIdle {
    const EXPECTED: &'static str = "`hold` or `clock`";
    const NAMES: &'static [(&'static str, Self)] = &[("hold", Self::Hold), ("clock", Self::Clock)];
}

impl Time {
    /// Of a generator's events.
    pub(crate) fn generated(at: Position) -> Self {
        Self {
            event_time: Setting::default_at("occurred_at".into(), at),
            delay: Setting::default_at(Duration::from_secs(5), at),
            idle_after: Setting::default_at(Duration::from_mins(1), at),
            when_idle: Setting::default_at(WhenIdle::Hold, at),
            max_future: None,
            earliest: None,
            max_drift: None,
        }
    }

    /// With the `max_future` of live sources, unless there is one.
    pub(crate) fn with_max_future(self) -> Self {
        let default = Setting::default_at(Duration::from_mins(5), self.event_time.at());
        Self {
            max_future: self.max_future.or(Some(default)),
            ..self
        }
    }
}

impl Read for Time {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let mut fields = reader.fields(node)?;
        let event_time = fields.required(reader, "event_time");
        let delay = fields.or(reader, "delay", Duration::from_secs(5));
        let idle_after = fields.or(reader, "idle_after", Duration::from_mins(1));
        let when_idle = fields.or(reader, "when_idle", WhenIdle::Hold);
        let max_future = fields.optional(reader, "max_future");
        let earliest = fields.optional(reader, "earliest");
        let max_drift = fields.optional(reader, "max_drift");
        fields.finish(reader);
        Some(Self {
            event_time: event_time?,
            delay: delay?,
            idle_after: idle_after?,
            when_idle: when_idle?,
            max_future: max_future?,
            earliest: earliest?,
            max_drift: max_drift?,
        })
    }
}
