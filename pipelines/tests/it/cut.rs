//! Random windows, in our dialect and in plain SQL.

use chrono_tz::Tz;
use rand::{Rng, rngs::SmallRng, seq::IndexedRandom};

/// The shape of the windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Tumble,
    Calendar,
    Hop,
    Cumulate,
    Session,
    /// Tumbling windows of tumbling windows.
    Nested,
    /// Tumbling windows of sessions.
    NestedSession,
}

/// Windows of some size.
pub(crate) struct Cut {
    /// The window call in our dialect.
    pub(crate) call: String,
    /// Plain SQL for the rows of a query, one for each of their windows, with
    /// `window_start` and `window_end`; the second argument names their keys.
    pub(crate) place: Place,
    /// For calendar windows: plain SQL only returns the first day, in this zone.
    pub(crate) zone: Option<&'static str>,
    /// The windows that aggregate the results of these windows.
    pub(crate) outer: Option<Outer>,
    /// The time of the first row, in milliseconds.
    pub(crate) from_ms: i64,
    /// The maximum gap between consecutive rows.
    pub(crate) step_ms: i64,
}

/// Windows over windows.
pub(crate) struct Outer {
    /// The window call in our dialect, over the inner query.
    pub(crate) call: String,
    /// Like [`Cut::place`].
    pub(crate) place: Place,
}

type Place = Box<dyn Fn(&str, &[String]) -> String>;

/// Zones, and instants (RFC 3339, UTC) shortly before a change of clocks or a skipped
/// day.
const CHANGES: [(&str, &str); 16] = [
    ("Europe/Berlin", "2026-03-27T00:00:00Z"),
    ("Europe/London", "2026-10-23T00:00:00Z"),
    ("America/New_York", "2026-03-06T00:00:00Z"),
    ("America/Los_Angeles", "2026-10-30T00:00:00Z"),
    ("America/Sao_Paulo", "2018-11-02T00:00:00Z"),
    ("America/Havana", "2026-03-06T00:00:00Z"),
    ("America/Santiago", "2026-09-04T00:00:00Z"),
    ("Australia/Sydney", "2026-04-03T00:00:00Z"),
    ("Australia/Lord_Howe", "2026-10-02T00:00:00Z"),
    ("Australia/Lord_Howe", "2026-04-03T00:00:00Z"),
    ("Pacific/Apia", "2011-12-28T00:00:00Z"),
    ("Pacific/Auckland", "2026-09-25T00:00:00Z"),
    ("Africa/Cairo", "2026-04-22T00:00:00Z"),
    ("Asia/Tehran", "2022-03-20T00:00:00Z"),
    ("Asia/Beirut", "2026-10-23T00:00:00Z"),
    ("Asia/Shanghai", "2026-01-01T00:00:00Z"),
];

impl Cut {
    /// A line of a result in the format of plain SQL.
    pub(crate) fn plain(&self, line: &str) -> String {
        let Some(zone) = self.zone else {
            return line.to_owned();
        };
        let mut values = line.splitn(3, ',');
        let (start, _, rest) = (values.next(), values.next(), values.next());
        let start = chrono::DateTime::parse_from_rfc3339(start.unwrap()).unwrap();
        let first_day = start
            .with_timezone(&zone.parse::<Tz>().unwrap())
            .date_naive();
        format!("{first_day},,{}", rest.unwrap_or_default())
    }

    pub(crate) fn random(kind: Kind, random: &mut SmallRng) -> Self {
        // Also around the epoch: windows must floor, not truncate.
        let from_ms = [0, 1_767_571_200_000][random.random_range(0..2)];
        let unit = [1, 7, 60][random.random_range(0..3)];
        let seconds = |count: i64| format!("INTERVAL '{count} seconds'");
        let (call, place): (String, Place) = match kind {
            Kind::Tumble => {
                let size = seconds(unit * [1, 10, 60][random.random_range(0..3)]);
                (
                    format!("tumble(ts, {size})"),
                    Box::new(move |rows, _| {
                        format!(
                            "SELECT *, date_bin({size}, ts) AS window_start, \
                             date_bin({size}, ts) + {size} AS window_end FROM ({rows})"
                        )
                    }),
                )
            }
            Kind::Hop => {
                let slide = unit * random.random_range(1..4);
                // Not always a multiple.
                let size = slide + random.random_range(0..20);
                let before = (0..=size / slide).map(|window| seconds(window * slide));
                let before = values(before.collect());
                let (slide, size) = (seconds(slide), seconds(size));
                (
                    format!("hop(ts, {slide}, {size})"),
                    Box::new(move |rows, _| {
                        format!(
                            "SELECT *, window_start + {size} AS window_end FROM (\
                             SELECT *, date_bin({slide}, ts) - step AS window_start \
                             FROM ({rows}) CROSS JOIN {before}) \
                             WHERE window_start + {size} > ts"
                        )
                    }),
                )
            }
            Kind::Cumulate => {
                let steps = random.random_range(1..13);
                let ends = values((1..=steps).map(|step| seconds(step * unit)).collect());
                let (step, size) = (seconds(unit), seconds(unit * steps));
                (
                    format!("cumulate(ts, {step}, {size})"),
                    Box::new(move |rows, _| {
                        format!(
                            "SELECT * FROM (\
                             SELECT *, date_bin({size}, ts) AS window_start, \
                             date_bin({size}, ts) + step AS window_end \
                             FROM ({rows}) CROSS JOIN {ends}) \
                             WHERE window_end > ts"
                        )
                    }),
                )
            }
            Kind::Session => {
                let gap = seconds(random.random_range(1..5));
                (
                    format!("session(ts, {gap})"),
                    Box::new(move |rows, keys| sessions(rows, keys, &gap)),
                )
            }
            Kind::Nested => return Self::nested(random, from_ms),
            Kind::NestedSession => {
                let sessions = Self::random(Kind::Session, random);
                let seconds = random.random_range(1..20);
                return Self {
                    outer: Some(Outer {
                        call: format!("tumble(\"window\", INTERVAL '{seconds} seconds')"),
                        place: tumbling(seconds),
                    }),
                    ..sessions
                };
            }
            Kind::Calendar => return Self::calendar(random),
        };
        Self {
            call,
            place,
            zone: None,
            outer: None,
            from_ms,
            step_ms: 2_000,
        }
    }

