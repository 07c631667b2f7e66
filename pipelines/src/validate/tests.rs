use crate::{LoadOptions, parse_str};

fn pipeline(body: &str) -> String {
    format!(
        "\
name: demo
sources:
  events: {{generator: }}
{body}"
    )
}

/// The problems, without the file's name.
fn problems(text: &str) -> Vec<String> {
    let options = LoadOptions {
        env: std::sync::Arc::new(|_| None),
        ..LoadOptions::default()
    };
    let found = parse_str("p.yaml", text, &options).diagnostics;
    let line = |item: &crate::Diagnostic| format!("{} {}", item.at, item.message);
    found.iter().map(line).collect()
}

#[track_caller]
fn check(body: &str, expected: &[&str]) {
    let text = pipeline(body);
    assert_eq!(problems(&text), expected, "in\n{text}");
}

#[test]
fn names() {
    for (name, is_right) in [
        ("a", true),
        ("0-a_b", true),
        (&"a".repeat(63), true),
        (&"a".repeat(64), false),
        ("_a", false),
        ("-a", false),
        ("A", false),
        ("a.b", false),
        ("a b", false),
        ("é", false),
        ("\"\"", false),
    ] {
        let found = problems(&pipeline(&format!(
            "sinks: {{{name}: {{from: events, console: }}}}\n"
        )));
        assert_eq!(found.is_empty(), is_right, "{name}: {found:?}");
    }
}

#[test]
fn references() {
    check(
        "sinks: {o: {from: evnts, console: }}\n",
        &["4:19 nothing is called `evnts`; did you mean `events`? (have: events)"],
    );
    check(
        "sinks: {o: {from: o, console: }}\n",
        &["4:19 `o` is a sink; rows come from (have: events)"],
    );
    check(
        "steps: {s: {from: nowhere}}\nsinks: {o: {from: s, console: }}\n",
        &["4:19 nothing is called `nowhere` (have: events, s)"],
    );
}

#[test]
fn names_are_shared() {
    check(
        "steps: {events: {from: events}}\nsinks: {events: {from: events, console: }}\n",
        &[
            "4:9 the name `events` is taken, at 3:3; sources, tables, steps, queries and metrics share their names",
        ],
    );
}

#[test]
fn circles() {
    check(
        "steps: {a: {from: b}, b: {from: c}, c: {from: a}, d: {from: a}}\n\
         sinks: {o: {from: d, console: }}\n",
        &["4:19 steps in a circle: `a` from `b` from `c` from `a`"],
    );
    check(
        "steps: {a: {from: a}}\nsinks: {o: {from: a, console: }}\n",
        &["4:19 steps in a circle: `a` from `a`"],
    );
    check(
        "steps: {a: {from: events}, b: {from: a}}\nsinks: {o: {from: b, console: }}\n",
        &[],
    );
}

#[test]
fn event_times() {
    let source = |columns: &str, event_time: &str| {
        format!(
            "\
name: demo
sources:
  e:
    files: {{url: a.ndjson}}
    format: {{json: }}
    columns: {{{columns}}}
    time: {{event_time: {event_time}}}
sinks: {{o: {{from: e, console: }}}}
"
        )
    };
    for (columns, event_time, expected) in [
        ("a: string, ts: timestamp(s)", "ts", None),
        (
            "a: string, ts: timestamp(s)",
            "st",
            Some("7:24 column `st` not found in `e`; did you mean `ts`?"),
        ),
        (
            "a: string, ts: timestamp(s)",
            "happened_at",
            Some("7:24 column `happened_at` not found in `e` (have: a, ts)"),
        ),
        (
            "ts: int64",
            "ts",
            Some("7:24 event time `ts` is of type `int64`"),
        ),
        (
            "ts: timestamp(s)?",
            "ts",
            Some("7:24 event time `ts` cannot be nullable"),
        ),
    ] {
        let found = problems(&source(columns, event_time));
        assert_eq!(found, Vec::from_iter(expected), "{columns}");
    }
}

#[test]
fn formats() {
    let kafka = "\
name: demo
sources:
  e:
    kafka: {brokers: a, topics: [t]}
    format: {csv: {delimiter: ab}}
    columns: {ts: timestamp(s)}
    time: {event_time: ts}
sinks: {o: {from: e, console: }}
";
    assert_eq!(
        problems(kafka),
        [
            "3:3 the format `csv` is for `files` only",
            "5:31 a delimiter is one ASCII character, and neither a quote nor a line break",
        ]
    );
}

