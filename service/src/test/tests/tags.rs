//! Tags and segments in tests: whole pipelines, from rows to profiles.

use super::*;

const TAGS: &str = r#"name: p
sources:
  events:
    kafka: {brokers: "localhost:9092", topics: [a]}
    format: {json: {}}
    columns: {event_id: string, user_id: string?, event_type: string, amount: "decimal(10,2)?", at: timestamp(rfc3339)}
    time: {event_time: at, delay: 5s}
tags:
  from: events
  key: user_id
  allowed_lateness: 1d
  define:
    orders: {agg: count, where: event_type = 'buy', windows: [1d, lifetime]}
    spend: {agg: sum, arg: amount, where: event_type = 'buy', windows: [1d]}
    kinds: {agg: last_k, k: 3, arg: event_type}
    last_at: {agg: last, arg: at}
    hours: {time_since: last_at, unit: h}
    freshness: {score: hours, cuts: [1, 12], reversed: true}
    stage: {funnel: {within: 1d, steps: {cart: event_type = 'cart', paid: event_type = 'buy'}}}
    abandoned: {absence: {after: event_type = 'cart', expect: event_type = 'buy', within: 30m}}
segments:
  rich: {enter: spend_1d >= 100, exit: spend_1d < 50}
  idle: {when: hours >= 30}
sinks:
  changes: {from: tags.changes, blackhole: {}}
  profile: {from: tags.current, blackhole: {}}
tests:
"#;

#[track_caller]
fn check(steps: &str, expected: &[&str]) {
    check_in(TAGS, steps, expected);
}

#[track_caller]
fn check_in(file: &str, steps: &str, expected: &[&str]) {
    let mut text = format!("{file}  - name: t\n    steps:\n");
    for step in steps.lines() {
        let _ = writeln!(text, "      {step}");
    }
    for lanes in [1, 4] {
        let pipeline = open(&text).unwrap_or_else(|problems| panic!("{}", problems.human()));
        let results = run(&pipeline, lanes).unwrap();
        let failures = results.iter().flat_map(|result| &result.failures);
        let failures: Vec<String> = failures
            .map(|it| format!("{}: {}: {}", it.node, it.expected, it.got))
            .collect();
        assert_eq!(failures, expected, "on {lanes} lanes");
    }
}

const EVENTS: &str = r#"- send:
    events:
      - {event_id: a, user_id: u1, event_type: cart, at: "2026-01-05T12:00:00Z"}
      - {event_id: b, user_id: u1, event_type: buy, amount: 70, at: "2026-01-05T12:10:00Z"}
      - {event_id: c, user_id: u2, event_type: cart, at: "2026-01-05T12:20:00Z"}
      - {event_id: d, user_id: u1, event_type: buy, amount: 40.5, at: "2026-01-05T13:00:00Z"}
      - {event_id: e, user_id: "", event_type: buy, at: "2026-01-05T13:00:00Z"}
      - {event_id: f, event_type: buy, at: "2026-01-05T13:00:00Z"}
"#;

#[test]
fn values_fall_and_waits_end_with_no_event() {
    check(
        &format!(
            r#"{EVENTS}- watermark: "2026-01-05T13:00:01Z"
- expect:
    tags:
      u1: {{orders_1d: 2, orders_lifetime: 2, spend_1d: 110.50, kinds: [buy, buy, cart], stage: paid, abandoned: false}}
      u2: {{orders_1d: 0, spend_1d: 0, stage: cart, abandoned: true, last_at: "2026-01-05T12:20:00Z"}}
    segments: {{rich: [u1], idle: []}}
    dead_letters: {{contains: [{{reason: empty_key, field: user_id, offset: 4}}], count: 1}}
    counters: {{in: 6, dead_letter: 1, filtered: 1, late: 0}}
- restart
- watermark: "2026-01-06T13:00:01Z"
- expect:
    tags: {{u1: {{orders_1d: 1, orders_lifetime: 2, spend_1d: 40.5}}}}
    segments: {{rich: []}}
    tags.changes: {{contains: [{{user_id: u1, tag: orders_1d, old: "2", new: "1", cause: expiry}}]}}
- watermark: "2026-01-07T00:00:00Z"
- expect:
    tags: {{u1: {{orders_1d: 0, orders_lifetime: 2, spend_1d: 0, stage: null}}}}
    segments: {{idle: [u1, u2]}}"#
        ),
        &[],
    );
}

