//! `time_since` and `score`: values derived from another tag.

use std::{ops::RangeInclusive, time::Duration};

use schemars::JsonSchema;
use serde::Serialize;
use tagflow_config::{Choice, Read, Reader, Setting, yaml::Node};

/// The age of another tag's time, in whole units; null if the time is null.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct TimeSinceTag {
    /// The tag, whose value is a time.
    pub time_since: Setting<String>,
    /// The unit: `s`, `m`, `h` or `d`.
    pub unit: Setting<Unit>,
}

/// The unit of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Seconds.
    Second,
    /// Minutes.
    Minute,
    /// Hours.
    Hour,
    /// Days of 24 hours.
    Day,
}

impl Unit {
    /// The length of the unit.
    pub fn duration(self) -> Duration {
        match self {
            Self::Second => Duration::from_secs(1),
            Self::Minute => Duration::from_mins(1),
            Self::Hour => Duration::from_hours(1),
            Self::Day => Duration::from_hours(24),
        }
    }
}

impl Choice for Unit {
    const EXPECTED: &'static str = "`s`, `m`, `h` or `d`";
    const NAMES: &'static [(&'static str, Self)] = &[
        ("s", Self::Second),
        ("m", Self::Minute),
        ("h", Self::Hour),
        ("d", Self::Day),
    ];
}

/// A score for another tag's value, from 1 to the number of cuts plus one: 1 plus the number of
/// cuts that are not above the value; null if the value is null. The recency, frequency and
/// monetary scores of RFM are three of these. It has `cuts` or `quantiles`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ScoreTag {
    /// The tag, whose value is a number.
    pub score: Setting<String>,
    /// The values at which the score increases, ascending.
    #[schemars(length(min = 1))]
    pub cuts: Option<Vec<Setting<f64>>>,
    /// The number of equal-sized groups into which the tag's value divides all keys. The groups are
    /// recomputed at midnight UTC, for the day that begins.
    #[schemars(range(min = 2, max = 100))]
    pub quantiles: Option<Setting<u64>>,
    /// Whether low values have high scores, as for days since an order.
    #[schemars(extend("default" = false))]
    pub reversed: Setting<bool>,
}

/// The allowed numbers of groups.
const PARTS: RangeInclusive<u64> = 2..=100;

impl Read for TimeSinceTag {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let mut fields = reader.fields(node)?;
        let time_since = fields.required(reader, "time_since");
        let unit = fields.required(reader, "unit");
        fields.finish(reader);
        Some(Self {
            time_since: time_since?,
            unit: unit?,
        })
    }
}

impl Read for ScoreTag {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let mut fields = reader.fields(node)?;
        let score = fields.required(reader, "score");
        let cuts: Option<Option<Vec<Setting<f64>>>> = fields.optional(reader, "cuts");
        let quantiles: Option<Option<Setting<u64>>> = fields.optional(reader, "quantiles");
        let reversed = fields.or(reader, "reversed", false);
        fields.finish(reader);
        let (cuts, quantiles) = (cuts?, quantiles?);
        let place = reader.place();
        if cuts.is_some() == quantiles.is_some() {
            let message = format!("a score needs either `cuts` or `quantiles`{place}");
            reader.error(node.at, message);
            return None;
        }
        if let Some(parts) = quantiles.as_ref().filter(|it| !PARTS.contains(it.value())) {
            let message = format!("`quantiles` is from 2 to 100{place}");
            reader.error(parts.at(), message);
            return None;
        }
        let numbers = cuts.as_deref();
        if numbers.is_some_and(<[_]>::is_empty) {
            reader.error(node.at, format!("`cuts` needs at least one{place}"));
            return None;
        }
        let mut pairs = numbers.unwrap_or_default().windows(2);
        if let Some(pair) = pairs.find(|pair| *pair[0] >= *pair[1]) {
            reader.error(pair[1].at(), format!("`cuts` go up{place}"));
            return None;
        }
        Some(Self {
            score: score?,
            cuts,
            quantiles,
            reversed: reversed?,
        })
    }
}
