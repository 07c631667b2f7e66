//! Times of far years: each function gives `DuckDB`'s value, or its row is a dead letter.

use std::{collections::BTreeMap, fmt::Write, sync::Arc};

use chrono::{NaiveDate, NaiveDateTime};
use tagflow_engine::testing::Script;

use crate::{duckdb, poison::quoted, rig::Rig};

/// The years of the rows. Many functions work in nanoseconds, which end in 1677 and 2262.
const YEARS: [i32; 11] = [
    1, 1500, 1600, 1677, 1678, 1969, 2026, 2261, 2262, 2500, 9999,
];

const COLUMNS: &str = "k: string
x: timestamp(ms)
xs: timestamp(s)
xu: timestamp(us)
xr: timestamp(rfc3339)
dt: date
s: string
m: int64
f: float64
ts: timestamp(ms)";

/// The columns of the same rows in `DuckDB`, which has no function of such numbers.
const DUCKDB_COLUMNS: &str = "k: string
dt: date
s: string
m: int64
f: float64";

/// How a row of a far year is treated.
#[derive(Clone, Copy, PartialEq)]
enum Far {
    /// It has a value.
    Works,
    /// It is a dead letter.
    Fails,
    /// It is a dead letter if its distance from 2026 has no 64 bits of nanoseconds.
    Distance,
}
use Far::{Distance, Fails, Works};

/// Expressions, and what they are in `DuckDB`, where `x` is the time.
const EXPRESSIONS: &[(&str, &str, Far)] = &[
    ("x", "x", Works),
    ("xs", "x", Works),
    ("xu", "x", Works),
    ("xr", "x", Works),
    ("dt", "dt", Works),
    ("date_trunc('second', x)", "x", Works),
    (
        "date_trunc('hour', x)",
        "CAST(date_trunc('hour', x) AS TIMESTAMP)",
        Fails,
    ),
    (
        "date_trunc('week', x)",
        "CAST(date_trunc('week', x) AS TIMESTAMP)",
        Fails,
    ),
    (
        "date_trunc('month', x)",
        "CAST(date_trunc('month', x) AS TIMESTAMP)",
        Fails,
    ),
    (
        "date_trunc('year', dt)",
        "CAST(date_trunc('year', dt) AS TIMESTAMP)",
        Fails,
    ),
    (
        "date_bin(INTERVAL '1 hour', x)",
        "date_bin(INTERVAL '1 hour', x)",
        Fails,
    ),
    (
        "date_bin(INTERVAL '7 days', dt)",
        "date_bin(INTERVAL '7 days', CAST(dt AS TIMESTAMP))",
        Fails,
    ),
    (
        "date_bin(INTERVAL '1 hour', x, TIMESTAMP '2026-01-01')",
        "time_bucket(INTERVAL '1 hour', x, TIMESTAMP '2026-01-01')",
        Distance,
    ),
    ("extract(year FROM x)", "year(x)", Works),
    ("extract(month FROM dt)", "month(dt)", Works),
    ("extract(day FROM x)", "day(x)", Works),
    ("extract(doy FROM x)", "dayofyear(x)", Works),
    ("extract(dow FROM x)", "dayofweek(x)", Works),
    ("extract(week FROM x)", "weekofyear(x)", Works),
    ("extract(minute FROM x)", "minute(x)", Works),
    ("extract(epoch FROM x)", "epoch(x)", Works),
    ("extract(epoch FROM dt)", "epoch(dt)", Works),
    (
        "extract(year FROM to_timestamp_seconds(m * 1000))",
        "NULL",
        Fails,
    ),
    ("to_char(x, '%Y-%m-%d')", "strftime(x, '%Y-%m-%d')", Fails),
    ("to_char(dt, '%Y-%m-%d')", "CAST(dt AS VARCHAR)", Works),
    ("to_timestamp(s)", "CAST(s AS TIMESTAMP)", Fails),
    ("CAST(s AS TIMESTAMP)", "CAST(s AS TIMESTAMP)", Fails),
    ("to_timestamp(m / 1000)", "x", Fails),
    ("date_trunc('second', to_timestamp(f))", "x", Fails),
    ("to_timestamp_millis(m)", "x", Works),
    ("to_timestamp_micros(m * 1000)", "x", Works),
    ("to_timestamp_seconds(m / 1000)", "x", Works),
    ("from_unixtime(m / 1000)", "x", Works),
    ("to_unixtime(x)", "epoch(x)", Works),
    ("to_unixtime(s)", "epoch(x)", Fails),
    ("to_date(s)", "dt", Works),
    ("CAST(s AS DATE)", "dt", Works),
    ("CAST(x AS DATE)", "dt", Works),
    ("CAST(dt AS TIMESTAMP)", "CAST(dt AS TIMESTAMP)", Fails),
    ("CAST(x AS BIGINT)", "epoch_us(x)", Works),
    ("x AT TIME ZONE 'Asia/Shanghai'", "x", Fails),
    ("to_local_time(x)", "x", Works),
    ("x + INTERVAL '1 month'", "x + INTERVAL '1 month'", Works),
    ("x - INTERVAL '40 days'", "x - INTERVAL '40 days'", Works),
    (
        "dt + INTERVAL '1 month'",
        "CAST(dt + INTERVAL '1 month' AS DATE)",
        Works,
    ),
    ("dt - DATE '2026-01-01'", "dt - DATE '2026-01-01'", Works),
    ("extract(epoch FROM x - to_timestamp(0))", "epoch(x)", Fails),
    (
        "round(extract(epoch FROM x - TIMESTAMP '2026-01-01'))",
        "epoch(x) - 1767225600",
        Distance,
    ),
    (
        "x > TIMESTAMP '2026-01-01'",
        "x > TIMESTAMP '2026-01-01'",
        Works,
    ),
    (
        "x BETWEEN '1700-01-01' AND '2262-01-01'",
        "year(x) BETWEEN 1700 AND 2261",
        Works,
    ),
    ("dt > '2026-01-01'", "dt > DATE '2026-01-01'", Works),
    ("x > dt", "x > dt", Fails),
    ("coalesce(x, xs)", "x", Works),
    (
        "greatest(x, to_timestamp_millis(0))",
        "greatest(x, TIMESTAMP '1970-01-01')",
        Works,
    ),
    ("CASE WHEN x > xs THEN xs ELSE x END", "x", Works),
    ("make_date(CAST(k AS INT), 3, 7)", "dt", Works),
    ("concat(k, dt)", "concat(k, dt)", Works),
];