#[test]
fn scores_by_quantiles_go_by_all_keys_as_of_midnight() {
    let worth =
        "    worth: {score: spend_1d, quantiles: 2}\nsegments:\n  best: {when: worth = 2}\n";
    check_in(
        &TAGS.replace("segments:\n", worth),
        &format!(
            r#"{EVENTS}- watermark: "2026-01-05T23:59:59Z"
- expect:
    tags: {{u1: {{worth: null, freshness: 2}}, u2: {{worth: null, freshness: 2}}}}
    segments: {{best: []}}
- watermark: "2026-01-06T02:00:00Z"
- expect:
    tags: {{u1: {{worth: 2, freshness: 1}}, u2: {{worth: 1}}}}
    segments: {{best: [u1]}}
    tags.changes:
      contains:
        - {{user_id: u1, tag: worth, old: null, new: "2", cause: quantiles, event_time: null, effective_at: "2026-01-06T00:00:00Z"}}
- restart
- send:
    events:
      - {{event_id: i, user_id: u3, event_type: buy, amount: 50, at: "2026-01-06T10:00:00Z"}}
- watermark: "2026-01-06T13:00:01Z"
- expect:
    tags: {{u1: {{spend_1d: 40.5, worth: 1}}, u3: {{worth: 1}}}}
    segments: {{best: []}}
- watermark: "2026-01-07T00:00:01Z"
- expect:
    tags: {{u1: {{worth: 1}}, u2: {{worth: 1}}, u3: {{worth: 2}}}}
    segments: {{best: [u3]}}"#
        ),
        &[],
    );
}

#[test]
fn with_an_idle_source_values_fall_by_the_clock() {
    let file = TAGS.replace("delay: 5s", "delay: 5s, idle_after: 60s, when_idle: clock");
    assert_ne!(file, TAGS);
    check_in(
        &file,
        &format!(
            r#"- clock: "2026-01-05T13:00:05Z"
{EVENTS}- expect: {{tags: {{u2: {{stage: cart, abandoned: true}}}}, segments: {{rich: []}}}}
- clock: "2026-01-05T14:00:00Z"
- expect: {{tags: {{u1: {{orders_1d: 2}}}}, segments: {{rich: [u1]}}}}
- restart
- clock: "2026-01-06T13:00:05Z"
- expect: {{tags: {{u1: {{orders_1d: 1}}}}, segments: {{rich: []}}}}
- send:
    events:
      - {{event_id: g, user_id: u2, event_type: buy, amount: 1, at: "2026-01-05T12:30:00Z"}}
- expect:
    late: {{contains: [{{query: tags, reason: behind_watermark}}], count: 1}}
    counters: {{late: 1}}"#
        ),
        &[],
    );
}

#[test]
fn a_late_event_takes_a_firing_back() {
    check(
        &format!(
            r#"{EVENTS}- watermark: "2026-01-05T14:00:00Z"
- expect: {{tags: {{u2: {{abandoned: true}}}}}}
- restart
- send:
    events:
      - {{event_id: g, user_id: u2, event_type: buy, amount: 1, at: "2026-01-05T12:30:00Z"}}
      - {{event_id: h, user_id: u2, event_type: buy, amount: 1, at: "2026-01-03T12:30:00Z"}}
- expect:
    tags: {{u2: {{abandoned: false, orders_1d: 1, stage: paid}}}}
    tags.changes: {{contains: [{{user_id: u2, tag: abandoned, op: retract, cause: late_event}}]}}
    late: {{contains: [{{query: tags, reason: behind_watermark}}], count: 1}}
    counters: {{late: 1}}"#
        ),
        &[],
    );
}

#[test]
fn what_is_not_as_expected_is_told_of_each_tag() {
    check(
        &format!(
            r#"{EVENTS}- watermark: "2026-01-05T14:00:00Z"
- expect:
    tags: {{u1: {{orders_1d: 3, stage: paid, spend_1d: null}}, u9: {{orders_1d: 0}}}}
    segments: {{rich: [u2]}}"#
        ),
        &[
            "tags.u1: {orders_1d: 3}: {orders_1d: 2}",
            "tags.u1: {spend_1d: null}: {spend_1d: 110.50}",
            "tags.u9: {orders_1d: 0}: nothing",
            "segments.rich: [u2]: [u1]",
        ],
    );
}

