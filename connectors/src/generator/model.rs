//! Generates one row of a partition.

use std::io::Write;

use rand::{Rng, SeedableRng, rngs::SmallRng};

use super::config::GeneratorConfig;
use tagflow_engine::{EventTime, time::micros};

/// The columns of the events, as a pipeline file declares them.
pub const COLUMNS: [(&str, &str); 10] = [
    ("event_id", "string"),
    ("user_id", "string"),
    ("event_type", "string"),
    ("campaign_id", "string?"),
    ("channel", "string"),
    ("product_id", "string?"),
    ("category", "string?"),
    ("amount", "decimal(18,2)?"),
    ("utm_source", "string?"),
    ("occurred_at", "timestamp(ms)"),
];

/// The frequency of each type in a hundred ordinary events.
const EVENT_TYPES: [(&str, u32); 5] = [
    ("impression", 800),
    ("click", 90),
    ("view", 70),
    ("add_to_cart", 28),
    ("purchase", 12),
];

/// The channels of campaigns, and the source names of their visitors.
const CHANNELS: [(&str, &str); 5] = [
    ("search", "google"),
    ("social", "instagram"),
    ("display", "adnet"),
    ("email", "newsletter"),
    ("affiliate", "partners"),
];

const CATEGORIES: [&str; 8] = [
    "shoes", "shirts", "jackets", "bags", "watches", "sports", "beauty", "home",
];

/// One event in this many belongs to no campaign.
const ORGANIC: u32 = 10;

/// The kind of a generated row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RowKind {
    /// An event within `disorder`.
    Good,
    /// An event further behind than `disorder`.
    Late,
    /// The same bytes as an earlier good row of the partition.
    Duplicate,
    /// Bytes that cannot be read as an event.
    Broken,
}

/// Generates any row from its partition and number alone.
#[derive(Debug, Clone)]
pub(super) struct Model {
    config: GeneratorConfig,
    /// The cumulative share of events of each campaign and those before it.
    campaign_shares: Vec<f64>,
}

impl Model {
    pub(super) fn new(config: GeneratorConfig) -> Self {
        let weight = |rank: u32| f64::from(rank).powf(-config.campaign_skew);
        let total: f64 = (1..=*config.campaigns).map(weight).sum();
        let campaign_shares = (1..=*config.campaigns)
            .scan(0.0, |sum, rank| {
                *sum += weight(rank) / total;
                Some(*sum)
            })
            .collect();
        Self {
            config,
            campaign_shares,
        }
    }

    pub(super) fn config(&self) -> &GeneratorConfig {
        &self.config
    }

    /// Appends row `row` of `partition` to `out`, without a line break. Returns its kind and its
    /// user.
    pub(super) fn write(&self, partition: u32, row: u64, out: &mut Vec<u8>) -> (RowKind, u32) {
        let mut random = self.random(partition, row);
        match self.kind(&mut random) {
            RowKind::Duplicate => {
                let original = self.original(&mut random, row).filter(|&original| {
                    let mut random = self.random(partition, original);
                    self.kind(&mut random) == RowKind::Good
                });
                if let Some(original) = original {
                    let mut random = self.random(partition, original);
                    let kind = self.kind(&mut random);
                    let user = self.event(&mut random, partition, original, kind, out);
                    (RowKind::Duplicate, user)
                } else {
                    let user = self.event(&mut random, partition, row, RowKind::Good, out);
                    (RowKind::Good, user)
                }
            }
            RowKind::Broken => {
                let user = self.broken(&mut random, partition, row, out);
                (RowKind::Broken, user)
            }
            kind => (kind, self.event(&mut random, partition, row, kind, out)),
        }
    }

    fn random(&self, partition: u32, row: u64) -> SmallRng {
        let place = self.ordinal(partition, row);
        SmallRng::seed_from_u64(mix(place ^ mix(*self.config.seed)))
    }

    /// The row's index among the rows of all partitions.
    fn ordinal(&self, partition: u32, row: u64) -> u64 {
        row.wrapping_mul(u64::from(*self.config.partitions))
            .wrapping_add(u64::from(partition))
    }

    fn kind(&self, random: &mut SmallRng) -> RowKind {
        let config = &self.config;
        let mut draw: f64 = random.random();
        for (kind, share) in [
            (RowKind::Broken, config.broken.get()),
            (RowKind::Duplicate, config.duplicates.get()),
            (RowKind::Late, config.late.get()),
        ] {
            if draw < share {
                return kind;
            }
            draw -= share;
        }
        RowKind::Good
    }

