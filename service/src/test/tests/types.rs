//! Types that depend on constants, through whole pipelines.

use super::*;

const FILE: &str = r#"name: p
sources:
  events:
    kafka: {brokers: "localhost:9092", topics: [a]}
    format: {json: {}}
    columns: {u: string, d: "decimal(10,2)", began: timestamp(ms), at: timestamp(ms)}
    time: {event_time: at, delay: 0s}
steps:
  step: {from: events, where: "round(d, 1) = 2.6", select: {u: u, x: "round(d, 1)", y: "coalesce(round(d, 1), 0.00)", at: at}}
queries:
  row: SELECT round(d, 1) AS x, round(d, n) AS y, round(d, 0) + 1.25 AS z FROM (SELECT d, 1 AS n FROM events)
  both: SELECT round(d, 1) AS x FROM events UNION ALL SELECT x FROM step
  seconds: SELECT extract(epoch FROM at - began) AS s, extract(epoch FROM at) AS e FROM events
  window: |
    SELECT tumble(at, INTERVAL '1 hour') AS "window", round(sum(d), 1) AS x, avg(round(d, 1)) AS y
    FROM events GROUP BY 1
metrics:
  measures:
    window: {tumble: 1h}
    measures: {x: {from: events, agg: sum, arg: "round(d, 1)"}}
    derived: {y: "round(x, 0)"}
tags:
  from: events
  key: u
  define: {x: {agg: sum, arg: "round(d, 1)"}}
sinks:
  a: {from: step, blackhole: {}}
  b: {from: row, blackhole: {}}
  c: {from: both, blackhole: {}}
  d: {from: window, blackhole: {}}
  e: {from: measures, blackhole: {}}
  f: {from: tags.changes, blackhole: {}}
  g: {from: seconds, blackhole: {}}
tests:
  - name: t
    steps:
      - send: {events: [{u: a, d: 2.55, began: 1767571199001, at: 1767571200000}]}
      - watermark: "2026-01-05T02:00:00Z"
      - expect:
          step: {contains: [{x: 2.6, y: 2.60}]}
          row: {contains: [{x: 2.6, y: 2.6, z: 4.25}]}
          both: {equals: [{x: 2.6}, {x: 2.6}]}
          seconds: {equals: [{s: 0.999, e: 1767571200}]}
          window: {contains: [{x: 2.6, y: 2.6}]}
          measures: {contains: [{x: 2.6, y: 3}]}
          tags: {a: {x: 2.6}}
"#;

#[test]
fn regression_rounded_decimals_run_wherever_sql_can_stand() {
    for lanes in [1, 4] {
        let pipeline = open(FILE).unwrap_or_else(|problems| panic!("{}", problems.human()));
        let results = run(&pipeline, lanes).unwrap();
        let failures: Vec<_> = results.iter().flat_map(|it| &it.failures).collect();
        assert!(failures.is_empty(), "{failures:#?}");
    }
}
