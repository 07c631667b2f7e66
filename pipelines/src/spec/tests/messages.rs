//! Each mistake that a file can have, word for word.

use super::*;

/// The rendered lines, without the count.
fn human(text: &str) -> String {
    let problems = parsed(text).diagnostics;
    let lines = problems.human();
    let lines = lines.trim_end().rsplit_once('\n').map(|(lines, _)| lines);
    lines.unwrap_or_default().to_owned()
}

#[track_caller]
fn check(text: &str, expected: &str) {
    assert_eq!(human(text), expected, "in\n{text}");
}

#[test]
fn the_minimal_file_is_right() {
    assert_eq!(human(MINIMAL), "");
    spec(MINIMAL);
}

#[test]
fn unknown_keys() {
    let step = "steps:\n  clean:\n    from: events\n    wher: user_id is not null\nsinks:";
    check(
        &with("sinks:", step),
        "p.yaml:11:5  error  unknown key `wher` in `clean`; did you mean `where`?",
    );
    check(
        &with("name: demo", "nmae: demo"),
        "p.yaml:1:1  error  missing key `name`\n\
         p.yaml:1:1  error  unknown key `nmae`; did you mean `name`?",
    );
    check(
        &with("event_time: ts}", "event_time: ts, watermark: 5s}"),
        "p.yaml:7:28  error  unknown key `watermark` in `events.time` (have: event_time, delay, \
         idle_after, when_idle, max_future, earliest, max_drift)",
    );
    check(
        &with("console: {}", "console: {color: red}"),
        "p.yaml:9:33  error  unknown key `color` in `out.console`",
    );
}

#[test]
fn duplicate_keys() {
    check(
        &with(
            "    format: {json: {}}\n",
            "    format: {json: {}}\n    format: {csv: {}}\n",
        ),
        "p.yaml:6:5  error  duplicate key `format`; it is already at 5:5",
    );
}

#[test]
fn wrong_types() {
    let time = |fields: &str| with("{event_time: ts}", &format!("{{event_time: ts, {fields}}}"));
    check(
        &time("delay: [5s]"),
        "p.yaml:7:35  error  expected a duration like `5s`, got a list",
    );
    check(
        &time("delay: 5"),
        "p.yaml:7:35  error  expected a duration like `5s`, got the number `5`\n\
         \x20                   help: add a unit (ms, s, m, h, d): `5s`",
    );
    check(
        &time("delay: soon"),
        "p.yaml:7:35  error  expected a duration like `5s`, got the string `soon`",
    );
    check(
        &with("format: {json: {}}", "format: json"),
        "p.yaml:5:13  error  expected a map, got the string `json`\n\
         \x20                   help: write `{json: {}}`",
    );
    check(
        &with("format: {json: {}}", "format: {csv: {header: yes}}").replace(
            "kafka: {brokers: localhost:9092, topics: [t]}",
            "files: {url: ./a.csv}",
        ),
        "p.yaml:5:28  error  expected `true` or `false`, got the string `yes`\n\
         \x20                   help: write `true`",
    );
    check(
        &with("name: demo", "name: 5"),
        "p.yaml:1:7  error  expected a string, got the number `5`\n\
         \x20                  help: put it in quotes: `\"5\"`",
    );
    check(
        &with("sinks:\n", "parallelism: \"4\"\nsinks:\n"),
        "p.yaml:8:14  error  expected a whole number, 0 or more, got the string `4`\n\
         \x20                   help: take the quotes off",
    );
    check(
        &with("topics: [t]", "topics: t"),
        "p.yaml:4:46  error  expected a list, got the string `t`",
    );
    check(
        &with("topics: [t]", "topics: [t], start: erliest"),
        "p.yaml:4:58  error  unknown value `erliest`; did you mean `earliest`?",
    );
    check(
        &with("sinks:\n", "sources2: []\nsinks:\n"),
        "p.yaml:8:1  error  unknown key `sources2`; did you mean `sources`?",
    );
    check("- a\n", "p.yaml:1:1  error  expected a map, got a list");
}

#[test]
fn missing_keys() {
    check(
        &with("topics: [t]", "group_id: g"),
        "p.yaml:4:12  error  missing key `topics` in `events.kafka`",
    );
    check(
        &with(", console: {}", ""),
        "p.yaml:9:8  error  missing one of `parquet`, `console`, `blackhole` in `out`",
    );
    check(
        &with("console: {}", "console: {}, blackhole: {}"),
        "p.yaml:9:36  error  only one of `parquet`, `console`, `blackhole` can stand in `out`",
    );
    check(
        "name: demo\n",
        "p.yaml:1:1  error  missing key `sources`\np.yaml:1:1  error  missing key `sinks`",
    );
    check(
        &with("\n  out: {from: events, console: {}}", " {}"),
        "p.yaml:1:1  error  `sinks` is empty; a pipeline needs at least one",
    );
}

