//! Random `metrics` blocks give what DataFusion gives for plain SQL: each measure by
//! a query of its own, joined by window and key.

use std::fmt::Write;

use rand::{Rng, SeedableRng, rngs::SmallRng, seq::IndexedRandom};

use crate::{
    case::{Arrival, COLUMNS, Case, rows_of},
    cut::{Cut, Kind},
    oracle::{batch, run},
    seeds,
};

/// How many cases of each kind CI runs.
const CASES: u64 = 100;

#[test]
fn metrics_of_tumbling_windows_equal_datafusion() {
    check_all(Kind::Tumble);
}

#[test]
fn metrics_of_calendar_windows_equal_datafusion() {
    check_all(Kind::Calendar);
}

#[test]
fn metrics_of_hopping_windows_equal_datafusion() {
    check_all(Kind::Hop);
}

fn check_all(kind: Kind) {
    let (mut restarts, mut rows) = (0, 0);
    let checked = seeds::check_all(CASES, async |seed| {
        let checked = check(kind, seed).await;
        restarts += checked.0;
        rows += checked.1;
    });
    let Some(cases) = checked else { return };
    println!("{cases} cases, {restarts} crashes, {rows} rows");
    assert!(restarts > cases / 4, "too few crashes to show anything");
    assert!(rows > cases as usize * 5, "too few rows to show anything");
}

async fn check(kind: Kind, seed: u64) -> (u64, usize) {
    let mut random = SmallRng::seed_from_u64(seed);
    let case = case(kind, &mut random);
    let ran = run(&case, &mut random, seed).await;
    let cut = case.cut.as_ref().unwrap();
    let mut ours: Vec<String> = ran.lines.iter().map(|line| cut.plain(line)).collect();
    ours.sort();
    let expected = batch(&case).await;
    assert_eq!(ours, expected, "seed {seed}\n{}\n{}", case.file, case.batch);
    (ran.restarts, expected.len())
}

const SOURCES: [(&str, &str); 3] = [
    ("events", "true"),
    ("some", "n > 1"),
    ("others", "NOT b OR d IS NULL"),
];

const CONDITIONS: [&str; 5] = [
    "n > 3 AND k <> 'a'",
    "b",
    "d IS NOT NULL -- of money",
    "f BETWEEN -2 AND 3",
    "k IN ('a', 'b')",
];

/// The YAML of a measure, its SQL over the rows that count, and what it is of none.
const MEASURES: [(&str, &str, &str); 9] = [
    ("agg: count", "count(*)", "0"),
    ("agg: count, arg: n", "count(n)", "0"),
    ("agg: sum, arg: d * 2", "sum(d * 2)", "NULL"),
    ("agg: min, arg: k", "min(k)", "NULL"),
    ("agg: max, arg: n", "max(n)", "NULL"),
    ("agg: avg, arg: n", "avg(n)", "NULL"),
    ("agg: distinct, arg: k", "count(DISTINCT k)", "0"),
    (
        "agg: distinct, arg: id, sketch: {theta: {lg_k: 12}}",
        "count(DISTINCT id)",
        "0",
    ),
    (
        "agg: distinct, arg: k, sketch: {theta: }",
        "count(DISTINCT k)",
        "0",
    ),
];

