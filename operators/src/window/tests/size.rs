//! The estimated state of an aggregation equals its real state.

use std::time::Duration;

use chrono_tz::Tz;
use twox_hash::XxHash3_64;

use super::{
    driver::Driver,
    oracle,
    rows::{PARTITIONS, Row, row},
};
use crate::{
    size::Load,
    window::{CalendarUnit, Emission, Period, Windows},
};

const SECOND_US: i64 = 1_000_000;
const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

/// A stream of rows: one each `step`, with a random key.
struct Stream {
    step: Duration,
    keys: u64,
    /// Its length.
    length: Duration,
}

impl Stream {
    fn load(&self) -> Load {
        Load {
            keys: self.keys as f64,
            rate: 1.0 / self.step.as_secs_f64(),
            delay_s: 0.0,
            text_bytes: 16.0,
        }
    }

    /// The keys by their times, in seconds.
    fn rows(&self) -> Vec<(i64, u64)> {
        let step = self.step.as_secs();
        let times = 0..self.length.as_secs() / step;
        let key = |at: u64| XxHash3_64::oneshot(&at.to_le_bytes()) % self.keys;
        let rows = times.map(|at| ((at * step) as i64, key(at)));
        rows.collect()
    }

    /// The total number of keys in each span of `pane`, from `from` on.
    fn panes(&self, pane: Duration, from: Duration) -> usize {
        let rows = self.rows().into_iter();
        let rows = rows.filter(|(at, _)| *at >= from.as_secs() as i64);
        let mut panes: Vec<_> = rows
            .map(|(at, key)| (at / pane.as_secs() as i64, key))
            .collect();
        panes.sort_unstable();
        panes.dedup();
        panes.len()
    }

    /// The number of keys with a row from `from` on.
    fn keys(&self, from: Duration) -> usize {
        self.panes(Duration::from_hours(1 << 20), from)
    }

    /// The number of open sessions at the end, and of sessions that ended since `from`.
    fn sessions(&self, gap: Duration, from: Duration) -> (usize, usize) {
        let mut rows: Vec<_> = self.rows().into_iter().map(|(at, key)| (key, at)).collect();
        rows.sort_unstable();
        let (gap, now) = (gap.as_secs() as i64, self.length.as_secs() as i64);
        let (mut open, mut ended) = (0, 0);
        for (place, (key, at)) in rows.iter().enumerate() {
            let goes_on = |(other, next): &(u64, i64)| other == key && next - at <= gap;
            if rows.get(place + 1).is_some_and(goes_on) {
                continue;
            }
            open += usize::from(at + gap >= now);
            ended += usize::from(at + gap < now && at + gap >= from.as_secs() as i64);
        }
        (open, ended)
    }
}

/// Processes the rows, and compares the state with the estimate, in bytes and in `entries`, which
/// the test counts.
#[track_caller]
fn check(stream: &Stream, windows: &Windows, emission: Emission, entries: usize) {
    let plan = oracle::plan_windows(
        windows.clone(),
        emission,
        &["item"],
        &["count(*)", "sum(x)"],
    );
    let plan = plan.unwrap();
    let mut driver = Driver::new(&plan, 1, 0);
    let rows: Vec<Row> = stream
        .rows()
        .into_iter()
        .enumerate()
        .map(|(place, (at, key))| row(place % PARTITIONS, at * SECOND_US, key as i64))
        .collect();
    for rows in rows.chunks(1_000) {
        driver.send(rows);
        // Emitted sessions stay in one chunk until it is stored. Stored parts of panes are
        // separate.
        match windows {
            Windows::Session { .. } => driver.barrier(),
            _ => driver.flush(),
        }
    }
    let took = driver.state_bytes() as f64;
    let said = plan.size(&stream.load());
    let near = |ratio: f64| (0.7..=1.4).contains(&ratio);
    assert!(near(said.bytes / took), "{said:?}, took {took}");
    assert!(near(said.entries / entries as f64), "{said:?}: {entries}");
    let unit = match emission.ttl {
        Some(_) => "keys",
        None => "panes of a key",
    };
    assert_eq!(said.unit, unit);
}

