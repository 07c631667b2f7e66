mod tags;
mod types;

use std::{fmt::Write as _, sync::Arc};

use super::*;
use tagflow_pipelines::{LoadOptions, Pipeline, diagnostic::Diagnostics};

/// Clicks by person and minute, from two topics.
const FILE: &str = r#"name: p
sources:
  a:
    kafka: {brokers: "localhost:9092", topics: [a]}
    format: {json: {}}
    columns: {who: string, n: int64?, price: "decimal(10,2)?", at: timestamp(ms)}
    time: {event_time: at, delay: 5s, idle_after: 60s, max_future: 5m}
  b:
    kafka: {brokers: "localhost:9092", topics: [b]}
    format: {json: {}}
    columns: {who: string, n: int64?, price: "decimal(10,2)?", at: timestamp(rfc3339)}
    time: {event_time: at, delay: 5s, idle_after: 60s}
steps:
  some: {from: a, where: n > 1}
queries:
  both: SELECT who, n, price, at FROM some UNION ALL SELECT who, n, price, at FROM b
  minute: |
    SELECT tumble(at, INTERVAL '1 minute') AS "window", who, sum(n) AS n, avg(n) AS mean,
           max(price) AS price
    FROM both GROUP BY 1, 2
sinks:
  out: {from: minute, blackhole: {}}
tests:
"#;

fn open(file: &str) -> Result<Pipeline, Diagnostics> {
    let options = LoadOptions {
        set: Vec::new(),
        env: Arc::new(|_| None),
    };
    Pipeline::open_str("p.yaml", file, &options)
}

/// A test of these steps, after `FILE`.
fn test(steps: &str) -> String {
    let mut text = format!("{FILE}  - name: t\n    steps:\n");
    for step in steps.lines() {
        let _ = writeln!(text, "      {step}");
    }
    text
}

/// The failures, one per line, with line numbers within the steps.
fn failures(file: &str, lanes: usize) -> Vec<String> {
    let pipeline = open(file).unwrap_or_else(|problems| panic!("{}", problems.human()));
    let head = FILE.lines().count() as u32 + 2;
    let results = run(&pipeline, lanes).unwrap();
    let failures = results.iter().flat_map(|result| &result.failures);
    let line = |failure: &Failure| {
        let Failure {
            at,
            after,
            node,
            expected,
            got,
        } = failure;
        let after = after.as_deref().unwrap_or("-");
        format!(
            "{}: after {after}: {node}: {expected}: {got}",
            at.line - head
        )
    };
    failures.map(line).collect()
}

/// Checks the failures of these steps, on one lane and on four.
#[track_caller]
fn check(steps: &str, expected: &[&str]) {
    for lanes in [1, 4] {
        assert_eq!(failures(&test(steps), lanes), expected, "on {lanes} lanes");
    }
}

/// The problems of a file with these steps.
fn problems(steps: &str) -> Vec<String> {
    let head = FILE.lines().count() as u32 + 2;
    let Err(problems) = open(&test(steps)) else {
        return Vec::new();
    };
    let problems = problems.iter();
    problems
        .map(|it| {
            format!(
                "{}:{}: {}",
                it.at.line.saturating_sub(head),
                it.at.column,
                it.message
            )
        })
        .collect()
}

#[test]
fn a_window_closes_at_the_watermark_of_all_sources() {
    check(
        r#"- send:
    a: [{who: x, n: 2, at: "2026-01-05T12:00:01Z"}, {who: x, n: 1, at: "2026-01-05T12:00:02Z"}]
    b: [{who: x, n: 3, price: 1.5, at: "2026-01-05T12:00:03Z"}]
- expect: {some: {count: 1}, both: {count: 2}, minute: empty}
- watermark: {a: "2026-01-05T12:01:00Z"}
- expect: {minute: empty, both: empty}
- watermark: {b: "2026-01-05T12:01:00Z"}
- expect:
    minute:
      equals: [{window_start: "2026-01-05T12:00:00Z", window_end: "2026-01-05T12:01:00Z", who: x, n: 5, mean: 2.5, price: 1.50}]
    out: {contains: [{n: 5}], count: 1}
    counters: {in: 3, filtered: 1, late: 0}"#,
        &[],
    );
}

