use std::time::Duration;

use tagflow_engine::graph::{NodeKind, WithOffsets};

use super::{Lowered, lowered};
use crate::explain;

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
    assert_eq!(explain::text("test", &lowered(PIPELINE), 4), "");
}

#[test]
fn a_pipeline_drawn() {
    let dot = explain::dot("test", &lowered(PIPELINE));
    assert_eq!(dot, "");
}

fn time_of<'a>(lowered: &'a Lowered, source: &str) -> &'a tagflow_engine::graph::TimePolicy {
    let found = lowered.graph.nodes.iter().find_map(|node| match &node.kind {
        NodeKind::Source(node_of) if *node.name == *source => Some(&node_of.time),
        _ => None,
    });
    found.unwrap()
}

#[test]
fn watermarks_step_by_what_divides_every_window() {
    let lowered = lowered(
        r#"
queries:
  a: SELECT tumble(occurred_at, INTERVAL '90 seconds') AS w, count(*) AS n FROM events GROUP BY 1
  b: SELECT tumble(occurred_at, INTERVAL '2 minutes') AS w, count(*) AS n FROM events GROUP BY 1
sinks:
  a_out: {from: a, blackhole: {}}
  b_out: {from: b, blackhole: {}}
  c_out: {from: orders, blackhole: {}}
"#,
    );
    let events = time_of(&lowered, "events");
    assert_eq!(events.granularity, Duration::from_secs(30));
    assert_eq!(events.offsets, WithOffsets::Yes);
    assert_eq!(events.max_future, Duration::MAX);
    let orders = time_of(&lowered, "orders");
    assert_eq!(orders.granularity, Duration::from_micros(1));
    assert_eq!(orders.offsets, WithOffsets::No);
    assert_eq!(orders.max_future, Duration::from_mins(5));
    assert_eq!(orders.delay, Duration::from_mins(1));
    assert!(!lowered.bounded);
}

#[test]
fn what_leads_nowhere_is_not_there() {
    let lowered = lowered(
        r#"
steps:
  unused: {from: orders}
sinks:
  out: {from: events, blackhole: {}}
"#,
    );
    let names: Vec<&str> = lowered.graph.nodes.iter().map(|node| &*node.name).collect();
    assert_eq!(
        names,
        ["events", "out.columns", "out", "errors.dead_letters.columns", "errors.dead_letters"]
    );
    assert!(lowered.bounded);
    let tables: Vec<&str> = lowered.tables.iter().map(|table| &*table.name).collect();
    assert_eq!(tables, ["dead_letters"]);
}

#[test]
fn state_is_what_its_query_says_whoever_reads_it() {
    let fingerprint = |sinks: &str| {
        let lowered = lowered(&format!(
            r#"
queries:
  q: SELECT tumble(occurred_at, INTERVAL '1 minute') AS w, count(*) AS n, max(amount) AS m FROM events GROUP BY 1
  few: SELECT n FROM q
sinks: {{{sinks}}}
"#
        ));
        let found = lowered.graph.nodes.into_iter().find(|node| &*node.name == "q");
        match found.unwrap().kind {
            NodeKind::Operator(operator) => operator.fingerprint.unwrap(),
            _ => panic!("not an operator"),
        }
    };
    assert_eq!(
        fingerprint("a: {from: few, blackhole: {}}"),
        fingerprint("a: {from: few, blackhole: {}}, b: {from: q, blackhole: {}}, c: {from: events, blackhole: {}}"),
    );
}