#[test]
fn tumbling_windows() {
    let windows = Windows::Tumble(Period::Fixed(HOUR));
    // Until they close, and as long as they may be corrected.
    for (minutes, lateness) in [(179, Duration::ZERO), (299, HOUR * 2)] {
        let stream = Stream {
            step: Duration::from_secs(1),
            keys: 3_000,
            length: MINUTE * minutes,
        };
        let emission = Emission {
            lateness,
            ..Emission::default()
        };
        check(&stream, &windows, emission, stream.panes(HOUR, HOUR * 2));
    }
}

#[test]
fn windows_of_the_calendar() {
    let units = [
        (CalendarUnit::Day, DAY),
        // The first Monday after 1970 began is its fifth day.
        (CalendarUnit::Week(chrono::Weekday::Mon), DAY * 4),
        (CalendarUnit::Month, DAY * 31),
    ];
    for (unit, length) in units {
        let whole = match unit {
            CalendarUnit::Week(_) => length + DAY * 7,
            _ => length,
        };
        let stream = Stream {
            step: MINUTE * (whole.as_secs() / DAY.as_secs()) as u32 / 2,
            keys: 100_000,
            length: whole.saturating_sub(HOUR),
        };
        let from = match unit {
            CalendarUnit::Week(_) => length,
            _ => Duration::ZERO,
        };
        let windows = Windows::Tumble(Period::Calendar(unit, Tz::UTC));
        check(&stream, &windows, Emission::default(), stream.keys(from));
    }
}

#[test]
fn windows_that_overlap() {
    let stream = Stream {
        step: Duration::from_secs(2),
        keys: 200,
        length: HOUR * 4,
    };
    let entries = stream.panes(MINUTE, HOUR * 2);
    let windows = Windows::Hop {
        slide: MINUTE,
        size: HOUR * 2,
    };
    check(&stream, &windows, Emission::default(), entries);
    let entries = stream.panes(MINUTE, HOUR);
    let emission = Emission {
        lateness: HOUR,
        ..Emission::default()
    };
    check(&stream, &windows, emission, entries);
}

#[test]
fn windows_that_grow() {
    let stream = Stream {
        step: Duration::from_secs(2),
        keys: 200,
        length: MINUTE * 239,
    };
    let windows = Windows::Cumulate {
        step: MINUTE,
        within: Period::Fixed(HOUR * 2),
    };
    let entries = stream.panes(MINUTE, HOUR * 2);
    check(&stream, &windows, Emission::default(), entries);
}

#[test]
fn totals_of_keys() {
    let stream = Stream {
        step: Duration::from_secs(2),
        keys: 4_000,
        length: HOUR * 6,
    };
    let emission = Emission {
        previews: Some(MINUTE),
        ttl: Some(HOUR * 2),
        ..Emission::default()
    };
    let windows = Windows::Tumble(Period::Fixed(MINUTE));
    check(&stream, &windows, emission, stream.keys(HOUR * 4));
}

#[test]
fn sessions() {
    let stream = Stream {
        step: Duration::from_secs(2),
        keys: 1_000,
        length: HOUR * 8,
    };
    let gap = MINUTE * 30;
    let windows = Windows::Session { gap };
    let (open, _) = stream.sessions(gap, Duration::ZERO);
    check(&stream, &windows, Emission::default(), open);
    let emission = Emission {
        previews: Some(MINUTE),
        ..Emission::default()
    };
    check(&stream, &windows, emission, open);
    let emission = Emission {
        lateness: HOUR * 3,
        ..Emission::default()
    };
    let (open, ended) = stream.sessions(gap, HOUR * 5);
    check(&stream, &windows, emission, open + ended);
}