fn time(year: i32) -> NaiveDateTime {
    let day = NaiveDate::from_ymd_opt(year, 3, 7).unwrap();
    day.and_hms_opt(5, 6, 7).unwrap()
}

/// Whether a time has 64 bits of nanoseconds.
fn is_far(year: i32) -> bool {
    time(year).and_utc().timestamp_nanos_opt().is_none()
}

fn rows() -> Vec<String> {
    let rows = YEARS.iter().enumerate().map(|(second, year)| {
        let time = time(*year).and_utc();
        let (seconds, day) = (time.timestamp(), time.format("%Y-%m-%d").to_string());
        serde_json::json!({
            "k": format!("{year:04}"), "x": seconds * 1_000, "xs": seconds,
            "xu": seconds * 1_000_000, "xr": format!("{day}T05:06:07Z"), "dt": day,
            "s": format!("{day}T05:06:07Z"), "m": seconds * 1_000, "f": seconds as f64 + 0.5,
            "ts": 1_767_600_000_000_i64 + 1_000 * second as i64,
        })
        .to_string()
    });
    rows.collect()
}

/// A file with all expressions over one source.
fn file() -> String {
    let columns = COLUMNS.lines().filter_map(|it| it.split_once(": "));
    let columns: Vec<String> = columns
        .map(|(name, kind)| format!("{name}: \"{kind}\""))
        .collect();
    let columns = columns.join(", ");
    let mut file = format!(
        "name: times\nsources:\n  e: {{files: {{url: /nowhere/e.ndjson}}, format: {{json: {{}}}}, \
         columns: {{{columns}}}, time: {{event_time: ts, delay: 0s}}}}\nqueries:\n"
    );
    let mut sinks = String::new();
    for (number, (expr, ..)) in EXPRESSIONS.iter().enumerate() {
        let sql = quoted(&format!("SELECT k, {expr} AS v FROM e"));
        let _ = writeln!(file, "  q{number}: {sql}");
        let _ = writeln!(sinks, "  o{number}: {{from: q{number}, console: {{}}}}");
    }
    file + "sinks:\n" + &sinks
}

#[test]
fn regression_far_times_work_or_cost_their_row() {
    let mut rig = Rig::new(file());
    let script = Arc::new(Script::default());
    let rows = rows();
    script.push("p0", rows.clone());
    rig.scripts.insert("e", script);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let (status, lines, dead) = runtime.block_on(async {
        let status = rig.start().await.unwrap_or_else(|error| {
            panic!("{}", error.chain());
        });
        let mut lines = Vec::new();
        for number in 0..EXPRESSIONS.len() {
            lines.push(rig.lines(&format!("o{number}")).await);
        }
        (status, lines, rig.lines("errors.dead_letters").await)
    });
    assert_eq!(status.totals.dead_letter, dead.len() as u64);

    let mut problems = Vec::new();
    for (number, (expr, of_duckdb, far)) in EXPRESSIONS.iter().enumerate() {
        let ours: BTreeMap<String, String> = lines[number]
            .iter()
            .map(|line| (line[..4].to_owned(), duckdb::values(line)[1].clone()))
            .collect();
        let missing = YEARS
            .iter()
            .filter(|year| !ours.contains_key(&format!("{year:04}")));
        let missing: Vec<i32> = missing.copied().collect();
        let node = [format!(",q{number},"), format!(",o{number}.columns,")];
        let of_node = |line: &&String| node.iter().any(|node| line.contains(node.as_str()));
        let letters = dead.iter().filter(of_node).count();
        if letters != missing.len() {
            problems.push(format!("`{expr}`: {letters} dead letters for {missing:?}"));
        }
        let is_expected = match far {
            Works => missing.is_empty(),
            Distance => missing.iter().all(|year| (year - 2026).abs() > 290),
            Fails => missing.iter().all(|year| is_far(*year)) || *of_duckdb == "NULL",
        };
        if !is_expected {
            problems.push(format!("`{expr}`: no value for {missing:?}"));
        }
        let sql = format!(
            "SELECT k, {of_duckdb} AS v FROM (SELECT *, make_timestamp(m * 1000) AS x FROM e)"
        );
        let Some(theirs) = duckdb::answer(&[("e", DUCKDB_COLUMNS, rows.iter().collect())], &sql)
        else {
            continue;
        };
        for (year, row) in YEARS.iter().zip(&theirs) {
            let ours = ours.get(&format!("{year:04}"));
            if ours.is_some_and(|value| *value != row[1]) {
                problems.push(format!("`{expr}`, {year}: {ours:?}, DuckDB {row:?}"));
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}
