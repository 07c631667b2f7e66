use std::{path::Path, sync::Arc, time::Duration};

use tagflow_engine::graph::{NodeKind, WithOffsets};

use super::{LowerOptions, Lowered, check, lower, lowered};
use crate::{LoadOptions, explain, load};

const PIPELINE: &str = r#"
steps:
  clean: {from: events, where: "campaign_id is not null"}
queries:
  minutely: |
    SELECT tumble(occurred_at, INTERVAL '1 minute') AS "window", campaign_id,
           count(*) FILTER (WHERE event_type = 'click') AS clicks
    FROM clean GROUP BY 1, 2
sinks:
  clicks: {from: minutely, parquet: {url: ./lake/clicks, partition_by: {dt: "date(window_start)"}}}
"#;

#[test]
fn a_pipeline_explained() {
    let text = explain::text("test", &lowered(PIPELINE), 4);
    assert_eq!(
        text,
        r"test: on 4 lanes; its input ends

steps and queries
  clean
    where campaign_id IS NOT NULL; select event_type, campaign_id, occurred_at
      read events: event_type, campaign_id, occurred_at
  minutely
    select window, campaign_id, clicks
      tumble 1m of occurred_at by campaign_id: count(*) FILTER (WHERE (event_type = 'click'))
        read clean: event_type, campaign_id, occurred_at

nodes
  events  (source, 4 lanes)
    files ./events/*.ndjson; decode event_type, campaign_id, occurred_at
    watermark: 5s behind, in steps of 1m
  clean  (operator, 4 lanes)
    where campaign_id IS NOT NULL; select event_type, campaign_id, occurred_at
  minutely.partial  (operator, 4 lanes)
    tumble 1m of occurred_at by campaign_id: count(*) FILTER (WHERE (event_type = 'click')), on each lane
    state: tumble 1m by occurred_at; key campaign_id: Utf8; read clean: campaign_id, occurred_at; clean is where campaign_id IS NOT NULL; select campaign_id, occurred_at; read events: campaign_id, occurred_at
  minutely  (operator, 4 lanes)
    tumble 1m of occurred_at by campaign_id: count(*) FILTER (WHERE (event_type = 'click'))
    state: tumble 1m by occurred_at; key campaign_id: Utf8; read clean: campaign_id, occurred_at; clean is where campaign_id IS NOT NULL; select campaign_id, occurred_at; read events: campaign_id, occurred_at
  minutely.select  (operator, 4 lanes)
    select window, campaign_id, clicks
  clicks.columns  (operator, 4 lanes)
    columns window_start, window_end, campaign_id, clicks, dt
  clicks  (sink, 1 lane)
    parquet ./lake/clicks
  errors.dead_letters  (sink, 1 lane)
    parquet ${env:TAGFLOW_STATE:-./.tagflow}/_dead_letters/test
  errors.late.columns  (operator, 4 lanes)
    the day of event_time
  errors.late  (sink, 1 lane)
    parquet ${env:TAGFLOW_STATE:-./.tagflow}/_late/test

edges
  events -> clean: the same lane
  clean -> minutely.partial: the same lane
  minutely.partial -> minutely: by key (1 column)
  minutely.partial (aside) -> minutely: by key (1 column)
  minutely -> minutely.select: the same lane
  minutely.select -> clicks.columns: the same lane
  clicks.columns -> clicks: to lane 0
  events (aside) -> errors.dead_letters: to lane 0
  clicks.columns (dead letters) -> errors.dead_letters: to lane 0
  minutely (aside) -> errors.late.columns: the same lane
  errors.late.columns -> errors.late: to lane 0

tables
  clicks: window_start, window_end, campaign_id, clicks, dt
  dead_letters: pipeline, source, partition, offset, reason, field, error, payload, failed_at, node, expression, hint, dt
  late: pipeline, query, source, partition, offset, event_time, window_end, watermark, delay_us, reason, row, dt
",
    );
}

#[test]
fn a_pipeline_drawn() {
    let dot = explain::dot("test", &lowered(PIPELINE));
    assert_eq!(
        dot,
        r#"digraph "test" {
  rankdir=LR; node [shape=box, fontname="sans-serif"];
  n0 [shape=cds, label="events\nfiles ./events/*.ndjson; decode event_type, campaign_id, occurred_at"];
  n1 [shape=box, label="clean\nwhere campaign_id IS NOT NULL; select event_type, campaign_id, occurred_at"];
  n2 [shape=box3d, label="minutely.partial\ntumble 1m of occurred_at by campaign_id: count(*) FILTER (WHERE (event_type = 'click')), on each lane"];
  n3 [shape=box3d, label="minutely\ntumble 1m of occurred_at by campaign_id: count(*) FILTER (WHERE (event_type = 'click'))"];
  n4 [shape=box, label="minutely.select\nselect window, campaign_id, clicks"];
  n5 [shape=box, label="clicks.columns\ncolumns window_start, window_end, campaign_id, clicks, dt"];
  n6 [shape=cylinder, label="clicks\nparquet ./lake/clicks"];
  n7 [shape=cylinder, label="errors.dead_letters\nparquet ${env:TAGFLOW_STATE:-./.tagflow}/_dead_letters/test"];
  n8 [shape=box, label="errors.late.columns\nthe day of event_time"];
  n9 [shape=cylinder, label="errors.late\nparquet ${env:TAGFLOW_STATE:-./.tagflow}/_late/test"];
  n0 -> n1 [label="the same lane"];
  n1 -> n2 [label="the same lane"];
  n2 -> n3 [label="by key (1 column)", style=bold];
  n2 -> n3 [label="by key (1 column)", style=dashed];
  n3 -> n4 [label="the same lane"];
  n4 -> n5 [label="the same lane"];
  n5 -> n6 [label="to lane 0", style=bold];
  n0 -> n7 [label="to lane 0", style=dashed];
  n5 -> n7 [label="to lane 0", style=dashed];
  n3 -> n8 [label="the same lane", style=dashed];
  n8 -> n9 [label="to lane 0", style=bold];
}
"#,
    );
}

fn time_of<'a>(lowered: &'a Lowered, source: &str) -> &'a tagflow_engine::graph::TimePolicy {
    let found = lowered
        .graph
        .nodes
        .iter()
        .find_map(|node| match &node.kind {
            NodeKind::Source(node_of) if *node.name == *source => Some(&node_of.time),
            _ => None,
        });
    found.unwrap()
}

#[test]
fn watermarks_step_by_what_divides_every_window() {
    let lowered = lowered(
        r"
queries:
  a: SELECT tumble(occurred_at, INTERVAL '90 seconds') AS w, count(*) AS n FROM events GROUP BY 1
  b: SELECT tumble(occurred_at, INTERVAL '2 minutes') AS w, count(*) AS n FROM events GROUP BY 1
sinks:
  a_out: {from: a, blackhole: {}}
  b_out: {from: b, blackhole: {}}
  c_out: {from: orders, blackhole: {}}
",
    );
    let events = time_of(&lowered, "events");
    assert_eq!(events.granularity, Duration::from_secs(30));
    assert_eq!(events.offsets, WithOffsets::Yes);
    assert_eq!(events.max_future, Duration::from_hours(24));
    let orders = time_of(&lowered, "orders");
    assert_eq!(orders.granularity, Duration::from_micros(1));
    assert_eq!(orders.offsets, WithOffsets::Yes);
    assert_eq!(orders.max_future, Duration::from_mins(5));
    assert_eq!(orders.delay, Duration::from_mins(1));
    assert!(!lowered.bounded);
}

#[test]
fn what_leads_nowhere_is_not_there() {
    let lowered = lowered(
        r"
steps:
  unused: {from: orders}
sinks:
  out: {from: events, blackhole: {}}
",
    );
    let names: Vec<&str> = lowered.graph.nodes.iter().map(|node| &*node.name).collect();
    assert_eq!(
        names,
        ["events", "out.columns", "out", "errors.dead_letters"]
    );
    assert!(lowered.bounded);
    let tables: Vec<&str> = lowered.tables.iter().map(|table| &*table.name).collect();
    assert_eq!(tables, ["dead_letters"]);
}

#[test]
fn a_step_holds_whole_rows_and_needs_an_exact_watermark() {
    let step = "{from: events, dedupe: {key: [event_id], within: 24h}, sessions: {key: [user_id], \
                gap: 30m}, where: \"amount > 1\", select: [session_id, occurred_at]}";
    let lowered = lowered(&format!(
        "steps:\n  s: {step}\nsinks: {{out: {{from: s, console: {{}}}}}}\n"
    ));
    let time = time_of(&lowered, "events");
    assert_eq!(time.granularity, Duration::from_micros(1));
    assert_eq!(time.offsets, WithOffsets::Yes);
    let text = explain::text("test", &lowered, 4);
    let shown = |line: &str| assert!(text.contains(line), "{line}\n{text}");
    shown(
        "  s.dedupe\n    dedupe by event_id within 1day\n      read events: event_id, user_id, event_type, campaign_id, amount, created_at, occurred_at\n",
    );
    shown(
        "  s.sessions\n    sessions by user_id with a gap of 30m as session_id\n      read s.dedupe: ",
    );
    shown("  events -> s.dedupe: by key (1 column)\n");
    shown("  s.dedupe -> s.sessions: by key (1 column)\n");
    shown("  s.sessions (aside) -> errors.late.columns.2: the same lane\n");
    shown("    state: sessions(1800000000us); key user_id; time occurred_at; ");
}

/// The fingerprint of the state of `q`: first of all its groups, then each aggregate.
fn state(blocks: &str) -> Vec<String> {
    let Lowered {
        graph, aggregates, ..
    } = lowered(blocks);
    let found = graph.nodes.into_iter().find(|node| &*node.name == "q");
    let mut state = match found.map(|node| node.kind) {
        Some(NodeKind::Operator(operator)) => vec![operator.fingerprint.unwrap()],
        _ => panic!("`q` is no operator"),
    };
    state.extend(aggregates["q"].values().cloned());
    state
}

fn counting(select: &str, filter: &str, aggregates: &str, sinks: &str) -> Vec<String> {
    state(&format!(
        r#"
steps:
  clean: {{from: events, where: "{filter}", select: [{select}]}}
queries:
  q: |
    SELECT tumble(occurred_at, INTERVAL '1 minute') AS w, count(*) AS n{aggregates}
    FROM clean WHERE amount < 9 GROUP BY 1
  few: SELECT n FROM q
sinks: {{a: {{from: few, blackhole: {{}}}}{sinks}}}
"#
    ))
}

const MAX: &str = ", max(amount) AS m";

#[test]
fn state_is_what_its_query_says_whoever_reads_it() {
    let plain = counting("occurred_at, amount", "amount > 1", MAX, "");
    let rows = "where amount < 9.00; select occurred_at; read clean: occurred_at, amount; clean is \
                where amount > 1.00; select occurred_at, amount; read events: amount, occurred_at";
    assert_eq!(
        plain,
        [
            format!("tumble 1m by occurred_at; {rows}"),
            format!("count(1); {rows}; kept as Int64"),
            format!(
                "max(amount); {}; kept as Decimal128(18, 2)",
                rows.replacen("select occurred_at;", "select occurred_at, amount;", 1)
            ),
        ]
    );
    for (select, sinks) in [
        ("occurred_at, amount", ", b: {from: q, blackhole: {}}"),
        (
            "occurred_at, amount, user_id",
            ", b: {from: clean, blackhole: {}}",
        ),
        (
            "occurred_at, amount, upper(user_id) AS u",
            ", b: {from: events, blackhole: {}}",
        ),
    ] {
        let read = counting(select, "amount > 1", MAX, sinks);
        assert_eq!(read, plain, "{select}{sinks}");
    }
}

#[test]
fn state_is_another_when_what_comes_in_is() {
    let plain = counting("occurred_at, amount", "amount > 1", MAX, "");
    let other = counting("occurred_at, amount", "amount > 2", MAX, "");
    assert!(other.iter().all(|part| !plain.contains(part)), "{other:?}");
    // It determines the selected rows and their values.
    let doubled = counting("occurred_at, amount * 2 AS amount", "amount > 1", MAX, "");
    assert!(
        doubled.iter().all(|part| !plain.contains(part)),
        "{doubled:?}"
    );
}

#[test]
fn an_aggregate_more_leaves_the_state_of_the_others_alone() {
    let select = "occurred_at, amount, upper(user_id) AS u, event_type || 'x' AS e";
    let plain = counting(select, "amount > 1", MAX, "");
    for more in [
        ", min(u) AS more",
        ", count(DISTINCT lower(u)) FILTER (WHERE e = 'clickx') AS more",
        ", sum(amount * 3) AS more",
    ] {
        let with = counting(select, "amount > 1", &format!("{more}{MAX}"), "");
        assert_eq!(with.len(), 4, "{more}");
        assert!(plain.iter().all(|part| with.contains(part)), "{with:?}");
    }
}

#[test]
fn state_of_an_aggregate_over_several_inputs_is_its_own() {
    let of = |aggregates: &str| {
        state(&format!(
            r#"
steps:
  clicks: {{from: events, where: "event_type = 'click'"}}
queries:
  q: |
    SELECT tumble(t, INTERVAL '1 minute') AS w, user_id{aggregates} FROM (
      SELECT occurred_at AS t, user_id, amount AS a, 1 AS b, event_type AS e FROM clicks
      UNION ALL SELECT occurred_at AS t, user_id, amount * 2 AS a, 2 AS b, 'none' AS e FROM events)
    GROUP BY 1, 2
sinks: {{a: {{from: q, blackhole: {{}}}}}}
"#
        ))
    };
    let plain = of(", sum(a) AS a");
    let with = of(", max(e) AS e, sum(a) AS a, sum(b) AS b");
    assert!(plain.iter().all(|part| with.contains(part)), "{with:#?}");
    assert_eq!(with.len(), 4);
}

#[test]
fn the_examples_lower() {
    for example in ["campaign_metrics.yaml", "open-bandit/open_bandit.yaml"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../examples")
            .join(example);
        let options = LoadOptions {
            set: Vec::new(),
            env: Arc::new(|_| None),
        };
        let spec = load(&path, &options).unwrap_or_else(|problems| panic!("{problems}"));
        let problems = check(&spec);
        assert!(problems.is_empty(), "{problems}");
        assert!(lower(&spec, &LowerOptions::default()).is_ok(), "{example}");
    }
}
