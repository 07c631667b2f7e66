//! Funnels reach the same step as `ClickHouse`'s own `windowFunnel`, in each mode, as of
//! many times.
//!
//! `TAGFLOW_CHDB` names a Python with the package `chdb`, by default `python3`.
//! `TAGFLOW_FUNNEL_USERS` sets the number of users, `TAGFLOW_ORACLE_SEED` the seed.

use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::{LazyLock, Mutex, PoisonError},
};

use rand::{Rng, SeedableRng, rngs::SmallRng};
use serde_json::json;

use crate::{case::Case, oracle::run, process::Process};

static CHDB: LazyLock<Option<Mutex<Process>>> =
    LazyLock::new(|| Process::find("chdb", "TAGFLOW_CHDB"));

const USERS: u64 = 2_000;
const SECOND_US: i64 = 1_000_000;
/// 2026-01-05.
const FROM_S: i64 = 1_767_571_200;
/// Profiles are as of each multiple of this interval.
const EVERY_S: i64 = 10;
/// The span of all events in seconds, so short that many events share a time.
const SPAN_S: i64 = 25;

/// Each mode, and the mode of `windowFunnel`. Where steps must be later, `ClickHouse`
/// forgets a step when it occurs again, except with `strict_once`. That mode uses no
/// event for two steps; here steps have different times anyway.
const MODES: [(&str, &str); 4] = [
    ("default", ""),
    ("strict_order", ", 'strict_order'"),
    ("strict_deduplication", ", 'strict_deduplication'"),
    ("strict_increase", ", 'strict_increase', 'strict_once'"),
];

/// The bit of `s` for each step. In the second list, every event is the first step.
const STEPS: [[u32; 4]; 2] = [[1, 2, 4, 8], [ANY, 2, 4, 2]];
const ANY: u32 = 0;

/// All events, and the events of a few seconds.
const WITHIN_S: [i64; 2] = [3600, 7];

