//! `agg`: an aggregate of events.

use std::time::Duration;

use humantime::format_duration;
use schemars::JsonSchema;
use serde::Serialize;

use super::TagWindow;
use tagflow_config::{
    Choice, Fields, Read, Reader, Setting, SqlText, diagnostic::Position, yaml::Node,
};

/// An aggregate of the events of each key.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct AggregateTag {
    /// The aggregate function.
    pub agg: Setting<TagAgg>,
    /// The aggregated expression, in SQL over an event; an event for which it is null does not
    /// count. Without it, `count` counts events.
    pub arg: Option<SqlText>,
    /// A SQL condition. Events for which it is false or null do not count.
    #[serde(rename = "where")]
    pub filter: Option<SqlText>,
    /// The windows: `1d`, `30d`, `lifetime`. Each has its own column, `<tag>_<window>`. Default:
    /// all events, in a column with the tag's name.
    #[schemars(length(min = 1))]
    pub windows: Option<Vec<Setting<TagWindow>>>,
    /// Whether events leave a window to the microsecond; this stores the time of each.
    #[schemars(extend("default" = false))]
    pub exact: Setting<bool>,
    /// The width of tiles: events leave a window together, with the last instant of their tile.
    /// Default: 5m, and 1h for windows from 12h on.
    pub tile: Option<Setting<Duration>>,
    /// For `last_k`: the number of values, at most 10000.
    pub k: Option<Setting<u64>>,
    /// For `distinct`: the largest exact number; above it is an estimate. Default: 1000.
    pub exact_up_to: Option<Setting<u64>>,
    /// How long the value lasts after the newest event that it includes. Default: forever.
    pub ttl: Option<Setting<Duration>>,
}

/// The aggregate function of a tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TagAgg {
    /// The number of events, or of events where `arg` is not null.
    Count,
    /// The sum of `arg`.
    Sum,
    /// The least `arg`.
    Min,
    /// The greatest `arg`.
    Max,
    /// The mean of `arg`.
    Avg,
    /// The sample standard deviation of `arg`.
    Std,
    /// The number of distinct `arg`.
    Distinct,
    /// The `arg` of the first event.
    First,
    /// The `arg` of the last event.
    Last,
    /// The `arg` of the last events.
    LastK,
}

impl Choice for TagAgg {
    const EXPECTED: &'static str = "`count`, `sum`, `min`, `max`, `avg`, `std`, `distinct`, \
                                    `first`, `last` or `last_k`";
    const NAMES: &'static [(&'static str, Self)] = &[
        ("count", Self::Count),
        ("sum", Self::Sum),
        ("min", Self::Min),
        ("max", Self::Max),
        ("avg", Self::Avg),
        ("std", Self::Std),
        ("distinct", Self::Distinct),
        ("first", Self::First),
        ("last", Self::Last),
        ("last_k", Self::LastK),
    ];
}

/// The tile of short windows, and the width at which long windows begin.
const SHORT_TILE: Duration = Duration::from_mins(5);
const LONG_TILE: Duration = Duration::from_hours(1);
const LONG_WINDOW: Duration = Duration::from_hours(12);

/// The tile of an exact window.
const EXACT_TILE: Duration = Duration::from_micros(1);

/// The most items of `last_k` and the most values of an exact `distinct`.
const MOST_ITEMS: u64 = 10_000;
const MOST_EXACT: u64 = 1_000_000;

impl AggregateTag {
    /// The tile of a window of this width.
    pub fn tile(&self, width: Duration) -> Duration {
        match &self.tile {
            _ if *self.exact => EXACT_TILE,
            Some(tile) => **tile,
            None if width < LONG_WINDOW => SHORT_TILE,
            None => LONG_TILE,
        }
    }

    /// The number of values up to which `distinct` is exact.
    pub fn exact_up_to(&self) -> u64 {
        self.exact_up_to.as_deref().copied().unwrap_or(1000)
    }

    /// Whether its keys fit together.
    fn check(&self, fields: &Fields<'_>, reader: &mut Reader<'_>) -> bool {
        let mut mistakes = self.mistakes(fields.at);
        mistakes.extend(self.window_mistakes());
        let place = reader.place();
        for (at, message, help) in &mistakes {
            let diagnostic = reader.error(*at, format!("{message}{place}"));
            if let Some(help) = help {
                diagnostic.help(help.as_str());
            }
        }
        mistakes.is_empty()
    }