#[test]
fn missing_variables() {
    check(
        &with("localhost:9092", "\"${env:BROKERS}\""),
        "p.yaml:4:23  error  environment variable `BROKERS` is not set\n\
         \x20                   help: set it, or give a default: `${env:BROKERS:-default}`",
    );
    check(
        &with("localhost:9092", "\"a ${params.x}\""),
        "p.yaml:4:25  error  unknown param `x`\n\
         \x20                   help: declare it: `params: {x: …}`",
    );
}

#[test]
fn column_types() {
    check(
        &with("user_id: string", "user_id: strng"),
        "p.yaml:6:24  error  unknown type `strng`; one of string, int64, float64, bool, \
         decimal(p,s), timestamp(s|ms|us|ns|rfc3339), date, json, list<T>\n\
         \x20                   help: did you mean `string`?",
    );
    check(
        &with("user_id: string", "user_id: timestamp?"),
        "p.yaml:6:24  error  `timestamp` needs its unit: `timestamp(ms)`; one of s, ms, us, ns, \
         rfc3339",
    );
    let problems = human(&with("user_id: string", "user_id: bigint"));
    assert!(
        problems.ends_with("help: did you mean `int64`?"),
        "{problems}"
    );
}

#[test]
fn tests_that_cannot_be_read() {
    check(
        &with("sinks:\n", "tests:\n  - {name: t, stpes: []}\nsinks:\n"),
        "p.yaml:9:5   error  missing key `steps`\n\
         p.yaml:9:15  error  unknown key `stpes`; did you mean `steps`?",
    );
}

#[test]
fn blocks_of_later_versions() {
    check(
        &with("sinks:\n", "serve: {a: {}}\nchecks: []\nsinks:\n"),
        "p.yaml:8:1  error  `serve` is not available in this version yet\n\
         p.yaml:9:1  error  `checks` is not available in this version yet",
    );
}

#[test]
fn metrics() {
    let block = |text: &str| with("sinks:\n", &format!("metrics:\n  m: {text}\nsinks:\n"));
    let measure = |text: &str| {
        block(&format!(
            "{{window: {{tumble: 1h}}, measures: {{a: {{from: events, {text}}}}}}}"
        ))
    };
    check(
        &block("{windw: {tumble: 1h}, measures: {}}"),
        "p.yaml:9:6  error  missing key `window` in `m`\n\
         p.yaml:9:6  error  `measures` needs at least one in `m`\n\
         p.yaml:9:7  error  unknown key `windw` in `m`; did you mean `window`?",
    );
    check(
        &block("{window: {tumble: 1h, hop: 2h}, measures: {a: {from: events, agg: count}}}"),
        "p.yaml:9:28  error  only one of `tumble`, `hop`, `cumulate` can stand in `m.window`",
    );
    check(
        &block("{window: {tumble: daily}, measures: {a: {from: events, agg: count}}}"),
        "p.yaml:9:24  error  expected a duration like `1h`, or `day`, `week` or `month`, got the \
         string `daily`",
    );
    check(
        &block("{window: {hop: 1h, every: 0s}, measures: {a: {from: events, agg: count}}}"),
        "p.yaml:9:32  error  `every` must be more than zero",
    );
    check(
        &measure("agg: cuont"),
        "p.yaml:9:63  error  unknown value `cuont`; did you mean `count`?",
    );
    check(
        &measure("agg: sum"),
        "p.yaml:9:63  error  missing key `arg`: what is aggregated in `m.measures.a`",
    );
    check(
        &measure("agg: count, sketch: {theta: }"),
        "p.yaml:9:43  error  `sketch` is for `agg: distinct` only in `m.measures.a`",
    );
    check(
        &measure("agg: distinct, arg: user_id, sketch: {theta: {lg_k: 4}}"),
        "p.yaml:9:110  error  `lg_k` is from 5 to 26, got 4",
    );
    check(
        &measure("agg: distinct, arg: user_id, keep_sketch: true"),
        "p.yaml:9:100  error  `keep_sketch` needs a `sketch`: write `sketch: {theta: {}}` in \
         `m.measures.a`",
    );
    check(
        &measure("agg: per_user_histogram, arg: user_id"),
        "p.yaml:9:63  error  missing key `bounds`: where the buckets begin, such as `[1, 2, 3, 5, \
         10]` in `m.measures.a`",
    );
    check(
        &measure("agg: per_user_histogram, arg: user_id, bounds: [1, 3, 3]"),
        "p.yaml:9:112  error  `bounds` go up, from 1 or more in `m.measures.a`",
    );
    check(
        &measure("agg: count}, a_sketch: {from: evnts, agg: count").replace(
            "agg: count}, a_s",
            "agg: distinct, arg: user_id, sketch: {theta: }, keep_sketch: true}, a_s",
        ),
        "p.yaml:9:126  error  two columns of `m` are named `a_sketch`\n\
         p.yaml:9:143  error  nothing is called `evnts`; did you mean `events`? (have: events, m)",
    );
}

