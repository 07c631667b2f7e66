//! The configuration of the generated events.

use std::time::Duration;

use tagflow_engine::{Error, EventTime, Result};

/// The content, the amount and the disorder of the generated events.
#[derive(Debug, Clone, PartialEq)]
pub struct GeneratorConfig {
    /// Another seed gives other events.
    pub seed: u64,
    /// The number of rows over all partitions; endless if `None`.
    pub count: Option<u64>,
    /// The most rows per second over all partitions; unlimited if `None`.
    pub rate: Option<f64>,
    /// The number of partitions. They receive the rows in turn.
    pub partitions: u32,
    /// The number of users, all equally likely.
    pub users: u32,
    /// The number of campaigns.
    pub campaigns: u32,
    /// The exponent of a Zipf distribution of the campaigns: the first ones are more likely than
    /// the last. 0 makes all equally likely.
    pub campaign_skew: f64,
    /// The number of products, all equally likely.
    pub products: u32,
    /// The time of the first event.
    pub start: EventTime,
    /// The time from one event to the next, over all partitions.
    pub spacing: Duration,
    /// The greatest distance of an event's time behind the latest one before it in its partition,
    /// except for late rows.
    pub disorder: Duration,
    /// The share of rows that are late, 0 to 1.
    pub late_share: f64,
    /// How far a late row is behind, beyond `disorder`.
    pub late_by: Duration,
    /// The share of rows that repeat an earlier row of the partition byte for byte, 0 to 1. The
    /// actual share is slightly lower, since only good rows are repeated.
    pub duplicate_share: f64,
    /// The share of unreadable rows, 0 to 1.
    pub broken_share: f64,
}

impl Default for GeneratorConfig {
    /// One endless partition of well-formed rows, a millisecond apart and up to two seconds out of
    /// order.
    fn default() -> Self {
        Self {
            seed: 1,
            count: None,
            rate: None,
            partitions: 1,
            users: 100_000,
            campaigns: 1_000,
            campaign_skew: 1.0,
            products: 5_000,
            // 2026-01-05T00:00:00Z, a Monday.
            start: EventTime::from_micros(1_767_571_200_000_000),
            spacing: Duration::from_millis(1),
            disorder: Duration::from_secs(2),
            late_share: 0.0,
            late_by: Duration::from_hours(1),
            duplicate_share: 0.0,
            broken_share: 0.0,
        }
    }
}

impl GeneratorConfig {
    pub(super) fn validate(&self) -> Result<()> {
        let shares = [
            ("late_share", self.late_share),
            ("duplicate_share", self.duplicate_share),
            ("broken_share", self.broken_share),
        ];
        for (name, share) in shares {
            if !(0.0..=1.0).contains(&share) {
                return Err(Error::config(format!(
                    "`{name}` is {share}; it must be between 0 and 1"
                )));
            }
        }
        if shares.iter().map(|(_, share)| share).sum::<f64>() > 1.0 {
            return Err(Error::config(
                "`late_share`, `duplicate_share` and `broken_share` add up to more than 1",
            ));
        }
        for (name, count) in [
            ("partitions", self.partitions),
            ("users", self.users),
            ("campaigns", self.campaigns),
            ("products", self.products),
        ] {
            if count == 0 {
                return Err(Error::config(format!("`{name}` must be at least 1")));
            }
        }
        if !(0.0..=10.0).contains(&self.campaign_skew) {
            return Err(Error::config("`campaign_skew` must be between 0 and 10"));
        }
        if self
            .rate
            .is_some_and(|rate| !(rate > 0.0 && rate.is_finite()))
        {
            return Err(Error::config("`rate` must be more than 0 rows a second"));
        }
        Ok(())
    }

    /// The total number of rows of partition `partition`.
    pub(super) fn rows_of(&self, partition: u32) -> Option<u64> {
        let partitions = u64::from(self.partitions);
        let extra = |count: u64| u64::from(u64::from(partition) < count % partitions);
        self.count.map(|count| count / partitions + extra(count))
    }
}