    fn mistakes(&self, whole: Position) -> Vec<Mistake> {
        let agg = *self.agg;
        let mut mistakes = Vec::new();
        let mut add = |at, message: &str| mistakes.push((at, message.to_owned(), None));
        if self.arg.is_none() && agg != TagAgg::Count {
            add(self.agg.at(), "missing key `arg`: what is aggregated");
        }
        match &self.k {
            None if agg == TagAgg::LastK => add(self.agg.at(), "missing key `k`: how many"),
            Some(k) if agg != TagAgg::LastK => add(k.at(), "`k` is for `agg: last_k` only"),
            Some(k) if !(1..=MOST_ITEMS).contains(k.value()) => {
                add(
                    k.at(),
                    &format!("`k` is from 1 to {MOST_ITEMS}, got {}", **k),
                );
            }
            _ => {}
        }
        match &self.exact_up_to {
            Some(bound) if agg != TagAgg::Distinct => {
                add(bound.at(), "`exact_up_to` is for `agg: distinct` only");
            }
            Some(bound) if !(1..=MOST_EXACT).contains(bound.value()) => {
                let message = format!("`exact_up_to` is from 1 to {MOST_EXACT}, got {}", **bound);
                add(bound.at(), &message);
            }
            _ => {}
        }
        let windows = self.windows.as_deref().unwrap_or_default();
        if self.windows.is_some() && windows.is_empty() {
            add(whole, "`windows` needs at least one");
        }
        let is_rolling = windows.iter().any(|window| window.width().is_some());
        if let Some(tile) = &self.tile {
            if *self.exact {
                add(
                    tile.at(),
                    "`exact` has no tiles: only one of both can stand",
                );
            } else if !is_rolling {
                add(tile.at(), "`tile` is for windows that events leave");
            }
        }
        if *self.exact && !is_rolling {
            add(
                self.exact.at(),
                "`exact` is for windows that events leave; a lifetime is exact by itself",
            );
        }
        mistakes
    }

    fn window_mistakes(&self) -> Vec<Mistake> {
        let mut mistakes = Vec::new();
        let mut seen: Vec<&TagWindow> = Vec::new();
        for window in self.windows.iter().flatten() {
            if let Some(other) = seen.iter().find(|other| other.width() == window.width()) {
                let (one, other) = (other.text(), window.text());
                let message = if one == other {
                    format!("the window `{one}` is there twice")
                } else {
                    format!("the windows `{one}` and `{other}` are the same")
                };
                mistakes.push((window.at(), message, None));
            }
            seen.push(window);
            let Some(width) = window.width() else {
                continue;
            };
            let tile = self.tile(width);
            let shown = format_duration(tile);
            if width <= tile {
                let message = format!(
                    "the window `{}` is not above its tile of {shown}",
                    window.text()
                );
                let help = "give it a smaller `tile`, or `exact: true`";
                mistakes.push((window.at(), message, Some(help.to_owned())));
            } else if self.tile.is_some() && width.as_nanos() % tile.as_nanos() != 0 {
                let message = format!(
                    "the tile of {shown} does not divide the window `{}`",
                    window.text()
                );
                let help = "take a width that does, such as `5m` or `1h`";
                mistakes.push((window.at(), message, Some(help.to_owned())));
            }
        }
        mistakes
    }
}

/// The position, the mistake, and the correct notation.
type Mistake = (Position, String, Option<String>);

impl Read for AggregateTag {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let mut fields = reader.fields(node)?;
        let agg = fields.required(reader, "agg");
        let arg = fields.optional(reader, "arg");
        let filter = fields.optional(reader, "where");
        let windows = fields.optional(reader, "windows");
        let exact = fields.or(reader, "exact", false);
        let tile = fields.positive_or_none(reader, "tile");
        let k = fields.optional(reader, "k");
        let exact_up_to = fields.optional(reader, "exact_up_to");
        let ttl = fields.positive_or_none(reader, "ttl");
        let tag = agg.and_then(|agg| {
            Some(Self {
                agg,
                arg: arg?,
                filter: filter?,
                windows: windows?,
                exact: exact?,
                tile: tile?,
                k: k?,
                exact_up_to: exact_up_to?,
                ttl: ttl?,
            })
        });
        let is_right = tag.as_ref().is_some_and(|tag| tag.check(&fields, reader));
        fields.finish(reader);
        tag.filter(|_| is_right)
    }
}