#[test]
fn parts_of_steps() {
    let step = |text: &str| {
        with(
            "sinks:",
            &format!("steps:\n  s: {{from: events, {text}}}\nsinks:"),
        )
    };
    check(
        &step("dedupe: {key: [], within: 0s}"),
        "p.yaml:9:29  error  `key` needs at least one column in `s.dedupe`\n\
         p.yaml:9:47  error  `within` must be more than zero",
    );
    check(
        &step("flag_bots: {as: x}"),
        "p.yaml:9:32  error  `flag_bots` needs `user_agent`, `rate` or both",
    );
    check(
        &step("flag_bots: {rate: {key: [user_id], over: 1m, more_than: 0}}"),
        "p.yaml:9:77  error  `more_than` is at least 1",
    );
    check(
        &step("sessions: {key: [user_id]}"),
        "p.yaml:9:31  error  missing key `gap` in `s.sessions`",
    );
}

const SEVERAL: &str = "\
name: Demo
sources:
  events:
    kafka: {brokers: \"${env:BROKERS}\", topics: [t]}
    format: {json: {}}
    columns: {user_id: strng, ts: timestamp(ms)}
    time: {event_time: ts, dely: 5s}
steps:
  clean: {from: events, wher: \"true\"}
sinks:
  out: {from: claen, console: {}}
  out: {from: events, console: {}}
";

#[test]
fn all_problems_at_once_for_a_person() {
    assert_eq!(
        parsed(SEVERAL).diagnostics.human(),
        "\
p.yaml:1:7    error  `Demo` is not a name: lower-case letters, digits, `_` and `-`, a letter or \
         digit first, at most 63
p.yaml:4:23   error  environment variable `BROKERS` is not set
                     help: set it, or give a default: `${env:BROKERS:-default}`
p.yaml:6:24   error  unknown type `strng`; one of string, int64, float64, bool, decimal(p,s), \
         timestamp(s|ms|us|ns|rfc3339), date, json, list<T>
                     help: did you mean `string`?
p.yaml:7:28   error  unknown key `dely` in `events.time`; did you mean `delay`?
p.yaml:9:25   error  unknown key `wher` in `clean`; did you mean `where`?
p.yaml:11:15  error  nothing is called `claen`; did you mean `clean`? (have: events, clean)
p.yaml:12:3   error  duplicate key `out`; it is already at 11:3
7 errors
"
    );
}

#[test]
fn all_problems_at_once_for_a_program() {
    let json = parsed(SEVERAL).diagnostics.json();
    let objects: Vec<serde_json::Value> = serde_json::from_str(&json).unwrap();
    let paths: Vec<_> = objects
        .iter()
        .map(|it| it["path"].as_str().unwrap())
        .collect();
    assert_eq!(
        paths,
        [
            "name",
            "sources.events.kafka.brokers",
            "sources.events.columns.user_id",
            "sources.events.time",
            "steps.clean",
            "sinks.out.from",
            "",
        ]
    );
    assert_eq!(
        objects[3],
        serde_json::json!({
            "file": "p.yaml", "line": 7, "column": 28, "severity": "error",
            "path": "sources.events.time", "help": null,
            "message": "unknown key `dely` in `events.time`; did you mean `delay`?",
        })
    );
}

#[test]
fn all_problems_at_once_for_github() {
    let github = parsed(SEVERAL).diagnostics.github();
    let lines: Vec<_> = github.lines().collect();
    assert_eq!(lines.len(), 7);
    assert_eq!(
        lines[1],
        "::error file=p.yaml,line=4,col=23::environment variable `BROKERS` is not set\
         %0Ahelp: set it, or give a default: `${env:BROKERS:-default}`"
    );
    assert_eq!(
        lines[5],
        "::error file=p.yaml,line=11,col=15::nothing is called `claen`; did you mean `clean`? \
         (have: events, clean)"
    );
}

#[test]
fn a_node_in_error_hides_nothing_and_blames_nobody() {
    // `events` is unreadable, and its consumer is still valid.
    let text = with("event_time: ts", "event_time: [ts]");
    check(&text, "p.yaml:7:24  error  expected a string, got a list");
    let parsed = parsed(&text);
    let spec = parsed.spec.unwrap();
    assert!(spec.is_unreadable("events"));
    assert!(!spec.is_unreadable("other"));
    // No name of an unreadable block is known.
    check(
        &with("sinks:\n", "steps: []\nsinks:\n").replace("from: events", "from: clean"),
        "p.yaml:8:8  error  expected a map of names, got a list",
    );
}

#[test]
fn what_comes_from_elsewhere_is_not_shown_in_a_message() {
    let text = with("name: demo", "name: demo\nparallelism: ${env:LANES}");
    let problems = parse_str("p.yaml", &text, &options(&[("LANES", "hunter2")])).diagnostics;
    assert_eq!(
        problems.human(),
        "p.yaml:2:14  error  the value of `${env:LANES}` is not a whole number, 0 or more\n1 error\n"
    );
}