fn case(kind: Kind, random: &mut SmallRng) -> Case {
    let cut = Cut::random(kind, random);
    let delay_ms = random.random_range(0..10 * cut.step_ms);
    let arrival = Arrival {
        from_ms: cut.from_ms,
        step_ms: cut.step_ms,
        delay_ms,
        one_key: false,
    };
    let partitions = (0..random.random_range(1..4)).map(|partition| {
        let rows = random.random_range(0..300);
        rows_of(random, partition, rows, &arrival)
    });
    let partitions = partitions.collect();

    let keys: Vec<String> = [vec![], vec!["k"], vec!["b", "k"]][random.random_range(0..3)]
        .iter()
        .map(ToString::to_string)
        .collect();
    let mut groups = vec!["window_start".to_owned(), "window_end".to_owned()];
    groups.extend(keys.iter().cloned());
    let by = groups.join(", ");

    let mut measures = String::new();
    let mut views: Vec<String> = SOURCES[1..]
        .iter()
        .map(|(name, filter)| format!("{name} AS (SELECT * FROM events WHERE {filter})"))
        .collect();
    let mut columns: Vec<String> = groups.iter().map(|group| format!("g.{group}")).collect();
    let mut joins = String::new();
    let mut all = Vec::new();
    for index in 0..random.random_range(1..6) {
        let (from, _) = SOURCES.choose(random).unwrap();
        let condition = CONDITIONS.choose(random).unwrap();
        let condition = random.random_bool(0.7).then_some(*condition);
        let filter = condition.map_or(String::new(), |it| format!(", where: \"{it}\""));
        let rows = match condition {
            Some(condition) => format!("SELECT * FROM {from} WHERE {condition}\n"),
            None => format!("SELECT * FROM {from}"),
        };
        views.push(format!("p{index} AS ({})", (cut.place)(&rows, &keys)));
        all.push(format!("SELECT {by} FROM p{index}"));
        let (of_none, aggregate) = if random.random_bool(0.2) {
            // How many users came how often: first each user, then all.
            writeln!(
                measures,
                "      m{index}: {{from: {from}, agg: per_user_histogram, arg: n, bounds: [1, 2, 5]{filter}}}"
            )
            .unwrap();
            let bucket = |range: &str| format!("count(CASE WHEN c {range} THEN 1 END)");
            (
                "make_array(0, 0, 0)".to_owned(),
                format!(
                    "SELECT {by}, make_array({}, {}, {}) AS v FROM (SELECT {by}, n, count(*) AS c \
                     FROM p{index} WHERE n IS NOT NULL GROUP BY {by}, n) GROUP BY {by}",
                    bucket("= 1"),
                    bucket("BETWEEN 2 AND 4"),
                    bucket(">= 5"),
                ),
            )
        } else {
            let (yaml, sql, of_none) = MEASURES.choose(random).unwrap();
            writeln!(measures, "      m{index}: {{from: {from}, {yaml}{filter}}}").unwrap();
            (
                (*of_none).to_owned(),
                format!("SELECT {by}, {sql} AS v FROM p{index} GROUP BY {by}"),
            )
        };
        views.push(format!("m{index} AS ({aggregate})"));
        columns.push(format!("coalesce(m{index}.v, {of_none}) AS m{index}"));
        let on: Vec<String> = groups
            .iter()
            .map(|group| format!("(g.{group} IS NOT DISTINCT FROM m{index}.{group})"))
            .collect();
        write!(joins, " LEFT JOIN m{index} ON {}", on.join(" AND ")).unwrap();
    }
    // One more that numbers can be divided by.
    writeln!(measures, "      rows: {{from: events, agg: count}}").unwrap();
    writeln!(
        measures,
        "      bs: {{from: some, agg: count, where: \"b\"}}"
    )
    .unwrap();
    for (name, from) in [("rows", "events"), ("bs", "some WHERE b")] {
        let rows = format!("SELECT * FROM {from}");
        views.push(format!("p_{name} AS ({})", (cut.place)(&rows, &keys)));
        views.push(format!(
            "m_{name} AS (SELECT {by}, count(*) AS v FROM p_{name} GROUP BY {by})"
        ));
        all.push(format!("SELECT {by} FROM p_{name}"));
        columns.push(format!("coalesce(m_{name}.v, 0) AS {name}"));
        let on: Vec<String> = groups
            .iter()
            .map(|group| format!("(g.{group} IS NOT DISTINCT FROM m_{name}.{group})"))
            .collect();
        write!(joins, " LEFT JOIN m_{name} ON {}", on.join(" AND ")).unwrap();
    }
    views.push(format!("g AS ({})", all.join(" UNION ")));
    let batch = format!(
        "WITH {} SELECT *, CASE WHEN bs > 0 THEN CAST(rows AS DOUBLE) / CAST(bs AS DOUBLE) END \
         AS a, CASE WHEN bs > 0 THEN CAST(rows AS DOUBLE) / CAST(bs AS DOUBLE) * 100 END AS c \
         FROM (SELECT {} FROM g{joins})",
        views.join(", "),
        columns.join(", ")
    );

    let mut steps = String::new();
    for (name, filter) in &SOURCES[1..] {
        writeln!(steps, "  {name}: {{from: events, where: \"{filter}\"}}").unwrap();
    }
    let file = format!(
        "name: random
sources:
  events:
    files: {{url: /nowhere/*.ndjson}}
    format: {{json: {{}}}}
    columns:{COLUMNS}
    time: {{event_time: ts, delay: {delay_ms}ms}}
steps:
{steps}metrics:
  result:
    key: [{}]
    window: {}
    measures:
{measures}    derived: {{a: rows / bs, c: a * 100}}
sinks:
  out: {{from: result, console: {{}}}}
",
        keys.join(", "),
        window(&cut.call)
    );
    Case {
        file,
        partitions,
        batch,
        cut: Some(cut),
    }
}

/// The window of a block that the call of a query stands for.
fn window(call: &str) -> String {
    let constants: Vec<&str> = call.split('\'').skip(1).step_by(2).collect();
    match (call.split('(').next().unwrap(), constants.as_slice()) {
        ("tumble", [width]) => format!("{{tumble: {width}}}"),
        ("hop", [slide, size]) => format!("{{hop: {size}, every: {slide}}}"),
        ("tumble_day", [zone]) => format!("{{tumble: day, timezone: {zone}}}"),
        ("tumble_week", [zone, _]) => format!("{{tumble: week, timezone: {zone}}}"),
        ("tumble_month", [zone]) => format!("{{tumble: month, timezone: {zone}}}"),
        _ => panic!("no block has the window `{call}`"),
    }
}
