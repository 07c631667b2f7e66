//! `generator`: generated behaviour events.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;
use tagflow_config::{Ratio, Read, Reader, Setting, yaml::Node};
use tagflow_engine::EventTime;

/// 2026-01-05T00:00:00Z, a Monday.
const FIRST_EVENT: EventTime = EventTime::from_micros(1_767_571_200_000_000);

/// Generated behaviour events (impressions, clicks, carts, purchases) of users and campaigns. The
/// same settings give the same events.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct GeneratorSource {
    /// Another seed gives other events.
    #[schemars(extend("default" = 1))]
    pub seed: Setting<u64>,
    /// The number of events. Default: endless.
    pub count: Option<Setting<u64>>,
    /// Events per second. Default: unlimited.
    pub rate: Option<Setting<u64>>,
    /// The partitions that the events are spread over.
    #[schemars(extend("default" = 1))]
    pub partitions: Setting<u64>,
    /// The number of users.
    #[schemars(extend("default" = 10_000))]
    pub users: Setting<u64>,
    /// The number of campaigns; their shares follow Zipf's law.
    #[schemars(extend("default" = 100))]
    pub campaigns: Setting<u64>,
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
}

impl Read for GeneratorSource {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let mut fields = reader.fields(node)?;
        let seed = fields.or(reader, "seed", 1);
        let count = fields.optional(reader, "count");
        let rate = fields.optional(reader, "rate");
        let partitions = fields.or(reader, "partitions", 1);
        let users = fields.or(reader, "users", 10_000);
        let campaigns = fields.or(reader, "campaigns", 100);
        let start = fields.or(reader, "start", FIRST_EVENT);
        let interval = fields.or(reader, "interval", Duration::from_millis(10));
        let disorder = fields.or(reader, "disorder", Duration::from_secs(2));
        let late = fields.or(reader, "late", Ratio::ZERO);
        let duplicates = fields.or(reader, "duplicates", Ratio::ZERO);
        let broken = fields.or(reader, "broken", Ratio::ZERO);
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
        })
    }
}
