//! Random tags and segments, as of many times, equal DataFusion's result for plain SQL
//! over the events up to each of these times.

use std::fmt::Write;

use rand::{Rng, SeedableRng, rngs::SmallRng, seq::IndexedRandom};

use crate::{
    case::{Arrival, COLUMNS, Case, rows_of},
    oracle::{batch, run},
};

/// The number of cases in CI; `TAGFLOW_ORACLE_CASES` sets another number,
/// `TAGFLOW_ORACLE_SEED` selects one.
const CASES: u64 = 60;

/// The interval between profiles, in milliseconds.
const EVERY_MS: i64 = 60_000;

#[test]
fn profiles_equal_datafusion() {
    let number = |name: &str| std::env::var(name).ok().and_then(|it| it.parse().ok());
    let cases = number("TAGFLOW_ORACLE_CASES").unwrap_or(CASES);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    if let Some(seed) = number("TAGFLOW_ORACLE_SEED") {
        runtime.block_on(check(seed));
        return;
    }
    let (mut restarts, mut rows) = (0, 0);
    for seed in 0..cases {
        let checked = runtime.block_on(check(seed));
        restarts += checked.0;
        rows += checked.1;
    }
    println!("{cases} cases, {restarts} crashes, {rows} rows");
    assert!(restarts > cases / 4, "too few crashes to show anything");
    assert!(rows > cases as usize * 20, "too few rows to show anything");
}

async fn check(seed: u64) -> (u64, usize) {
    let mut random = SmallRng::seed_from_u64(seed);
    let case = case(&mut random);
    let ran = run(&case, &mut random, seed).await;
    let expected = batch(&case).await;
    let extra: Vec<_> = ran
        .lines
        .iter()
        .filter(|it| !expected.contains(it))
        .collect();
    let missing: Vec<_> = expected
        .iter()
        .filter(|it| !ran.lines.contains(it))
        .collect();
    assert!(
        ran.lines == expected,
        "seed {seed}: {extra:#?} in place of {missing:#?}\n{}\n{}",
        case.file,
        case.batch
    );
    (ran.restarts, expected.len())
}

const CONDITIONS: [&str; 4] = ["b", "f > 0", "k in ('a', 'b')", "d is not null and not b"];

/// Aggregates of a tag, and in SQL the events that they count.
const AGGREGATES: [(&str, &str); 14] = [
    ("agg: count", "count(*) FILTER (WHERE {})"),
    ("agg: count, arg: d", "count(d) FILTER (WHERE {})"),
    (
        "agg: sum, arg: id % 7",
        "coalesce(sum(id % 7) FILTER (WHERE {}), 0)",
    ),
    ("agg: sum, arg: d", "coalesce(sum(d) FILTER (WHERE {}), 0)"),
    ("agg: sum, arg: f", "coalesce(sum(f) FILTER (WHERE {}), 0)"),
    ("agg: min, arg: d", "min(d) FILTER (WHERE {})"),
    ("agg: max, arg: k", "max(k) FILTER (WHERE {})"),
    ("agg: max, arg: upper(k)", "max(upper(k)) FILTER (WHERE {})"),
    ("agg: avg, arg: f", "avg(f) FILTER (WHERE {})"),
    (
        "agg: distinct, arg: k",
        "count(DISTINCT k) FILTER (WHERE {})",
    ),
    (
        "agg: first, arg: d",
        "first_value(d ORDER BY ts, id) FILTER (WHERE {} AND d IS NOT NULL)",
    ),
    (
        "agg: last, arg: k",
        "last_value(k ORDER BY ts, id) FILTER (WHERE {} AND k IS NOT NULL)",
    ),
    (
        "agg: last, arg: b",
        "last_value(b ORDER BY ts, id) FILTER (WHERE {} AND b IS NOT NULL)",
    ),
    ("agg: min, arg: ts", "min(ts) FILTER (WHERE {})"),
];

