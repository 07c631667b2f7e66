//! `time`: the event time of a row, and its expected disorder.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;
use tagflow_config::{Choice, Read, Reader, Setting, diagnostic::Position, yaml::Node};
use tagflow_engine::EventTime;

/// The event time of a row, and its expected disorder.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Time {
    /// The column with the event time: a required `timestamp`.
    pub event_time: Setting<String>,
    /// How far out of order events may arrive. The watermark is this far behind the latest event,
    /// so results wait this long; a row that arrives even later may find its window closed.
    #[schemars(extend("default" = "5s"))]
    pub delay: Setting<Duration>,
    /// A partition that has been at its end for this long no longer delays the others.
    #[schemars(extend("default" = "60s"))]
    pub idle_after: Setting<Duration>,
    /// The watermark of such a partition. `hold`: it stands still. `clock`: it follows the clock,
    /// `delay` behind. Then windows close and tags fall without events, but a delayed event may be
    /// late.
    #[schemars(extend("default" = "hold"))]
    pub when_idle: Setting<WhenIdle>,
    /// A row further than this in the future is a dead letter, compared with the broker's clock if
    /// it stamps records, otherwise with the local clock. Default: 5m; for `files`, 1d.
    pub max_future: Option<Setting<Duration>>,
    /// A row before this time is a dead letter. Default: any time since 1970.
    pub earliest: Option<Setting<EventTime>>,
    /// A partition further than this ahead of the slowest is paused. Default: never.
    pub max_drift: Option<Setting<Duration>>,
}

/// How the watermark of an idle partition behaves.
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
    /// The default for a generator's events.
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

    /// Sets `max_future`, unless it is set.
    pub(crate) fn with_max_future(self, default: Duration) -> Self {
        let default = Setting::default_at(default, self.event_time.at());
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