#[test]
fn funnels_equal_clickhouse() {
    let Some(chdb) = &*CHDB else { return };
    let number = |name: &str| std::env::var(name).ok().and_then(|it| it.parse().ok());
    let users = number("TAGFLOW_FUNNEL_USERS").unwrap_or(USERS);
    let seed = number("TAGFLOW_ORACLE_SEED").unwrap_or(1);
    let random = &mut SmallRng::seed_from_u64(seed);

    let rows = rows(random, users);
    let case = Case {
        file: file(),
        partitions: vec![rows.clone()],
        batch: String::new(),
        cut: None,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let ran = runtime.block_on(run(&case, random, seed));

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.ndjson");
    std::fs::write(&path, rows.join("\n")).unwrap();
    let mut chdb = chdb.lock().unwrap_or_else(PoisonError::into_inner);
    let (mut compared, mut levels) = (0, BTreeMap::new());
    for as_of in (1..).map(|nth| FROM_S + nth * EVERY_S) {
        let reply = chdb.ask(&json!({"sql": sql(&path.display().to_string(), as_of)}));
        let theirs = reply["rows"].as_array();
        let theirs = theirs.unwrap_or_else(|| panic!("{}", reply["error"]));
        let time = tagflow_engine::EventTime::from_micros(as_of * SECOND_US).to_string();
        let ours = ran.lines.iter().filter_map(|line| {
            let (user, rest) = line.split_once(',')?;
            Some((user, rest.strip_prefix(&time)?.strip_prefix(',')?))
        });
        let ours: BTreeMap<&str, &str> = ours.collect();
        if as_of > FROM_S + SPAN_S + EVERY_S {
            break;
        }
        assert_eq!(ours.len(), theirs.len(), "users as of {time}");
        for row in theirs {
            let row = row.as_array().unwrap().iter();
            let row: Vec<&str> = row.map(|value| value.as_str().unwrap()).collect();
            let (user, values) = row.split_first().unwrap();
            // A line ends with `incomplete` and `segments`.
            let ours = ours[user].strip_suffix(",[],[]").unwrap();
            assert_eq!(
                ours,
                values.join(","),
                "seed {seed}, user {user} as of {time}"
            );
            compared += values.len();
            for value in values {
                *levels.entry((*value).to_owned()).or_insert(0) += 1;
            }
        }
    }
    println!("{compared} values: {levels:?}");
    assert_eq!(levels.len(), 5, "too few levels to show anything");
    assert!(
        compared as u64 > users * 20,
        "too few values to show anything"
    );
}

/// Users with one to twelve events. Most events match one step, and some two or none.
fn rows(random: &mut SmallRng, users: u64) -> Vec<String> {
    let mut events: Vec<(i64, u64, i64)> = Vec::new();
    for user in 0..users {
        for _ in 0..random.random_range(1..=12) {
            let second = random.random_range(0..SPAN_S);
            let step = |random: &mut SmallRng| 1 << random.random_range(0..4);
            let steps = match random.random_range(0..10) {
                0 => 0,
                1 => step(random) | step(random),
                _ => step(random),
            };
            events.push((second, user, steps));
        }
    }
    // In order of time; events with the same time in any order.
    events.sort_by_key(|(second, ..)| *second);
    let events = events.iter().enumerate();
    let mut rows: Vec<String> = events
        .map(|(id, (second, user, steps))| {
            let ms = (FROM_S + second) * 1000;
            format!("{{\"id\":{id},\"u\":\"u{user}\",\"s\":{steps},\"ts\":{ms}}}")
        })
        .collect();
    // A row without a user advances time.
    let end = (FROM_S + SPAN_S + 2 * EVERY_S) * 1000;
    rows.push(format!("{{\"id\":-1,\"u\":null,\"s\":0,\"ts\":{end}}}"));
    rows
}

/// The funnels by their names.
fn funnels() -> impl Iterator<Item = (String, i64, (&'static str, &'static str), [u32; 4])> {
    let kinds = WITHIN_S.into_iter().flat_map(|within| {
        let steps = STEPS.into_iter();
        steps.flat_map(move |steps| MODES.map(|mode| (within, mode, steps)))
    });
    let named = kinds.enumerate();
    named.map(|(place, (within, mode, steps))| (format!("f{place}"), within, mode, steps))
}

fn file() -> String {
    let mut define = String::new();
    for (name, within, (mode, _), steps) in funnels() {
        let steps = steps.iter().zip(1..).map(|(step, nth)| match *step {
            ANY => format!("s{nth}: \"true\""),
            bit => format!("s{nth}: \"(s & {bit}) <> 0\""),
        });
        let steps: Vec<String> = steps.collect();
        writeln!(
            define,
            "    {name}: {{funnel: {{within: {within}s, mode: {mode}, steps: {{{}}}}}}}",
            steps.join(", ")
        )
        .unwrap();
    }
    format!(
        "name: random
sources:
  events:
    kafka: {{brokers: \"localhost:9092\", topics: [t]}}
    format: {{json: {{}}}}
    columns: {{id: int64, u: string?, s: int64, ts: timestamp(ms)}}
    time: {{event_time: ts, max_future: 36500d}}
steps:
  known: {{from: events, where: u is not null or id = -1}}
tags:
  from: known
  key: u
  event_id: id
  define:
{define}sinks:
  out: {{from: tags.current, parquet: {{url: ./out, every: {EVERY_S}s}}}}
"
    )
}

/// The steps that users have reached as of a time, in `ClickHouse`'s SQL: an event
/// expires `within` after its time.
fn sql(path: &str, as_of: i64) -> String {
    let mut columns = String::new();
    for (name, within, (_, mode), steps) in funnels() {
        let steps = steps.iter().map(|step| match *step {
            ANY => "true".to_owned(),
            bit => format!("bitAnd(s, {bit}) <> 0"),
        });
        let steps: Vec<String> = steps.collect();
        let is_in = format!("ts > {}", (as_of - within) * 1000);
        let steps = steps.join(", ");
        let funnel = format!("windowFunnelIf(1000000000{mode})(ts, {steps}, {is_in})");
        let level = format!("toUInt8({funnel})");
        write!(
            columns,
            ", if({level} = 0, '', concat('s', toString({level}))) AS {name}"
        )
        .unwrap();
    }
    format!(
        "SELECT u{columns} FROM file('{path}', 'JSONEachRow', \
         'id Int64, u Nullable(String), s Int64, ts UInt64') \
         WHERE u IS NOT NULL AND ts <= {} GROUP BY u",
        as_of * 1000
    )
}