/// A pipeline with some tags of `n`, with or without a step before them. Also its profile
/// in plain SQL, as of each time of a profile.
fn case(random: &mut SmallRng) -> Case {
    let from_ms = 1_767_571_200_000;
    let delay_ms = random.random_range(0..120_000);
    let arrival = Arrival {
        from_ms,
        step_ms: 10_000,
        delay_ms,
        one_key: false,
    };
    let mut partitions: Vec<Vec<String>> = (0..random.random_range(1..4))
        .map(|partition| {
            let rows = random.random_range(1..150);
            rows_of(random, partition, rows, &arrival)
        })
        .collect();
    // Rows without a key advance time, far enough for windows to become empty.
    let end_ms = from_ms + 150 * 10_000 + delay_ms + 12 * EVERY_MS;
    for rows in &mut partitions {
        rows.push(format!("{{\"id\":-1,\"ts\":{end_ms}}}"));
    }
    let last = (end_ms - delay_ms - 1).div_euclid(EVERY_MS);
    let times = ((from_ms - delay_ms) / EVERY_MS..=last)
        .map(|time| format!("({})", time * EVERY_MS * 1000));
    let times: Vec<String> = times.collect();

    let mut define = String::new();
    let mut columns = String::new();
    let mut column = |plain: &str, counts: &str| {
        let name = columns.lines().count();
        let plain = plain.replace("{}", counts);
        writeln!(columns, ", {plain} AS c{name}").unwrap();
    };
    for tag in 0..random.random_range(1..6) {
        let (ours, plain) = AGGREGATES.choose(random).unwrap();
        let filter = random
            .random_bool(0.6)
            .then(|| *CONDITIONS.choose(random).unwrap());
        let filter_is = filter.unwrap_or("true");
        let (tile_ms, exact) = *[
            (1, "exact: true"),
            (10_000, "tile: 10s"),
            (20_000, "tile: 20s"),
        ]
        .choose(random)
        .unwrap();
        let minutes: Vec<i64> = [1, 3, 10]
            .into_iter()
            .filter(|_| random.random_bool(0.5))
            .collect();
        let windows: Vec<String> = minutes.iter().map(|it| format!("{it}m")).collect();
        let rolling = match (windows.is_empty(), random.random_bool(0.3)) {
            (true, _) => String::new(),
            (false, true) => format!(", windows: [lifetime, {}], {exact}", windows.join(", ")),
            (false, false) => format!(", windows: [{}], {exact}", windows.join(", ")),
        };
        let filter = filter.map_or(String::new(), |filter| format!(", where: {filter:?}"));
        writeln!(define, "    t{tag}: {{{}{filter}{rolling}}}", quoted(ours)).unwrap();
        if windows.is_empty() || rolling.contains("lifetime") {
            column(plain, &format!("({filter_is})"));
        }
        for minutes in minutes {
            // An event leaves with the last instant of its tile.
            let tile_us = if tile_ms == 1 { 1 } else { tile_ms * 1000 };
            let until = format!("us - us % {tile_us} + {tile_us} - 1");
            let from = format!("as_of - {}", minutes * 60_000_000);
            column(plain, &format!("({filter_is}) AND {until} > {from}"));
        }
    }
    let file = format!(
        "name: random
sources:
  events:
    kafka: {{brokers: \"localhost:9092\", topics: [t]}}
    format: {{json: {{}}}}
    columns:{COLUMNS}
    time: {{event_time: ts, delay: {delay_ms}ms, max_future: 36500d}}
steps:
  named: {{from: events, where: n is not null or id = -1}}
tags:
  from: {}
  key: n
  event_id: id
  define:
{define}    count: {{agg: count}}
    last_at: {{agg: last, arg: ts}}
    minutes: {{time_since: last_at, unit: m}}
    idle: {{score: minutes, cuts: [2, 4.5], reversed: true}}
segments:
  often: {{when: count > 10}}
  away: {{when: minutes between 2 and 5}}
sinks:
  out: {{from: tags.current, parquet: {{url: ./out, every: 1m}}}}
",
        ["events", "named"].choose(random).unwrap()
    );
    let since = "((as_of - max(us)) / 60000000)";
    let times = times.join(", ");
    let batch = format!(
        "SELECT n, arrow_cast(as_of, 'Timestamp(us, \"UTC\")') AS at{columns}, count(*) AS n0, max(ts) AS n1, {since} AS n2,
  CASE WHEN {since} >= 4.5 THEN 1 WHEN {since} >= 2 THEN 2 ELSE 3 END, '[]',
  '[' || concat_ws(', ', CASE WHEN count(*) > 10 THEN 'often' END,
    CASE WHEN {since} BETWEEN 2 AND 5 THEN 'away' END) || ']'
FROM (SELECT *, arrow_cast(ts, 'Int64') AS us FROM events WHERE n IS NOT NULL)
JOIN (VALUES {times}) AS times(as_of) ON us <= as_of
GROUP BY n, as_of"
    );
    Case {
        file,
        partitions,
        batch,
        cut: None,
    }
}

/// `agg: sum, arg: id % 7` as YAML.
fn quoted(aggregate: &str) -> String {
    match aggregate.split_once(", arg: ") {
        Some((agg, arg)) => format!("{agg}, arg: {arg:?}"),
        None => aggregate.to_owned(),
    }
}