/// A count of nothing has a value and a score, though neither has ever changed.
#[test]
fn regression_tags_that_never_changed_are_as_in_the_profile() {
    let file = r#"name: p
sources:
  events:
    kafka: {brokers: "localhost:9092", topics: [a]}
    format: {json: {}}
    columns: {u: string, kind: string, at: timestamp(rfc3339)}
    time: {event_time: at, delay: 0s}
tags:
  from: events
  key: u
  define:
    bought: {agg: count, where: "kind = 'purchase'"}
    level: {score: bought, cuts: [0, 5]}
    last_at: {agg: last, arg: at}
    hours: {time_since: last_at, unit: h}
sinks:
  profile: {from: tags.current, blackhole: {}}
tests:
"#;
    let steps = r#"- send: {events: [{u: u1, kind: view, at: "2026-01-05T00:00:00Z"}]}
- watermark: "2026-01-05T05:00:00Z"
- expect: {tags: {u1: {bought: 0, level: 2, hours: 4, last_at: "2026-01-05T00:00:00Z"}}}
- restart
- expect: {tags: {u1: {bought: 0, level: 2, hours: 4}}}
- watermark: "2026-01-05T06:00:00.000001Z"
- expect: {tags: {u1: {hours: 6}}}
"#;
    check_in(file, steps, &[]);
}

#[test]
fn regression_a_tag_of_nan_can_be_expected() {
    let file = r#"name: p
sources:
  events:
    kafka: {brokers: "localhost:9092", topics: [a]}
    format: {json: {}}
    columns: {u: string, v: float64, w: float64, at: timestamp(rfc3339)}
    time: {event_time: at, delay: 0s}
tags:
  from: events
  key: u
  define:
    ratio: {agg: last, arg: "v / w"}
    deviation: {agg: std, arg: "v / w"}
    ratios: {agg: last_k, k: 2, arg: "v / w"}
sinks:
  profile: {from: tags.current, blackhole: {}}
tests:
"#;
    let steps = r#"- send:
    events:
      - {u: u1, v: 1, w: 0, at: "2026-01-05T00:00:00Z"}
      - {u: u1, v: 0, w: 0, at: "2026-01-05T00:00:01Z"}
- watermark: "2026-01-05T05:00:00Z"
- expect: {tags: {u1: {ratio: "NaN", deviation: "NaN", ratios: ["NaN", "inf"]}}}
- expect: {tags: {u1: {ratio: 1, ratios: [1]}}}
"#;
    check_in(
        file,
        steps,
        &[
            "tags.u1: {ratio: 1.0}: {ratio: NaN}",
            "tags.u1: {ratios: [1.0]}: {ratios: [NaN, inf]}",
        ],
    );
}

/// Three waits end, and the tag is true once.
#[test]
fn regression_an_absence_that_is_true_does_not_become_true() {
    check(
        r#"- send:
    events:
      - {event_id: a, user_id: u1, event_type: cart, at: "2026-01-05T12:00:00Z"}
      - {event_id: b, user_id: u1, event_type: cart, at: "2026-01-05T12:01:00Z"}
      - {event_id: c, user_id: u1, event_type: cart, at: "2026-01-05T12:02:00Z"}
- watermark: "2026-01-05T13:00:00Z"
- expect:
    tags: {u1: {abandoned: true}}
    tags.changes: {contains: [{tag: abandoned, old: "false", new: "true", effective_at: "2026-01-05T12:30:00Z"}]}
- send:
    events: [{event_id: d, user_id: u1, event_type: buy, at: "2026-01-05T12:31:30Z"}]
- watermark: "2026-01-05T13:00:01Z"
- expect:
    tags: {u1: {abandoned: true, orders_1d: 1}}
"#,
        &[],
    );
}

#[test]
fn only_what_there_is_can_be_expected() {
    let text = format!(
        "{TAGS}  - name: t\n    steps:\n      - expect: {{tags: {{u1: {{order_1d: 1, hours: 2, \
         orders_1d: x}}, u2: 7}}, segments: {{poor: []}}}}\n"
    );
    let problems = open(&text).err().unwrap();
    let problems: Vec<_> = problems.iter().map(|it| it.message.as_str()).collect();
    insta::assert_snapshot!(problems.join("\n"));
}
