//! The configuration of the generated events.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;
use tagflow_config::{Position, Ratio, Read, Reader, Setting, yaml::Node};
use tagflow_engine::{Error, EventTime, Result};

/// 2026-01-05T00:00:00Z, a Monday.
const FIRST_EVENT: EventTime = EventTime::from_micros(1_767_571_200_000_000);

/// Generated behaviour events (impressions, clicks, carts, purchases) of users and campaigns. The
/// same settings give the same events.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields, rename = "GeneratorSource")]
pub struct GeneratorConfig {
    /// Another seed gives other events.
    #[schemars(extend("default" = 1))]
    pub seed: Setting<u64>,
    /// The number of events. Default: endless.
    pub count: Option<Setting<u64>>,
    /// Events per second. Default: unlimited.
    pub rate: Option<Setting<u64>>,
    /// The partitions that the events are spread over.
    #[schemars(extend("default" = 1))]
    pub partitions: Setting<u32>,
    /// The number of users.
    #[schemars(extend("default" = 10_000))]
    pub users: Setting<u32>,
    /// The number of campaigns; their shares follow Zipf's law.
    #[schemars(extend("default" = 100))]
    pub campaigns: Setting<u32>,
    /// The event time of the first event.
    #[schemars(extend("default" = "2026-01-05T00:00:00Z"))]
    pub start: Setting<EventTime>,
    /// The event time between one event and the next.
    #[schemars(extend("default" = "10ms"))]
    pub interval: Setting<Duration>,
    /// The greatest disorder of events.
    #[schemars(extend("default" = "2s"))]
    pub disorder: Setting<Duration>,
    /// The share of events that are much later.
    #[schemars(extend("default" = 0))]
    pub late: Setting<Ratio>,
    /// The share of events that are repeated.
    #[schemars(extend("default" = 0))]
    pub duplicates: Setting<Ratio>,
    /// The share of rows that are no valid event: truncated, of wrong types, without a time, of the
    /// year 2099.
    #[schemars(extend("default" = 0))]
    pub broken: Setting<Ratio>,
    /// The exponent of a Zipf distribution of the campaigns: the first ones are more likely than
    /// the last. 0 makes all equally likely.
    #[serde(skip)]
    pub campaign_skew: f64,
    /// The number of products, all equally likely.
    #[serde(skip)]
    pub products: u32,
    /// How far a late row is behind, beyond `disorder`.
    #[serde(skip)]
    pub late_by: Duration,
}

impl Default for GeneratorConfig {
    /// One endless partition of well-formed rows, up to two seconds out of order.
    fn default() -> Self {
        Self {
            seed: 1.into(),
            count: None,
            rate: None,
            partitions: 1.into(),
            users: 10_000.into(),
            campaigns: 100.into(),
            start: FIRST_EVENT.into(),
            interval: Duration::from_millis(10).into(),
            disorder: Duration::from_secs(2).into(),
            late: Ratio::ZERO.into(),
            duplicates: Ratio::ZERO.into(),
            broken: Ratio::ZERO.into(),
            campaign_skew: 1.0,
            products: 5_000,
            late_by: Duration::from_hours(1),
        }
    }
}

impl Read for GeneratorConfig {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let mut fields = reader.fields(node)?;
        let own = Self::default();
        let seed = fields.or(reader, "seed", *own.seed);
        let count = fields.optional(reader, "count");
        let rate = fields.optional(reader, "rate");
        let partitions = fields.or(reader, "partitions", *own.partitions);
        let users = fields.or(reader, "users", *own.users);
        let campaigns = fields.or(reader, "campaigns", *own.campaigns);
        let start = fields.or(reader, "start", *own.start);
        let interval = fields.or(reader, "interval", *own.interval);
        let disorder = fields.or(reader, "disorder", *own.disorder);
        let late = fields.or(reader, "late", *own.late);
        let duplicates = fields.or(reader, "duplicates", *own.duplicates);
        let broken = fields.or(reader, "broken", *own.broken);
        fields.finish(reader);
        Some(Self {
            seed: seed?,
            count: count?,
            rate: rate?,
            partitions: partitions?,
            users: users?,
            campaigns: campaigns?,
            start: start?,
            interval: interval?,
            disorder: disorder?,
            late: late?,
            duplicates: duplicates?,
            broken: broken?,
            ..own
        })
    }
}

/// A setting, its position, and its mistake.
pub(super) type Problem = (Option<&'static str>, Position, &'static str);

impl GeneratorConfig {
    /// `count` events of many users and campaigns, a millisecond apart.
    pub fn many(count: u64) -> Self {
        Self {
            count: Some(count.into()),
            users: 100_000.into(),
            campaigns: 1_000.into(),
            interval: Duration::from_millis(1).into(),
            ..Self::default()
        }
    }

    /// All errors of the configuration.
    pub(super) fn problems(&self) -> Vec<Problem> {
        const TOO_FEW: &str = "must be at least 1";
        let mut problems = Vec::new();
        for (name, count) in [
            ("users", &self.users),
            ("campaigns", &self.campaigns),
            ("partitions", &self.partitions),
        ] {
            if **count == 0 {
                problems.push((Some(name), count.at(), TOO_FEW));
            }
        }
        if let Some(rate) = self.rate.as_ref().filter(|rate| ***rate == 0) {
            problems.push((Some("rate"), rate.at(), TOO_FEW));
        }
        if self.late.get() + self.duplicates.get() + self.broken.get() > 1.0 {
            let message = "`late`, `duplicates` and `broken` are more than all rows together";
            problems.push((None, self.broken.at(), message));
        }
        problems
    }

    pub(super) fn validate(&self) -> Result<()> {
        match self.problems().first() {
            None => Ok(()),
            Some((Some(setting), _, message)) => {
                Err(Error::config(format!("`{setting}` {message}")))
            }
            Some((None, _, message)) => Err(Error::config(*message)),
        }
    }

    /// The total number of rows of partition `partition`.
    pub(super) fn rows_of(&self, partition: u32) -> Option<u64> {
        let partitions = u64::from(*self.partitions);
        let extra = |count: u64| u64::from(u64::from(partition) < count % partitions);
        let count = self.count.as_ref().map(|count| **count);
        count.map(|count| count / partitions + extra(count))
    }
}