    /// An earlier row, close enough to stay within `disorder` when it is repeated.
    fn original(&self, random: &mut SmallRng, row: u64) -> Option<u64> {
        let step = micros(*self.config.interval).saturating_mul(i64::from(*self.config.partitions));
        let slack = micros(*self.config.disorder) / 2;
        let reach = 1 + slack.checked_div(step).unwrap_or(99).clamp(0, 99) as u64;
        row.checked_sub(random.random_range(1..=reach))
    }

    fn time(&self, random: &mut SmallRng, partition: u32, row: u64, kind: RowKind) -> EventTime {
        let config = &self.config;
        let ordinal = i64::try_from(self.ordinal(partition, row)).unwrap_or(i64::MAX);
        let due = micros(*config.interval).saturating_mul(ordinal);
        // The other half is for rows that are repeated later.
        let behind = random.random_range(0..=micros(*config.disorder) / 2);
        let late = match kind {
            RowKind::Late => micros(*config.disorder).saturating_add(micros(config.late_by)),
            _ => 0,
        };
        let time = config.start.as_micros().saturating_add(due);
        EventTime::from_micros(time.saturating_sub(behind).saturating_sub(late))
    }

    fn event(
        &self,
        random: &mut SmallRng,
        partition: u32,
        row: u64,
        kind: RowKind,
        out: &mut Vec<u8>,
    ) -> u32 {
        let time = self.time(random, partition, row, kind);
        let event_id = mix(self.ordinal(partition, row) ^ self.config.seed.rotate_left(32));
        let user = random.random_range(0..*self.config.users);
        let event_type = pick(&EVENT_TYPES, random);
        write_all(
            out,
            format_args!(
                r#"{{"event_id":"{event_id:016x}","user_id":"u{user:07}","event_type":"{event_type}""#
            ),
        );
        if random.random_ratio(1, ORGANIC) {
            write_all(
                out,
                format_args!(r#","campaign_id":null,"channel":"direct""#),
            );
        } else {
            let draw: f64 = random.random();
            let campaign = self.campaign_shares.partition_point(|&share| share <= draw);
            let campaign = campaign.min(self.campaign_shares.len() - 1);
            let (channel, utm_source) = CHANNELS[campaign % CHANNELS.len()];
            write_all(
                out,
                format_args!(
                    r#","campaign_id":"c{campaign:04}","channel":"{channel}","utm_source":"{utm_source}""#
                ),
            );
        }
        let product = random.random_range(0..self.config.products);
        let category = CATEGORIES[product as usize % CATEGORIES.len()];
        write_all(
            out,
            format_args!(r#","product_id":"p{product:05}","category":"{category}""#),
        );
        if event_type == "purchase" {
            let cents = random.random_range(500..50_000);
            write_all(
                out,
                format_args!(r#","amount":"{}.{:02}""#, cents / 100, cents % 100),
            );
        }
        write_all(
            out,
            format_args!(r#","occurred_at":{}}}"#, time.as_micros().div_euclid(1_000)),
        );
        user
    }

    /// An event with an error that no choice of columns can hide.
    fn broken(&self, random: &mut SmallRng, partition: u32, row: u64, out: &mut Vec<u8>) -> u32 {
        let start = out.len();
        let user = self.event(random, partition, row, RowKind::Good, out);
        match random.random_range(0..4) {
            0 => {
                let end = random.random_range(start + 1..out.len());
                out.truncate(end);
            }
            1 => out[start] = b'<',
            2 => {
                // The event's id is no longer valid text.
                out[start + 14] = 0xff;
            }
            _ => {
                let digits = out
                    .iter()
                    .rposition(|&byte| byte == b':')
                    .map_or(start, |at| at + 1);
                out.truncate(digits);
                out.extend_from_slice(br#""yesterday"}"#);
            }
        }
        user
    }
}

fn pick<'a>(choices: &[(&'a str, u32)], random: &mut SmallRng) -> &'a str {
    let total = choices.iter().map(|(_, weight)| weight).sum();
    let mut draw = random.random_range(0..total);
    for (choice, weight) in choices {
        match draw.checked_sub(*weight) {
            Some(rest) => draw = rest,
            None => return choice,
        }
    }
    choices[0].0
}

fn write_all(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a vector takes every byte");
}

/// A bijective hash of 64 bits (the finalizer of `SplitMix64`; Steele, Lea, Flood 2014).
fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}