#[test]
fn tables() {
    let sinks = |a: &str, b: &str| {
        format!(
            "sinks:\n  a: {{from: events, parquet: {{url: \"{a}\"}}}}\n  \
             b: {{from: events, parquet: {{url: \"{b}\"}}}}\ncheckpoint: {{url: s3://state}}\n"
        )
    };
    check(&sinks("./lake/a", "./lake/ab"), &[]);
    check(
        &sinks("./lake/a", "lake/a/"),
        &["6:36 `lake/a/` is the table of `sinks.a.parquet.url` already"],
    );
    check(
        &sinks("s3://b/a", "s3://b/a/x"),
        &["6:36 the table `s3://b/a/x` and that of `sinks.a.parquet.url` lie one inside the other"],
    );
    check(
        &sinks("s3://key:secret@b/a", ""),
        &[
            "5:36 a URL cannot hold credentials; they come from the environment",
            "6:36 the URL is empty",
        ],
    );
    let errors = "errors: {late: {url: ./x}, dead_letters: {url: ./x}}\n";
    check(
        &format!("{errors}sinks: {{o: {{from: events, console: }}}}\n"),
        &["4:22 `./x` is the table of `errors.dead_letters.url` already"],
    );
}

#[test]
fn limits() {
    let sink = "sinks: {o: {from: events, console: }}\n";
    check(
        &format!("{sink}parallelism: 257\n"),
        &["5:14 `parallelism` is from 1 to 256, got 257"],
    );
    check(
        &format!("{sink}memory: {{limit: 127MiB}}\n"),
        &["5:17 Tagflow needs at least 128MiB of memory"],
    );
    check(
        &format!("{sink}checkpoint: {{every: 99ms}}\n"),
        &["5:21 a checkpoint cannot be more often than every 100ms"],
    );
    check(
        &format!("{sink}admin: {{listen: \"0.0.0.0:80\"}}\n"),
        &["5:17 other machines can reach the admin server, and it asks nobody who they are"],
    );
    let deliver = "name: demo\nsources: {e: {generator: {}}}\n\
                   sinks: {o: {from: e, console: , deliver: {max_pending_commits: 0}}}\n";
    assert_eq!(
        problems(deliver),
        [
            "3:64 this sink delivers nothing, so it has no `deliver`",
            "3:64 must be at least 1",
        ]
    );
    let generator = "name: demo\nsources: {e: {generator: {users: 0, late: 0.6, broken: 0.6}}}\n\
                     sinks: {o: {from: e, console: }}\n";
    assert_eq!(
        problems(generator),
        [
            "2:34 must be at least 1",
            "2:56 `late`, `duplicates` and `broken` are more than all rows together",
        ]
    );
}

#[test]
fn regression_only_the_documented_units_make_a_duration() {
    for (written, message) in [
        ("1M", "expected a duration like `5s`, got the string `1M`"),
        (
            "1 month",
            "expected a duration like `5s`, got the string `1 month`",
        ),
        ("2w", "expected a duration like `5s`, got the string `2w`"),
        ("5us", "expected a duration like `5s`, got the string `5us`"),
        (
            "1h30",
            "expected a duration like `5s`, got the string `1h30`",
        ),
        ("-1s", "expected a duration like `5s`, got the string `-1s`"),
        ("\"\"", "expected a duration like `5s`, got the string ``"),
        (
            "999999999999d",
            "expected a duration like `5s`, got the string `999999999999d`",
        ),
    ] {
        let text = pipeline(&format!(
            "checkpoint: {{every: {written}}}\nsinks: {{o: {{from: events, console: }}}}\n"
        ));
        assert_eq!(problems(&text), [format!("4:21 {message}")], "{written}");
    }
    for written in ["500ms", "1h 30m", "1h30m", "36525d", "5 s"] {
        let text = pipeline(&format!(
            "checkpoint: {{every: {written}}}\nsinks: {{o: {{from: events, console: }}}}\n"
        ));
        assert_eq!(problems(&text), [""; 0], "{written}");
    }
}

#[test]
fn regression_a_dot_in_a_json_field_is_no_path() {
    let text = "\
name: demo
sources:
  e:
    files: {url: a.ndjson}
    format: {json: }
    columns: {id: string, \"properties.plan\": string?, ts: timestamp(ms)}
    time: {event_time: ts}
sinks: {o: {from: e, console: }}
";
    assert_eq!(
        problems(text),
        [
            "6:27 `properties.plan` is a field of just this name: a field within `properties` is \
             not read by it"
        ]
    );
    assert_eq!(problems(&text.replace("json", "parquet")), [""; 0]);
}

#[test]
fn time_zones() {
    let text = |zone: &str| {
        format!(
            "\
name: demo
sources:
  e:
    files: {{url: a.ndjson}}
    format: {{json: {{assume_timezone: {zone}}}}}
    columns: {{ts: timestamp(rfc3339)}}
    time: {{event_time: ts}}
sinks: {{o: {{from: e, console: }}}}
"
        )
    };
    assert_eq!(problems(&text("Asia/Shanghai")), [""; 0]);
    assert_eq!(
        problems(&text("Asia/Shangai")),
        ["5:38 there is no time zone `Asia/Shangai`; did you mean `Asia/Shanghai`?"]
    );
}