    /// Windows whose results are aggregated in wider ones, not always multiples.
    fn nested(random: &mut SmallRng, from_ms: i64) -> Self {
        let inner = [1, 7, 10][random.random_range(0..3)];
        let outer = inner * random.random_range(1..5) + random.random_range(0..2);
        Self {
            call: format!("tumble(ts, INTERVAL '{inner} seconds')"),
            place: tumbling(inner),
            zone: None,
            outer: Some(Outer {
                call: format!("tumble(\"window\", INTERVAL '{outer} seconds')"),
                place: tumbling(outer),
            }),
            from_ms,
            step_ms: 2_000,
        }
    }

    /// Days, weeks or months around a change of clocks.
    fn calendar(random: &mut SmallRng) -> Self {
        let (zone, from) = *CHANGES.choose(random).unwrap();
        let (unit, function, more) = [
            ("day", "tumble_day", ""),
            ("day", "tumble_day", ""),
            ("week", "tumble_week", ", 'monday'"),
            ("month", "tumble_month", ""),
        ][random.random_range(0..4)];
        let from = chrono::DateTime::parse_from_rfc3339(from).unwrap();
        Self {
            call: format!("{function}(ts, '{zone}'{more})"),
            place: Box::new(move |rows, _| {
                format!(
                    "SELECT *, CAST(date_trunc('{unit}', to_local_time(\
                     arrow_cast(ts, 'Timestamp(Microsecond, Some(\"{zone}\"))'))) AS DATE) \
                     AS window_start, '' AS window_end FROM ({rows})"
                )
            }),
            zone: Some(zone),
            outer: None,
            from_ms: from.timestamp_millis(),
            // From a quarter of an hour to some days per case.
            step_ms: [60_000, 3_600_000][random.random_range(0..2)],
        }
    }
}

/// Consecutive windows of a width.
fn tumbling(seconds: i64) -> Place {
    Box::new(move |rows, _| {
        let size = format!("INTERVAL '{seconds} seconds'");
        format!(
            "SELECT *, date_bin({size}, ts) AS window_start, \
             date_bin({size}, ts) + {size} AS window_end FROM ({rows})"
        )
    })
}

/// A table of one column, `step`.
fn values(steps: Vec<String>) -> String {
    format!("(VALUES ({})) AS steps(step)", steps.join("), ("))
}

/// Gaps and islands: a row opens a session if the row before it is more than a gap away.
/// Among rows with the same time, in any order, the first opens it.
fn sessions(rows: &str, keys: &[String], gap: &str) -> String {
    let by = |more: &str| match keys.join(", ") {
        keys if keys.is_empty() && more.is_empty() => String::new(),
        keys if keys.is_empty() => format!("PARTITION BY {more}"),
        keys if more.is_empty() => format!("PARTITION BY {keys}"),
        keys => format!("PARTITION BY {keys}, {more}"),
    };
    let opened = format!(
        "SELECT *, CASE WHEN ts <= lag(ts) OVER ({} ORDER BY ts) + {gap} THEN 0 ELSE 1 END \
         AS opens FROM ({rows})",
        by("")
    );
    let numbered = format!(
        "SELECT *, sum(opens) OVER ({} ORDER BY ts, opens DESC ROWS BETWEEN UNBOUNDED PRECEDING \
         AND CURRENT ROW) AS number FROM ({opened})",
        by("")
    );
    format!(
        "SELECT *, min(ts) OVER ({0}) AS window_start, max(ts) OVER ({0}) + {gap} \
         AS window_end FROM ({numbered})",
        by("number")
    )
}