#[test]
fn a_restart_goes_on_from_the_commit() {
    check(
        r#"- send: {b: [{who: x, n: 2, at: "2026-01-05T12:00:01Z"}]}
- watermark: "2026-01-05T12:00:30Z"
- restart
- restart:
- send: {b: [{who: x, n: 3, at: "2026-01-05T12:00:02Z"}]}
- watermark: {a: "2026-01-05T12:01:00Z"}
- restart
- watermark: {b: "2026-01-05T12:01:00Z"}
- expect: {minute: {contains: [{who: x, n: 5}], count: 1}, late: empty, counters: {in: 2}}
- restart
- send: {b: [{who: x, n: 7, at: "2026-01-05T12:00:59Z"}]}
- expect: {minute: empty, late: {contains: [{offset: 2, reason: window_closed}]}}"#,
        &[],
    );
}

/// Every change of a key without a window: in order, late, expired, new again.
#[test]
fn changes_come_out_by_key_until_it_is_forgotten() {
    let tally = r"  tally:
    sql: SELECT who, sum(n) AS n FROM both GROUP BY who
    emit: {every: 1m}
    ttl: 2m
sinks:
  out: {from: tally,";
    let steps = r#"- send:
    b: [{who: x, n: 1, at: "2026-01-05T12:00:01Z"}, {who: y, n: 1, at: "2026-01-05T12:00:02Z"}]
- watermark: "2026-01-05T12:01:00Z"
- expect:
    tally:
      equals:
        - {who: x, n: 1, op: insert, changed_at: "2026-01-05T12:01:00Z"}
        - {who: y, n: 1, op: insert, changed_at: "2026-01-05T12:01:00Z"}
- send:
    b: [{who: x, n: 2, at: "2026-01-05T12:01:01Z"}, {who: y, n: 0, at: "2026-01-05T12:01:02Z"}]
- restart
- watermark: "2026-01-05T12:02:00Z"
- expect: {tally: {equals: [{who: x, n: 3, op: update, changed_at: "2026-01-05T12:02:00Z"}]}}
- send:
    b: [{who: x, n: 4, at: "2026-01-05T12:01:30Z"}, {who: x, n: 9, at: "2026-01-05T12:00:59Z"}]
- expect: {tally: empty, late: {contains: [{offset: 5, reason: key_forgotten}], count: 1}}
- restart
- watermark: "2026-01-05T12:03:30Z"
- expect: {tally: {equals: [{who: x, n: 7, op: update, changed_at: "2026-01-05T12:03:00Z"}]}}
- watermark: "2026-01-05T12:05:00Z"
- expect:
    tally:
      equals:
        - {who: y, n: 1, op: delete, changed_at: "2026-01-05T12:04:00Z"}
        - {who: x, n: 7, op: delete, changed_at: "2026-01-05T12:04:00Z"}
- restart
- send: {b: [{who: x, n: 5, at: "2026-01-05T12:05:10Z"}]}
- watermark: "2026-01-05T12:30:00Z"
- expect:
    tally:
      equals:
        - {who: x, n: 5, op: insert, changed_at: "2026-01-05T12:06:00Z"}
        - {who: x, n: 5, op: delete, changed_at: "2026-01-05T12:08:00Z"}
    counters: {in: 7, late: 1}"#;
    let file = test(steps).replace("sinks:\n  out: {from: minute,", tally);
    for lanes in [1, 4] {
        assert_eq!(failures(&file, lanes), [""; 0], "on {lanes} lanes");
    }
}

#[test]
fn a_table_has_the_rows_that_are_sent_to_it() {
    let tables = r"  named:
    sql: SELECT b.who, p.name FROM b LEFT JOIN people p ON b.who = p.who
tables:
  people:
    url: /nowhere/people.csv
    format: {csv: {}}
    columns: {who: string, name: string}
    key: [who]
sinks:
  out: {from: named,";
    let steps = r#"- send: {b: [{who: x, at: "2026-01-05T12:00:01Z"}]}
- send: {people: [{who: x, name: Xaver}, {who: y, name: "Y, the second"}]}
- send: {b: [{who: x, at: "2026-01-05T12:00:02Z"}]}
- restart
- send: {b: [{who: y, at: "2026-01-05T12:00:03Z"}]}
- send: {people: [{who: x, name: Xenia}]}
- send: {b: [{who: x, at: "2026-01-05T12:00:04Z"}, {who: y, at: "2026-01-05T12:00:05Z"}]}
- expect:
    named:
      equals:
        - {who: x, name: null}
        - {who: x, name: Xaver}
        - {who: y, name: "Y, the second"}
        - {who: x, name: Xenia}
        - {who: y, name: null}"#;
    let file = test(steps).replace("sinks:\n  out: {from: minute,", tables);
    for lanes in [1, 4] {
        assert_eq!(failures(&file, lanes), [""; 0], "on {lanes} lanes");
    }
    let twice =
        "- send: {people: [{who: x, name: a}, {who: x, name: b}]}\n- expect: {named: empty}";
    let file = test(twice).replace("sinks:\n  out: {from: minute,", tables);
    assert_eq!(
        failures(&file, 1),
        [
            "9: after -: p: that it goes on: two rows of the table `people` have the key `who = \
             x`; a row is looked up by its key, so each may stand there once"
        ]
    );
}

#[test]
fn a_silent_source_is_left_out_when_the_clock_has_moved() {
    let steps = |wait: &str| {
        format!(
            r#"- send: {{b: [{{who: x, n: 2, at: "2026-01-05T12:00:01Z"}}]}}
- clock: {wait}
- send: {{b: [{{who: y, n: 2, at: "2026-01-05T12:01:05Z"}}]}}
- expect: {{minute: {{contains: [{{who: x}}]}}}}"#
        )
    };
    check(
        &steps("59s"),
        &["4: after send to b: minute: {who: x}: nothing"],
    );
    // `a`, which never had a row, is caught up too.
    check(&steps("61s"), &[]);
}

#[test]
fn times_are_judged_once_a_test_tells_the_time() {
    let send = r#"- send: {a: [{who: x, n: 2, at: "2026-01-05T12:06:00Z"}]}"#;
    check(
        &format!("{send}\n- expect: {{some: {{count: 1}}, dead_letters: empty}}"),
        &[],
    );
    check(
        &format!(
            "{send}\n- clock: 2026-01-05T12:00:00Z\n{send}\n- clock: 2m\n{send}\n\
             - expect: {{some: {{count: 1}}, dead_letters: {{contains: [\
             {{offset: 0, reason: implausible_time, failed_at: 2026-01-05T12:00:00Z}}], count: 2}}}}"
        ),
        &[],
    );
}

#[test]
fn what_is_not_as_expected_is_shown_beside_what_is() {
    check(
        r#"- send: {b: [{who: x, n: 2, at: "2026-01-05T12:00:01Z"}, {who: y, at: "2026-01-05T12:00:02Z"}]}
- expect:
    b:
      equals: [{who: x, n: 3, at: "2026-01-05T12:00:01Z"}]
      contains: [{who: z}, {who: y, n: 1}]
      count: 3
    counters: {in: 1}
- expect: {b: {count: 5}}"#,
        &[
            "6: after send to b: b: 3 rows: 2 rows",
            "5: after send to b: b: {who: z}: 2 rows, such as {who: x}",
            "5: after send to b: b: {who: y, n: 1}: {who: y, n: null}, the nearest of 2 rows",
            "4: after send to b: b: {who: x, n: 3, at: 2026-01-05T12:00:01Z}: \
             {who: x, n: 2, at: 2026-01-05T12:00:01Z}, the nearest of 2 rows",
            "4: after send to b: b: 1 row: 2 rows, such as {who: x, n: 2, at: 2026-01-05T12:00:01Z}",
            "7: after send to b: counters.in: 1: 2",
        ],
    );
}

#[test]
fn a_column_that_is_left_out_is_null() {
    check(
        r#"- send: {b: [{who: x, at: "2026-01-05T12:00:01Z"}, {who: x, at: "2026-01-05T12:00:01Z"}]}
- expect: {b: {equals: [{who: x, at: "2026-01-05T12:00:01Z"}, {who: x, n: null, at: "2026-01-05T20:00:01+08:00"}]}}
- send: {b: [{who: x, at: "2026-01-05T12:00:01Z"}]}
- expect: {b: {equals: [{who: x}]}}"#,
        &["4: after send to b: b: {who: x}: {who: x, at: 2026-01-05T12:00:01Z}"],
    );
}

#[test]
fn floats_need_not_be_written_to_the_last_digit() {
    let steps = |mean: &str| {
        let row = |n: u8| format!("{{who: x, n: {n}, at: 2026-01-05T12:00:00Z}}");
        let (one, none) = (row(1), row(0));
        format!(
            "- send: {{b: [{one}, {none}, {none}]}}\n\
             - watermark: 2026-01-06\n\
             - expect: {{minute: {{contains: [{{mean: {mean}}}]}}}}"
        )
    };
    check(&steps("0.3333333333"), &[]);
    assert_eq!(failures(&test(&steps("0.33333333")), 1).len(), 1);
}

#[test]
fn a_pipeline_that_stops_fails_its_test() {
    let file = test("- send: {a: [no row]}\n- clock: 1s")
        .replace("max_future: 5m}", "max_future: 5m}\n    on_error: fail");
    let failures = failures(&file, 1);
    assert_eq!(failures.len(), 1);
    assert!(
        failures[0].contains("p: that it goes on: row 0 of `a:test` cannot be read"),
        "{failures:?}"
    );
}

#[test]
fn rows_come_in_the_format_of_their_source() {
    let kafka = "kafka: {brokers: \"localhost:9092\", topics: [a]}\n    format: {json: {}}";
    let steps = r#"- send: {a: [{who: "x,\"y\"", n: 2, price: 1.25, at: "2026-01-05T12:00:01Z"}, {who: y, n: many, at: "2026-01-05T12:00:01.5Z"}, {n: 1, at: "2026-01-05T12:00:02Z"}]}
- expect:
    a: {equals: [{who: "x,\"y\"", n: 2, price: 1.25, at: "2026-01-05T12:00:01Z"}]}
    dead_letters: {contains: [{offset: 1, reason: wrong_type, field: n}, {offset: 2, reason: missing_field}], count: 2}"#;
    for format in [
        "{json: {}}",
        "{csv: {}}",
        "{csv: {header: false, delimiter: \";\"}}",
        "{parquet: {}}",
    ] {
        let files = format!("files: {{url: ./a}}\n    format: {format}");
        let file = test(steps);
        assert!(file.contains(kafka));
        let file = file.replace(kafka, &files);
        let none: [&str; 0] = [];
        assert_eq!(failures(&file, 1), none, "{format}");
    }
}

#[test]
fn mistakes_in_tests_have_their_places() {
    check_problems(
        "- snd: {a: []}",
        &[
            "1:9: missing one of `send`, `watermark`, `clock`, `restart`, `expect`",
            "1:9: unknown key `snd`; did you mean `send`?",
        ],
    );
    check_problems(
        "- restrt",
        &["1:9: `restrt` is no step of a test; did you mean `restart`?"],
    );
    check_problems(
        "- {send: {a: []}, restart: null}",
        &["1:25: only one of `send`, `watermark`, `clock`, `restart`, `expect` can stand"],
    );
    check_problems(
        "- restart: now",
        &["1:18: expected nothing after `restart`, got the string `now`"],
    );
    check_problems(
        "- send: {minute: [{}]}",
        &["1:16: `minute` is no source (have: a, b)"],
    );
    check_problems(
        "- watermark: {some: 2026-01-05}",
        &["1:21: `some` is no source (have: a, b)"],
    );
    check_problems(
        "- watermark: soon",
        &[
            "1:20: expected an instant since 1970 in UTC like `2026-01-05T12:00:00Z`, or a day, got the string `soon`",
        ],
    );
    check_problems(
        "- clock: soon",
        &[
            "1:16: expected an instant like `2026-01-05T12:00:00Z`, or a duration like `5s`, got the string `soon`",
        ],
    );
    check_problems(
        "- clock: 1h\n- clock: 2026-01-05",
        &["2:16: the clock cannot go back: it shows 2026-01-05T01:00:00Z here"],
    );
    check_problems(
        "- expect: {minut: empty}",
        &["1:18: nothing is called `minut`; did you mean `minute`?"],
    );
    check_problems(
        "- expect: {minute: emty}",
        &["1:26: `emty` is nothing to expect; did you mean `empty`?"],
    );
    check_problems(
        "- expect: {minute: {}}",
        &["1:26: missing one of `equals`, `contains`, `count`"],
    );
    check_problems(
        "- expect: {counters: {lat: 1}}",
        &["1:29: nothing is counted as `lat`; did you mean `late`?"],
    );
    check_problems(
        "- expect: {minute: {equals: [a]}}",
        &["1:36: an expected row is a map of columns and values"],
    );
    check_problems(
        "- expect: {minute: {contains: [{wo: x}]}}",
        &["1:39: column `wo` not found in `minute`; did you mean `who`?"],
    );
    check_problems(
        "- expect: {out: {contains: [{m: 1}]}}",
        &[
            "1:36: column `m` not found in `out` (have: window_start, window_end, who, n, mean, price)",
        ],
    );
    let wrong = problems("- expect: {minute: {contains: [{n: many}]}}");
    assert_eq!(wrong.len(), 1);
    assert!(
        wrong[0].starts_with("1:39: `n` of `minute` is Int64, and not `\"many\"`: "),
        "{wrong:?}"
    );
}

#[track_caller]
fn check_problems(steps: &str, expected: &[&str]) {
    assert_eq!(problems(steps), expected);
}

#[test]
fn tests_of_one_file_have_different_names() {
    let file = format!("{FILE}  - {{name: t, steps: []}}\n  - {{name: t, steps: []}}\n");
    let Err(problems) = open(&file) else {
        panic!("it is taken for right");
    };
    assert!(problems.human().contains("another test is called `t`"));
}

#[test]
fn regression_a_failure_shows_two_different_sides() {
    let row = "{who: x, at: \"2026-01-05T12:00:00Z\"}";
    for (sent, expected, text) in [
        (
            1,
            2,
            "expected 2 rows {who: x, at: 2026-01-05T12:00:00Z}  got 1 row",
        ),
        (
            2,
            5,
            "expected 5 rows {who: x, at: 2026-01-05T12:00:00Z}  got 2 rows",
        ),
        (2, 1, "expected 1 row  got 2 rows, such as {"),
    ] {
        let of = |count| vec![row; count].join(", ");
        let (sent, expected) = (of(sent), of(expected));
        let steps = format!("- send: {{b: [{sent}]}}\n- expect: {{b: {{equals: [{expected}]}}}}");
        let pipeline = open(&test(&steps)).unwrap_or_else(|it| panic!("{}", it.human()));
        let report = human(&run(&pipeline, 1).unwrap());
        assert!(report.contains(text), "{report}");
        assert_eq!(report.matches("expected").count(), 1, "{report}");
    }
}

/// Texts that look like a null, a list, or another text are in quotes.
#[test]
fn regression_different_values_look_different() {
    let file = r#"name: p
sources:
  a:
    kafka: {brokers: "localhost:9092", topics: [a]}
    format: {json: {}}
    columns: {who: string?, all: list<string>?, at: timestamp(ms)}
    time: {event_time: at}
steps:
  b: {from: a}
sinks:
  out: {from: b, blackhole: {}}
tests:
  - name: t
    steps:
"#;
    for (sent, expected, shown) in [
        ("who: null", "who: 'null'", r#"{who: "null"}: {who: null}"#),
        ("who: null", "who: ''", r#"{who: ""}: {who: null}"#),
        ("who: x", "who: 'x '", r#"{who: "x "}: {who: x}"#),
        (
            "who: é",
            r#"who: "e\u0301""#,
            r#"{who: "e\u{301}"}: {who: é}"#,
        ),
        ("who: 'it''s'", "who: its", "{who: its}: {who: it's}"),
        (
            "all: [x, y]",
            "all: ['x, y']",
            r#"{all: ["x, y"]}: {all: [x, y]}"#,
        ),
        (
            "all: [null]",
            "all: ['null']",
            r#"{all: ["null"]}: {all: [null]}"#,
        ),
    ] {
        let steps = format!(
            "      - send: {{a: [{{{sent}, at: \"2026-01-05T00:00:00Z\"}}]}}\n      \
             - expect: {{b: {{contains: [{{{expected}}}]}}}}\n"
        );
        let pipeline = open(&format!("{file}{steps}"));
        let pipeline = pipeline.unwrap_or_else(|problems| panic!("{}", problems.human()));
        let results = run(&pipeline, 1).unwrap();
        let failures = results.iter().flat_map(|it| &it.failures);
        let failures: Vec<_> = failures
            .map(|it| format!("{}: {}", it.expected, it.got))
            .collect();
        assert_eq!(failures, [shown]);
    }
}

#[test]
fn a_report_has_a_line_a_test() {
    let file = format!(
        "{FILE}  - {{name: right, steps: [restart]}}\n  - {{name: wrong, steps: [restart, expect: {{a: {{count: 1}}}}]}}\n"
    );
    let Ok(pipeline) = open(&file) else {
        panic!("it is right");
    };
    let mut results = run(&pipeline, 1).unwrap();
    for result in &mut results {
        result.took = std::time::Duration::from_micros(1_600);
    }
    assert_eq!(
        human(&results),
        "\
ok    p  right   2 ms
FAIL  p  wrong   2 ms
      after restart  a  expected 1 row  got no row   (p.yaml:25)
1 passed, 1 failed
"
    );
    assert_eq!(
        github(&results),
        "::error file=p.yaml,line=25,col=56::wrong: after restart  a  expected 1 row  got no row\n"
    );
    let objects: serde_json::Value = serde_json::from_str(&json(&results)).unwrap();
    assert_eq!(objects[0]["passed"], true);
    assert_eq!(
        objects[1]["failures"][0],
        serde_json::json!({
            "line": 25, "column": 56, "after": "restart", "node": "a", "expected": "1 row",
            "got": "no row",
        })
    );
    assert_eq!(human(&[]), "no tests\n");
}
