//! Numbers at the limits of their types, from the text of a pipeline to its rows.

use std::{collections::BTreeMap, fmt::Write};

use super::{LowerOptions, driver::run, load, lower};

/// The output for `rows` of `columns`: one sink for each query in `sinks`, with its name.
fn results(columns: &str, blocks: &str, sinks: &[&str], rows: &[&str]) -> BTreeMap<String, String> {
    let sinks: Vec<String> = sinks
        .iter()
        .map(|name| format!("out_{name}: {{from: {name}, console: {{}}}}"))
        .collect();
    let text = format!(
        "name: test
sources:
  events:
    files: {{url: \"./events/*.ndjson\"}}
    format: {{json: {{}}}}
    columns: {{{columns}, ts: timestamp(s)}}
    time: {{event_time: ts, delay: 1h}}
{blocks}
sinks: {{{}}}
",
        sinks.join(", ")
    );
    let spec = load(&text).unwrap_or_else(|problems| panic!("{}\n{text}", problems.human()));
    let lowered = lower(&spec, &LowerOptions::default());
    let lowered = lowered.unwrap_or_else(|problems| panic!("{}\n{text}", problems.human()));
    let rows: String = rows.iter().flat_map(|row| [*row, "\n"]).collect();
    run(&lowered, &[("events", &rows)])
}

/// The lines of a table after its header.
fn lines(results: &BTreeMap<String, String>, query: &str) -> Vec<String> {
    let table = results
        .get(&format!("out_{query}"))
        .map_or("", String::as_str);
    table.lines().skip(1).map(str::to_owned).collect()
}

#[test]
fn regression_sums_do_not_wrap_in_any_window() {
    let windows = [
        "tumble(ts, INTERVAL '1 minute')",
        "hop(ts, INTERVAL '1 minute', INTERVAL '1 minute')",
        "cumulate(ts, INTERVAL '1 minute', INTERVAL '1 minute')",
        "session(ts, INTERVAL '30 seconds')",
    ];
    let mut blocks = String::from("queries:\n");
    let mut names = Vec::new();
    for (place, window) in windows.iter().enumerate() {
        let of = "k, sum(n) AS s, sum(d) AS d FROM events GROUP BY 1, 2";
        let _ = writeln!(blocks, "  w{place}: SELECT {window} AS w, {of}");
        let _ = writeln!(blocks, "  q{place}: SELECT k, s, d FROM w{place}");
        names.push(format!("q{place}"));
    }
    blocks += "  t:\n    sql: SELECT k, sum(n) AS s, sum(d) AS d FROM events GROUP BY 1\n    \
               emit: {every: 1h}\n    ttl: 1d\n  total: SELECT k, s, d FROM t\n  \
               m: SELECT k, s, d FROM of_metrics\n\
               metrics:\n  of_metrics:\n    key: [k]\n    window: {tumble: 1m}\n    measures:\n      \
               s: {from: events, agg: sum, arg: n}\n      d: {from: events, agg: sum, arg: d}\n    \
               derived: {half: s / 2}\n";
    names.extend(["total".into(), "m".into()]);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let rows = [
        r#"{"k": "a", "n": 9223372036854775807, "d": "99999999999999999999999999999999999999", "ts": 0}"#,
        r#"{"k": "a", "n": 1, "d": "1", "ts": 1}"#,
        r#"{"k": "b", "n": 9223372036854775807, "d": "99999999999999999999999999999999999999", "ts": 0}"#,
        r#"{"k": "b", "n": 9223372036854775807, "d": "99999999999999999999999999999999999999", "ts": 1}"#,
        r#"{"k": "b", "n": -9223372036854775807, "d": "-99999999999999999999999999999999999999", "ts": 2}"#,
    ];
    let columns = "k: string, n: int64, d: \"decimal(38,0)\"";
    let results = results(columns, &blocks, &names, &rows);
    let b = "b 9223372036854775807 99999999999999999999999999999999999999";
    for name in names {
        assert_eq!(lines(&results, name), ["a - -", b], "{name}");
    }
}

#[test]
fn regression_zeros_are_one_key_everywhere() {
    let blocks = "steps:
  a: {from: events, where: \"id = 'a'\"}
  b: {from: events, where: \"id <> 'a'\"}
  dd: {from: events, dedupe: {key: [f], within: 1h}}
queries:
  j: |
    SELECT a.id AS x, b.id AS y FROM a JOIN b ON a.f = b.f AND b.ts BETWEEN a.ts - INTERVAL '1 minute' AND a.ts + INTERVAL '1 minute'
  w: SELECT tumble(ts, INTERVAL '1 minute') AS w, f, count(*) AS c, count(DISTINCT f) AS n FROM events GROUP BY 1, 2
  g: SELECT c, n FROM w
  all: SELECT tumble(ts, INTERVAL '1 minute') AS w, count(DISTINCT f) AS n, sum(DISTINCT f) AS s FROM events GROUP BY 1
  t: SELECT n, s FROM all
  d: SELECT id FROM dd
";
    let rows = [
        r#"{"id": "a", "f": 0.0, "ts": 1}"#,
        r#"{"id": "b", "f": -0.0, "ts": 2}"#,
        r#"{"id": "c", "f": 0, "ts": 3}"#,
    ];
    let names = ["j", "g", "t", "d"];
    let results = results("id: string, f: float64?", blocks, &names, &rows);
    assert_eq!(lines(&results, "j"), ["a b", "a c"]);
    assert_eq!(lines(&results, "g"), ["3 1"]);
    assert_eq!(lines(&results, "t"), ["1 0.0"]);
    assert_eq!(lines(&results, "d"), ["a"]);
}

#[test]
fn regression_a_null_is_not_the_best_of_a_window() {
    let ranked = |order: &str| {
        let blocks = format!(
            "queries:
  agg: SELECT tumble(ts, INTERVAL '1 minute') AS w, k, sum(v) AS s FROM events GROUP BY 1, 2
  top: SELECT k, r FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY w ORDER BY {order}) AS r FROM agg) WHERE r <= 2"
        );
        let rows = [
            r#"{"k": "a", "v": 5.0, "ts": 1}"#,
            r#"{"k": "b", "v": null, "ts": 2}"#,
            r#"{"k": "c", "v": 7.0, "ts": 2}"#,
        ];
        let results = results("k: string, v: float64?", &blocks, &["top"], &rows);
        lines(&results, "top").join(", ")
    };
    assert_eq!(ranked("s DESC"), "a 2, c 1");
    assert_eq!(ranked("s"), "a 1, c 2");
    assert_eq!(ranked("s DESC NULLS FIRST"), "b 1, c 2");
    assert_eq!(ranked("s NULLS FIRST"), "a 2, b 1");
}
