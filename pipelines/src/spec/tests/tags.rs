//! The mistakes in tags, segments and scenes, word for word.

use std::fmt::Write as _;

use super::*;

const TAGS: &str = "\
name: demo
sources:
  events:
    kafka: {brokers: localhost:9092, topics: [t]}
    format: {json: {}}
    columns: {user_id: string, amount: int64, ts: timestamp(ms)}
    time: {event_time: ts}
tags:
  from: events
  key: user_id
  define:
    TAG
    orders: {agg: count, windows: [1d, 30d]}
    last_at: {agg: last, arg: ts}
sinks:
  out: {from: tags.changes, console: {}}
";

fn human(text: &str) -> String {
    let problems = parsed(text).diagnostics.human();
    let lines = problems.trim_end().rsplit_once('\n');
    let lines = lines.map_or("", |(lines, _)| lines);
    lines.replace("p.yaml:", "")
}

/// The problems of a file whose first tag is this.
fn tag(definition: &str) -> String {
    let text = TAGS.replace("TAG", definition);
    let mut lines = String::new();
    for problem in parsed(&text).diagnostics.iter() {
        let help = problem.help.as_ref();
        let help = help.map_or_else(String::new, |help| format!(" [{help}]"));
        writeln!(lines, "{}: {}{help}", problem.at, problem.message).unwrap();
    }
    lines
}

#[test]
fn aggregates() {
    let all = [
        "a: {agg: sum}",
        "a: {agg: mean, arg: amount}",
        "a: {agg: last_k, arg: amount}",
        "a: {agg: last_k, arg: amount, k: 0}",
        "a: {agg: count, k: 3, exact_up_to: 10}",
        "a: {agg: distinct, arg: amount, exact_up_to: 0}",
        "a: {agg: count, windows: []}",
        "a: {agg: count, windows: [0d, 1x]}",
        "a: {agg: count, windows: [24h, 1d, lifetime, lifetime]}",
        "a: {agg: count, windows: [5m]}",
        "a: {agg: count, windows: [1h], tile: 7m}",
        "a: {agg: count, windows: [1h], tile: 1h}",
        "a: {agg: count, windows: [1h], tile: 0s}",
        "a: {agg: count, windows: [1h], tile: 1m, exact: true}",
        "a: {agg: count, tile: 1m}",
        "a: {agg: count, windows: [lifetime], exact: true}",
        "a: {agg: count, ttl: 0s, wher: amount > 1}",
        "a: {agg: count, top_k: {}}",
        "a: {}",
        "a: 7",
    ];
    insta::assert_snapshot!(all.map(|it| format!("{it}\n{}", tag(it))).join("\n"));
}

#[test]
fn other_kinds() {
    let all = [
        "a: {time_since: last_at}",
        "a: {time_since: last_at, unit: w}",
        "a: {time_since: lst_at, unit: d}",
        "a: {time_since: orders, unit: d}",
        "a: {score: a, cuts: [1]}",
        "a: {score: orders_1d, cuts: []}",
        "a: {score: orders_1d, cuts: [1, 5, 5]}",
        "a: {score: orders_1d, cuts: ['1', x]}",
        "a: {score: orders_1d, quantiles: 5, cuts: [1]}",
        "a: {top_k: {arg: user_id, k: 0, half_life: 1d}}",
        "a: {top_k: {arg: user_id, k: 5, half_life: 0d}}",
        "a: {top_k: {arg: user_id, k: 5}, weights: {}}",
        "a: {top_k: {arg: user_id, k: 5, half_life: 1d}, weights: {view: 0, buy: -1, see: x}}",
        "a: {top_k: {arg: user_id, k: 5, half_life: 1d}, weigh_by: user_id}",
        "a: {funnel: {within: 1d, steps: {one: amount = 1}}}",
        "a: {funnel: {within: 0s, mode: strict, steps: {one: amount = 1, two: }}}",
        "a: {absence: {after: amount = 1, within: 30m, again: never}}",
    ];
    insta::assert_snapshot!(all.map(|it| format!("{it}\n{}", tag(it))).join("\n"));
}

#[test]
fn names() {
    let all = [
        "Orders: {agg: count}",
        "user_id: {agg: count}",
        "as_of: {agg: count}",
        "segments: {agg: count}",
        "orders_1d: {agg: count}",
    ];
    insta::assert_snapshot!(all.map(|it| format!("{it}\n{}", tag(it))).join("\n"));
}

#[test]
fn blocks() {
    let tag = "a: {agg: count}";
    let text = TAGS.replace("TAG", tag);
    assert_eq!(human(&text), "");
    let changed = |from: &str, to: &str| {
        assert_eq!(text.matches(from).count(), 1, "{from}");
        let text = text.replace(from, to);
        let problems = parsed(&text).diagnostics.human();
        format!("{to}\n{problems}")
    };
    let all = [
        changed("  from: events\n", ""),
        changed("  from: events\n", "  from: event\n"),
        changed("  from: events\n", "  from: tags.changes\n"),
        changed("tags.changes", "tags"),
        changed("tags.changes", "tags.change"),
        changed("tags.changes", "segments.changes"),
        changed(
            "sinks:",
            "segments: {a: {exit: a > 1}, b: {enter: a > 1, when: a > 2}, c: {when: a > 1, exit: a < 1}}\nsinks:",
        ),
        changed(
            "sinks:",
            "segments: {Big: {when: a > 1}}\nscenes: {home: {tags: [orders, a, b], segments: [Big, big, small]}}\nsinks:",
        ),
        changed("sinks:", "steps: {tags: {from: events}}\nsinks:"),
        changed(
            "console: {}",
            "parquet: {url: ./x, mode: snapshot, every: 1h}",
        ),
        changed(
            "{from: tags.changes, console: {}}",
            "{from: tags.current, parquet: {url: ./x, every: 90m, buckets: 4}}\n  \
             b: {from: tags.current, parquet: {url: ./y, mode: snapshot, every: 7m, buckets: 0, partition_by: {a: a}}}\n  \
             c: {from: tags.current, parquet: {url: ./z, every: 1h}}",
        ),
        changed(
            "{from: tags.changes, console: {}}",
            "{from: tags.current, parquet: {url: ./x, every: 0s}}",
        ),
    ];
    insta::assert_snapshot!(all.join("\n"));
    let without = MINIMAL.replace("sinks:", "segments: {a: {when: b > 1}}\nsinks:");
    assert_eq!(
        human(&without),
        "8:12  error  `segments` go by tags, and there are none\n                    help: add a block `tags`"
    );
}
