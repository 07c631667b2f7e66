use std::sync::Arc;

use super::*;
use tagflow_pipelines::{LoadOptions, Pipeline};

const FILE: &str = r"name: p
sources:
  events:
    files: {url: /nowhere/*.ndjson}
    format: {json: {}}
    columns: {who: string, kind: string, n: int64, at: timestamp(ms)}
    time: {event_time: at}
steps:
  clicks: {from: events, where: kind = 'click; or not'}
queries:
  minute: SELECT tumble(at, INTERVAL '1 minute') AS w, sum(n) AS n FROM clicks GROUP BY 1
  hour: SELECT tumble(at, INTERVAL '1 hour') AS w, count(*) AS n FROM events GROUP BY 1
sinks:
  minutes: {from: minute, parquet: {url: /nowhere/minutes}}
  hours: {from: hour, parquet: {url: /nowhere/hours}}
";

fn version(text: &str) -> Version {
    let options = LoadOptions {
        set: Vec::new(),
        env: Arc::new(|_| None),
    };
    let pipeline = Pipeline::open_str("p.yaml", text, &options);
    Version::of(&pipeline.unwrap_or_else(|problems| panic!("{}", problems.human()))).unwrap()
}

/// The differences other than `kept` when `from` in the file becomes `to`, and the necessary
/// resets.
fn changed(from: &str, to: &str) -> (String, Vec<String>) {
    assert_eq!(FILE.matches(from).count(), 1, "{from}");
    let (old, new) = (version(FILE), version(&FILE.replace(from, to)));
    let mut differences = compare(&old, &new);
    differences.retain(|it| it.fate != Fate::Kept);
    (human(&differences), resets(&old, &new))
}

#[track_caller]
fn check(from: &str, to: &str, expected: &str, reset: &[&str]) {
    let (text, resets) = changed(from, to);
    assert_eq!(text, expected);
    assert_eq!(resets, reset);
}

#[test]
fn what_is_the_same_is_kept() {
    let file = version(FILE);
    assert_eq!(
        human(&compare(&file, &file)),
        "\
source  events        kept
step    clicks        kept
query   hour          kept
query   minute        kept
table   minutes       kept
table   hours         kept
table   dead_letters  kept
table   late          kept
"
    );
    assert_eq!(resets(&file, &file), [""; 0]);
}

/// Pairs of clicks and orders, and their table.
const JOINED: &str = r"name: p
sources:
  clicks:
    files: {url: /nowhere/*.ndjson}
    format: {json: {}}
    columns: {who: string, kind: string, n: int64, at: timestamp(ms)}
    time: {event_time: at}
  orders:
    files: {url: /nowhere/*.ndjson}
    format: {json: {}}
    columns: {who: string, price: int64, at: timestamp(ms)}
    time: {event_time: at}
tables:
  people: {url: /nowhere/p.ndjson, format: {json: {}}, columns: {who: string, city: string, age: int64}, key: [who]}
queries:
  won: >-
    SELECT tumble(o.at, INTERVAL '1 minute') AS w, count(*) AS n FROM clicks c
    JOIN orders o ON c.who = o.who AND o.at BETWEEN c.at AND c.at + INTERVAL '1 day' GROUP BY 1
  cities: >-
    SELECT tumble(at, INTERVAL '1 minute') AS w, city, count(*) AS n FROM clicks c
    JOIN people p ON c.who = p.who GROUP BY 1, 2
  pairs: >-
    SELECT c.who, c.kind FROM clicks c
    JOIN orders o ON c.who = o.who AND o.at BETWEEN c.at AND c.at + INTERVAL '1 day'
sinks:
  won_table: {from: won, parquet: {url: /nowhere/won}}
  cities_table: {from: cities, parquet: {url: /nowhere/cities}}
  pairs_table: {from: pairs, parquet: {url: /nowhere/pairs}}
";

#[test]
fn an_aggregate_that_reads_a_new_column_through_a_join_resets_nothing() {
    let file = JOINED
        .replace(
            "count(*) AS n FROM clicks c\n    JOIN orders",
            "count(*) AS n, sum(o.price) AS sold, max(c.kind) AS kind FROM clicks c\n    JOIN orders",
        )
        .replace("city, count(*) AS n", "city, count(*) AS n, max(age) AS age");
    let (old, new) = (version(JOINED), version(&file));
    let mut differences = compare(&old, &new);
    differences.retain(|it| it.fate != Fate::Kept && it.kind == Kind::Query);
    assert_eq!(
        human(&differences),
        "\
query   cities  changed
          ~ sql
          + max(age), starts from now
query   won     changed
          ~ sql
          + max(kind), starts from now
          + sum(price), starts from now
"
    );
    assert_eq!(resets(&old, &new), [""; 0]);
}

#[test]
fn pairs_with_a_column_more_begin_anew() {
    let file = JOINED.replace("c.who, c.kind FROM", "c.who, c.kind, o.price FROM");
    let (old, new) = (version(JOINED), version(&file));
    let mut differences = compare(&old, &new);
    differences.retain(|it| it.fate != Fate::Kept && it.kind == Kind::Query);
    assert_eq!(
        human(&differences),
        "\
query   pairs  reset    its state does not fit any more
          - read orders: who, at
          + read orders: who, price, at
"
    );
    assert_eq!(resets(&old, &new), ["pairs"]);
}

#[test]
fn an_added_query_never_resets_another() {
    // It reads more columns of the source and shares the steps of the others.
    let added = "queries:\n  people: SELECT tumble(at, INTERVAL '7 seconds') AS w, who, count(DISTINCT kind) AS kinds FROM clicks GROUP BY 1, 2\n  again: SELECT w, n FROM minute WHERE n > 1\n";
    let (text, reset) = changed("queries:\n", added);
    assert_eq!(
        text,
        "\
query   again   added    begins with the rows that come next
query   people  added    begins with the rows that come next
"
    );
    assert_eq!(reset, [""; 0]);
    // With sinks, so that they run.
    let text = FILE.replace("queries:\n", added).replace(
        "sinks:\n",
        "sinks:\n  x: {from: people, blackhole: {}}\n  y: {from: again, blackhole: {}}\n  z: {from: events, blackhole: {}}\n",
    );
    let (old, new) = (version(FILE), version(&text));
    assert_eq!(resets(&old, &new), [""; 0]);
    for (node, was) in &old.fingerprints {
        assert_eq!(new.fingerprints.get(node), Some(was), "{node}");
    }
    assert!(new.fingerprints.len() > old.fingerprints.len());
}

#[test]
fn a_changed_query_is_reset_alone() {
    check(
        "sum(n)",
        "max(n)",
        "\
query   minute  reset    its state does not fit any more
          - sum(n)
          + max(n), starts from now
",
        &["minute"],
    );
}

#[test]
fn a_changed_step_resets_the_queries_behind_it() {
    let (text, reset) = changed("'click; or not'", "'click; or'");
    assert!(
        text.starts_with(
            "step    clicks  changed\n          ~ where\n\
             query   minute  reset    its state does not fit any more\n          - "
        ),
        "{text}"
    );
    assert!(text.contains("'click; or not'"), "{text}");
    assert_eq!(reset, ["minute"]);
}

#[test]
fn names_of_results_change_the_table_and_not_the_state() {
    check(
        "count(*) AS n",
        "count(*) AS rows",
        "\
query   hour   changed
          ~ sql
table   hours  changed  from the next file on
          - n int64
          + rows int64
",
        &[],
    );
}

#[test]
fn what_is_gone_must_be_forgotten() {
    check(
        "  hour: SELECT tumble(at, INTERVAL '1 hour') AS w, count(*) AS n FROM events GROUP BY 1\nsinks:\n  minutes: {from: minute, parquet: {url: /nowhere/minutes}}\n  hours: {from: hour, parquet: {url: /nowhere/hours}}\n",
        "sinks:\n  minutes: {from: minute, parquet: {url: /nowhere/else}}\n",
        "\
query   hour     removed
table   minutes  changed  from the next file on
          - in /nowhere/minutes
          + in /nowhere/else
table   hours    removed  its files stay where they are
",
        &["hour"],
    );
    let (text, reset) = changed("  events:\n", "  more:\n    generator: {}\n  events:\n");
    assert_eq!(text, "source  more  added    is read from its start\n");
    assert_eq!(reset, [""; 0]);
    let renamed = FILE.replace("events", "rows");
    assert_eq!(
        resets(&version(FILE), &version(&renamed)),
        ["hour", "minute", "events"]
    );
}

#[test]
fn other_settings_of_a_source_keep_its_positions() {
    check(
        "time: {event_time: at}",
        "time: {event_time: at, delay: 1m}",
        "source  events  changed\n          ~ time\n",
        &[],
    );
}

const TAGS: &str = r"name: p
sources:
  events:
    files: {url: /nowhere/*.ndjson}
    format: {json: {}}
    columns: {who: string, team: string, kind: string, n: int64, at: timestamp(ms)}
    time: {event_time: at}
tags:
  from: events
  key: who
  define:
    clicks: {agg: count, where: kind = 'click', windows: [1d, 30d]}
    spend: {agg: sum, arg: n, windows: [30d]}
    last_at: {agg: last, arg: at}
segments:
  busy: {when: clicks_1d > 10}
  rich: {enter: spend_30d > 1000, exit: spend_30d < 800}
sinks:
  changes: {from: tags.changes, parquet: {url: /nowhere/changes}}
  members: {from: segments.changes, parquet: {url: /nowhere/members}}
";

#[test]
fn each_tag_is_kept_added_or_reset_by_itself() {
    let changed = |changes: &[(&str, &str)]| {
        let mut text = TAGS.to_owned();
        for (from, to) in changes {
            assert_eq!(text.matches(from).count(), 1, "{from}");
            text = text.replace(from, to);
        }
        let (old, new) = (version(TAGS), version(&text));
        let mut differences = compare(&old, &new);
        differences.retain(|it| [Kind::Tag, Kind::Segment].contains(&it.kind));
        (human(&differences), resets(&old, &new))
    };
    let (text, reset) = changed(&[
        (
            "kind = 'click', windows: [1d, 30d]",
            "\"'click' = kind\", windows: [1d, 7d]",
        ),
        ("arg: n, windows: [30d]", "arg: n, windows: [30d], tile: 1d"),
        (
            "last_at: {agg: last, arg: at}",
            "newest: {agg: last, arg: at}\n    n: {agg: max, arg: n}",
        ),
        ("exit: spend_30d < 800", "exit: spend_30d < 900"),
        (
            "  busy: {when: clicks_1d > 10}\n",
            "  idle: {when: clicks_1d = 0}\n",
        ),
    ]);
    insta::assert_snapshot!(text);
    assert_eq!(reset, [""; 0]);
    let (text, reset) = changed(&[("key: who", "key: team")]);
    insta::assert_snapshot!("another_key", text);
    assert_eq!(reset, ["tags"]);
}

#[test]
fn metrics_and_tables_are_told_too() {
    let head = FILE.split("queries:").next().unwrap();
    let file = |measure: &str, refresh: &str| {
        version(&format!(
            "{head}tables:
  people:
    url: /nowhere/people.csv
    format: {{csv: {{}}}}
    columns: {{who: string, age: int64}}
    key: [who]
    refresh: {refresh}
metrics:
  hourly:
    key: [who]
    window: {{tumble: 1h}}
    measures: {{rows: {{from: clicks, agg: {measure}}}}}
sinks:
  hours: {{from: hourly, parquet: {{url: /nowhere/hours}}}}
"
        ))
    };
    let (old, new) = (file("count", "1m"), file("sum, arg: n", "5m"));
    let mut differences = compare(&old, &new);
    differences.retain(|it| it.fate != Fate::Kept);
    assert_eq!(
        human(&differences),
        "\
lookup   people       changed  is read anew
          ~ refresh
metrics  hourly       reset    its state does not fit any more
measure  hourly.rows  reset    starts from now: open windows hold what came since
          - tumble 1h of event time by who: count(*) FILTER (WHERE measure where)
          - select at, who, true
          - read clicks: who, at
          - select who, at
          - read events: who, kind, at
          + tumble 1h of event time by who: sum(measure arg) FILTER (WHERE measure where)
          + select at, who, true, n
          + read clicks: who, n, at
          + select who, n, at
          + read events: who, kind, n, at
"
    );
    assert_eq!(resets(&old, &new), ["hourly"]);
}

#[test]
fn each_measure_is_kept_added_or_reset_by_itself() {
    let head = FILE.split("queries:").next().unwrap();
    let head = head.replace("  events:\n", "  more:\n    generator: {}\n  events:\n");
    let file = |window: &str, measures: &[&str]| {
        version(&format!(
            "{head}metrics:
  hourly:
    window: {{{window}}}
    measures:
      {}
sinks:
  hours: {{from: hourly, parquet: {{url: /nowhere/hours}}}}
",
            measures.join("\n      ")
        ))
    };
    let told = |old: &Version, new: &Version| {
        let mut differences = compare(old, new);
        differences.retain(|it| [Kind::Metrics, Kind::Measure].contains(&it.kind));
        (human(&differences), resets(old, new))
    };
    let old = file(
        "tumble: 1h",
        &[
            "rows: {from: clicks, agg: count}",
            "n: {from: clicks, agg: sum, arg: n, where: n > 1}",
            "who: {from: clicks, agg: distinct, arg: who}",
            "gone: {from: events, agg: count}",
        ],
    );
    let measures = [
        "people: {from: clicks, agg: distinct, arg: who}",
        "amount: {from: more, agg: sum, arg: amount}",
        "n: {from: clicks, agg: sum, arg: n, where: n > 2}",
        "rows: {from: clicks, agg: count}",
    ];
    let (text, reset) = told(&old, &file("tumble: 1h", &measures));
    insta::assert_snapshot!(text);
    assert_eq!(reset, [""; 0]);
    let (text, reset) = told(&old, &file("tumble: 2h", &measures));
    insta::assert_snapshot!("another_window", text);
    assert_eq!(reset, ["hourly"]);
}

#[test]
fn an_aggregate_more_resets_no_other() {
    check(
        "sum(n) AS n",
        "sum(n) AS n, max(who) AS last",
        "\
query   minute   changed
          ~ sql
          + max(who), starts from now
table   minutes  changed  from the next file on
          + last string
",
        &[],
    );
}

/// Without its state the sink would leave the replaced rows in its table.
#[test]
fn regression_a_changed_table_of_replaced_windows_is_reset_with_its_sources() {
    let query = "SELECT tumble(at, INTERVAL '1 hour') AS w, count(*) AS n FROM events GROUP BY 1";
    let corrected = format!("{{sql: \"{query}\", allowed_lateness: 1h}}");
    let replacing = FILE.replace(query, &corrected).replace(
        "url: /nowhere/hours}",
        "url: /nowhere/hours, mode: replace_windows}",
    );
    let new = version(&replacing);
    let reset = |names: &[&str]| {
        let names = names.iter().map(ToString::to_string);
        with_sources(names.collect(), &new)
    };
    assert_eq!(reset(&["hours"]), ["events"]);
    assert_eq!(reset(&["hour", "hours", "events"]), ["hour", "events"]);
    assert_eq!(reset(&["minutes"]), ["minutes"], "a table that only grows");
    assert!(new.reads("events") && !new.reads("hour"));
}
