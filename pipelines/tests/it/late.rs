//! Rows on both sides of the watermark. Which of them are late does not depend on the
//! order of reading.

use rand::{Rng, rngs::SmallRng};
use tagflow_engine::{runtime::Until, status::JobStatus};

use crate::{oracle::with_crashes, rig::Rig};

/// Which rows behind the watermark are late, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Late {
    /// No row is late.
    Never,
    /// Rows more than this behind the watermark.
    Events { within: i64 },
    /// Rows whose window, of this width, has closed.
    Windows { width: i64 },
}

impl Late {
    fn is(self, ts: i64, watermark: i64) -> bool {
        match self {
            Self::Never => false,
            Self::Events { within } => ts < watermark - within,
            Self::Windows { width } => ts - ts.rem_euclid(width) + width <= watermark,
        }
    }

    /// The first time that is not late.
    fn first(self, watermark: i64) -> i64 {
        match self {
            Self::Never => i64::MIN,
            Self::Events { within } => watermark - within,
            Self::Windows { width } => watermark - watermark.rem_euclid(width),
        }
    }
}

/// The rows of a source, by partition: those read before a stop, and those read after it.
pub(crate) struct Feed {
    pub(crate) name: &'static str,
    parts: [Vec<Vec<String>>; 2],
    late: Late,
    /// The watermark at the stop.
    watermark: i64,
}

impl Feed {
    /// All rows after the stop; none is late.
    pub(crate) fn whole(name: &'static str, rows: Vec<Vec<String>>) -> Self {
        Self {
            name,
            parts: [vec![Vec::new(); rows.len()], rows],
            late: Late::Never,
            watermark: i64::MIN,
        }
    }

    /// Stops somewhere in the rows of sources that share a watermark, each with its delay
    /// in milliseconds. Adds rows around that watermark.
    ///
    /// Rows behind it are late wherever they are after the stop. Other rows are first in
    /// the partition that holds the watermark back, so they are not late.
    pub(crate) fn stopped(
        random: &mut SmallRng,
        late: Late,
        sources: Vec<(&'static str, i64, Vec<Vec<String>>)>,
    ) -> Vec<Self> {
        if sources.iter().any(|(_, _, rows)| rows.concat().is_empty()) {
            // Without rows, a stop and a watermark are impossible.
            let whole = sources.into_iter();
            return whole
                .map(|(name, _, rows)| Self::whole(name, rows))
                .collect();
        }
        let mut slowest: Option<(i64, usize, usize)> = None;
        let mut feeds = Vec::new();
        for (source, (name, delay_ms, rows)) in sources.into_iter().enumerate() {
            let mut parts = [Vec::new(), Vec::new()];
            // A partition without a row would hold the watermark back forever.
            let rows = rows.into_iter().filter(|rows| !rows.is_empty());
            for (partition, mut before) in rows.enumerate() {
                let after = before.split_off(random.random_range(1..=before.len()));
                let latest = before.iter().map(|row| time_of(row)).max();
                let stands = latest.unwrap() - delay_ms;
                if slowest.is_none_or(|(watermark, ..)| stands < watermark) {
                    slowest = Some((stands, source, partition));
                }
                parts[0].push(before);
                parts[1].push(after);
            }
            feeds.push(Self {
                name,
                parts,
                late,
                watermark: i64::MIN,
            });
        }
        let Some((watermark, source, partition)) = slowest else {
            return feeds;
        };
        for feed in &mut feeds {
            feed.watermark = watermark;
        }
        let first = late.first(watermark);
        for feed in &mut feeds {
            for rows in &mut feed.parts[1] {
                for _ in 0..random.random_range(0..4) {
                    let ts = first - random.random_range(1..30_000);
                    let row = row_at(random, ts);
                    let place = random.random_range(0..=rows.len());
                    rows.splice(place..place, row);
                }
            }
        }
        let near = [
            first - 1,
            first,
            first + random.random_range(-2_000..2_000),
            watermark,
        ];
        for ts in near {
            // Other tests cover how steps process rows that are behind the watermark but
            // not late.
            let counts = ts == watermark || matches!(late, Late::Windows { .. });
            if ts <= watermark && (counts || late.is(ts, watermark)) {
                let row = row_at(random, ts);
                feeds[source].parts[1][partition].splice(0..0, row);
            }
        }
        feeds
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &String> {
        self.parts.iter().flatten().flatten()
    }

    /// The rows that are not late.
    pub(crate) fn on_time(&self) -> impl Iterator<Item = &String> {
        let after = self.parts[1].iter().flatten();
        let on_time = |row: &&String| !self.late.is(time_of(row), self.watermark);
        self.parts[0].iter().flatten().chain(after.filter(on_time))
    }

    /// The number of late rows.
    pub(crate) fn late(&self) -> u64 {
        (self.all().count() - self.on_time().count()) as u64
    }
}

/// Runs a pipeline over the rows, to the stop and then to their end, with crashes.
/// Returns the final status and the number of crashes.
pub(crate) async fn run(
    rig: &mut Rig,
    feeds: &[Feed],
    random: &mut SmallRng,
    seed: u64,
) -> (JobStatus, u64) {
    let push = |rig: &mut Rig, part: usize| {
        for feed in feeds {
            let script = rig.scripts.entry(feed.name).or_default();
            for (partition, rows) in feed.parts[part].iter().enumerate() {
                script.push(&format!("p{partition}"), rows.iter().cloned());
            }
        }
    };
    push(rig, 0);
    let mut before = 0;
    if feeds.iter().any(|feed| !matches!(feed.late, Late::Never)) {
        rig.until = Until::CaughtUp;
        (_, before) = with_crashes(rig, random, seed).await;
    }
    push(rig, 1);
    rig.until = Until::Stopped;
    let (status, after) = with_crashes(rig, random, seed).await;
    (status, before + after)
}

/// A row at `ts` without nulls; none before 1970.
fn row_at(random: &mut SmallRng, ts: i64) -> Option<String> {
    let key = ["a", "b", "c"][random.random_range(0..3)];
    let number = random.random_range(-3..9);
    (ts >= 0).then(|| {
        format!(
            "{{\"id\":{ts},\"k\":\"{key}\",\"n\":{number},\"d\":1.25,\"f\":0.5,\"b\":true,\"ts\":{ts}}}"
        )
    })
}

fn time_of(row: &str) -> i64 {
    let (_, ts) = row.rsplit_once("\"ts\":").unwrap();
    ts.trim_end_matches('}').parse().unwrap()
}
