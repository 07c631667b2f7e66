use super::{driver::run, lowered, one_query};

const EVENTS: &str = r#"{"event_id":"e1","user_id":"u1","event_type":"impression","campaign_id":"c1","occurred_at":1767571200000}
{"event_id":"e2","user_id":"u2","event_type":"impression","campaign_id":"c1","occurred_at":1767571201000}
{"event_id":"e3","user_id":"u1","event_type":"click","campaign_id":"c1","occurred_at":1767571202000}
{"event_id":"e4","user_id":"u1","event_type":"purchase","campaign_id":"c1","amount":12.50,"occurred_at":1767571259999}
{"event_id":"e5","user_id":"u3","event_type":"impression","campaign_id":null,"occurred_at":1767571260000}
{"event_id":"e6","user_id":"u3","event_type":"impression","campaign_id":"c2","occurred_at":1767571260000}
"#;

const ORDERS: &str = r#"{"order_id":"o1","buyer":"u1","revenue":5.00,"ordered_at":1767571203}
{"order_id":"o2","buyer":"u9","revenue":null,"ordered_at":1767571265}
"#;

/// Compares the console's output of a query over [`EVENTS`] and [`ORDERS`].
fn check(query: &str, expected: &str) {
    let lowered = lowered(&one_query(query));
    let results = run(&lowered, &[("events", EVENTS), ("orders", ORDERS)]);
    let result = results.get("out").map_or("", String::as_str);
    assert_eq!(result.trim(), expected.trim(), "{query}");
}

#[test]
fn the_example_of_the_design() {
    check(
        r#"SELECT tumble(occurred_at, INTERVAL '1 minute') AS "window", campaign_id,
       count(*) FILTER (WHERE event_type = 'impression') AS impressions,
       count(*) FILTER (WHERE event_type = 'click')      AS clicks,
       count(DISTINCT user_id)                           AS reach,
       sum(amount) FILTER (WHERE event_type = 'purchase') AS revenue
FROM events WHERE campaign_id IS NOT NULL
GROUP BY 1, 2"#,
        "
window_start window_end campaign_id impressions clicks reach revenue
2026-01-05T00:00:00Z 2026-01-05T00:01:00Z c1 2 1 2 12.50
2026-01-05T00:01:00Z 2026-01-05T00:02:00Z c2 1 0 1 -
",
    );
}

/// The equivalent SQL in place of the block gives the same results.
#[test]
fn metrics_are_the_sql_that_is_shown() {
    let block = "metrics: {q: {key: [campaign_id], window: {tumble: 1m}, measures: {clicks: {from: \
                 events, agg: count, where: \"event_type = 'click'\"}}, derived: {half: clicks / 2}}}\n\
                 sinks: {out: {from: q, console: {}}}\n";
    let lowered = lowered(block);
    let sql = &lowered.metrics["q"];
    assert_eq!(
        sql,
        r#"SELECT "window",
  "campaign_id",
  "clicks",
  (CAST(clicks AS DOUBLE) / NULLIF(CAST(2 AS DOUBLE), 0)) AS "half"
FROM (
  SELECT tumble("event time", INTERVAL '1 minute') AS "window",
    "campaign_id",
    count(*) FILTER (WHERE "clicks where") AS "clicks"
  FROM (
    SELECT * FROM (
      SELECT "occurred_at" AS "event time",
        "campaign_id",
        event_type = 'click' AS "clicks where"
      FROM "events"
    )
    WHERE "clicks where"
  )
  GROUP BY 1, 2
)"#
    );
    let results = run(&lowered, &[("events", EVENTS), ("orders", ORDERS)]);
    check(sql, &results["out"]);
}

/// As in the design, except for the arguments of `flag_bots`.
#[test]
fn the_metrics_of_the_design_plan() {
    let lowered = lowered(
        r#"
steps:
  ads: {from: events, dedupe: {key: [event_id], within: 24h}, flag_bots: {rate: {key: [user_id], over: 1m, more_than: 60}, as: is_bot}, select: ["*", "event_type AS channel"]}
  paid: {from: orders, dedupe: {key: [order_id], within: 7d}, select: {campaign_id: buyer, channel: buyer, amount: revenue, ordered_at: ordered_at}}
metrics:
  campaign_hour:
    key: [campaign_id, channel]
    window: {tumble: 1h, timezone: Asia/Shanghai}
    emit: {preview: 1m, corrections: {until: 3d}}
    measures:
      impressions:       {from: ads, agg: count, where: "event_type = 'impression' and not is_bot"}
      impressions_gross: {from: ads, agg: count, where: "event_type = 'impression'"}
      clicks:            {from: ads, agg: count, where: "event_type = 'click' and not is_bot"}
      reach:             {from: ads, agg: distinct, arg: user_id, where: "event_type = 'impression'", sketch: {theta: {lg_k: 12}}, keep_sketch: true}
      frequency:         {from: ads, agg: per_user_histogram, arg: user_id, where: "event_type = 'impression'", bounds: [1, 2, 3, 5, 10]}
      revenue:           {from: paid, agg: sum, arg: amount}
    derived:
      ctr: clicks / impressions
      revenue_per_click: revenue / clicks
sinks: {t: {from: campaign_hour, parquet: {url: ./lake/t, partition_by: {dt: "date(window_start)"}}}}
"#,
    );
    let fields = lowered.tables[0].schema.fields().iter();
    let columns: Vec<&str> = fields.map(|field| field.name().as_str()).collect();
    let columns = columns.join(" ");
    let expected = "window_start window_end campaign_id channel impressions impressions_gross clicks \
                    reach reach_sketch frequency revenue ctr revenue_per_click revision is_final";
    assert!(columns.starts_with(expected), "{columns}");
}

#[test]
fn a_step_flags_bots_by_user_agent_and_by_rate() {
    let agents = [
        "\"Googlebot/2.1\"",
        "null",
        "\"Firefox\"",
        "\"Firefox\"",
        "\"Firefox\"",
    ];
    let rows = agents.iter().enumerate().map(|(second, agent)| {
        let time = 1_767_571_200_000 + second * 1000;
        format!(
            r#"{{"event_id":"e{second}","user_id":"u","event_type":"x","campaign_id":{agent},"occurred_at":{time}}}"#
        )
    });
    let rows = rows.collect::<Vec<_>>().join("\n") + "\n";
    let check = |flag_bots: &str, expected: &str| {
        let lowered = lowered(&format!(
            "steps:\n  s: {{from: events, flag_bots: {flag_bots}, where: \"events.event_type = 'x'\", \
             select: [event_id, bot, \"is_bot(campaign_id) AS listed\"]}}\n\
             sinks: {{out: {{from: s, console: {{}}}}}}\n"
        ));
        assert_eq!(run(&lowered, &[("events", &rows)])["out"], expected);
    };
    check(
        "{user_agent: campaign_id, as: bot}",
        "event_id bot listed\ne0 true true\ne1 false false\ne2 false false\ne3 false false\ne4 false false",
    );
    check(
        "{user_agent: campaign_id, rate: {key: [user_id], over: 3s, more_than: 2}, as: bot}",
        "event_id bot listed\ne0 true true\ne1 false false\ne2 true false\ne3 true false\ne4 true false",
    );
    check(
        "{rate: {key: [campaign_id], over: 3s, more_than: 2}, as: bot}",
        "event_id bot listed\ne0 false true\ne1 false false\ne2 false false\ne3 false false\ne4 true false",
    );
}

#[test]
fn the_window_may_stand_anywhere() {
    check(
        "SELECT upper(campaign_id) AS campaign, count(*) AS n, \
         tumble(occurred_at, INTERVAL '1 day') AS day \
         FROM events GROUP BY campaign_id, tumble(occurred_at, INTERVAL '1 day') \
         HAVING count(*) > 1",
        "
campaign n day_start day_end
C1 4 2026-01-05T00:00:00Z 2026-01-06T00:00:00Z
",
    );
}

#[test]
fn windows_need_no_keys_and_no_aggregates() {
    check(
        "SELECT tumble(occurred_at, INTERVAL '1 minute') FROM events GROUP BY 1",
        "
window_start window_end
2026-01-05T00:00:00Z 2026-01-05T00:01:00Z
2026-01-05T00:01:00Z 2026-01-05T00:02:00Z
",
    );
}

#[test]
fn parts_of_a_window() {
    check(
        "SELECT w.window.start AS s, w.\"window\"['end'] AS e, n FROM (\
         SELECT tumble(occurred_at, INTERVAL '1 minute') AS \"window\", count(*) AS n \
         FROM events GROUP BY 1) AS w WHERE n > 3",
        "
s e n
2026-01-05T00:00:00Z 2026-01-05T00:01:00Z 4
",
    );
}

#[test]
fn inputs_flow_together() {
    check(
        "WITH actions AS (
           SELECT user_id, amount AS value, occurred_at AS ts FROM events WHERE event_type <> 'click'
           UNION ALL SELECT buyer, revenue, ordered_at FROM orders)
         SELECT tumble(ts, INTERVAL '1 minute') AS w, user_id, count(*) AS n, sum(value) AS value
         FROM actions GROUP BY w, user_id",
        "
w_start w_end user_id n value
2026-01-05T00:00:00Z 2026-01-05T00:01:00Z u1 3 17.50
2026-01-05T00:00:00Z 2026-01-05T00:01:00Z u2 1 -
2026-01-05T00:01:00Z 2026-01-05T00:02:00Z u3 2 -
2026-01-05T00:01:00Z 2026-01-05T00:02:00Z u9 1 -
",
    );
}

#[test]
fn rows_pass_one_by_one() {
    check(
        "SELECT user_id || '!' AS user, amount * 2 AS twice FROM events WHERE amount > 1",
        "
user twice
u1! 25.00
",
    );
}

#[test]
fn several_read_one_relation() {
    let lowered = lowered(
        r#"
steps:
  clean: {from: events, where: "campaign_id is not null", select: ["*", "amount is not null AS paid"]}
  paid: {from: clean, where: paid, select: {who: user_id, ts: occurred_at}}
queries:
  hourly: SELECT tumble(occurred_at, INTERVAL '1 hour') AS w, count(*) AS n FROM clean GROUP BY 1
  payers: SELECT tumble(ts, INTERVAL '90 seconds') AS w, count(DISTINCT who) AS n FROM paid GROUP BY 1
sinks:
  hours: {from: hourly, blackhole: {}}
  payer_table: {from: payers, console: {}}
  log: {from: paid, console: {}}
"#,
    );
    let results = run(&lowered, &[("events", EVENTS)]);
    let expected = [
        (
            "hours",
            "w_start w_end n\n2026-01-05T00:00:00Z 2026-01-05T01:00:00Z 5",
        ),
        ("log", "who ts\nu1 2026-01-05T00:00:59.999Z"),
        (
            "payer_table",
            "w_start w_end n\n2026-01-05T00:00:00Z 2026-01-05T00:01:30Z 1",
        ),
    ];
    let results: Vec<(&str, &str)> = results
        .iter()
        .map(|(name, table)| (name.as_str(), table.as_str()))
        .collect();
    assert_eq!(results, expected);
}

#[test]
fn folders_are_columns() {
    let lowered = lowered(
        r#"
queries:
  q: SELECT tumble(occurred_at, INTERVAL '1 minute') AS "window", campaign_id, approx_distinct(user_id) AS users FROM events GROUP BY 1, 2
sinks:
  out:
    from: q
    parquet: {url: ./lake/out, partition_by: {dt: "date(window_start)", campaign_id: campaign_id}, sort_by: [users]}
"#,
    );
    let results = run(&lowered, &[("events", EVENTS)]);
    assert_eq!(
        results["out"],
        "
window_start window_end campaign_id users dt
2026-01-05T00:00:00Z 2026-01-05T00:01:00Z c1 2 2026-01-05
2026-01-05T00:01:00Z 2026-01-05T00:02:00Z - 1 2026-01-05
2026-01-05T00:01:00Z 2026-01-05T00:02:00Z c2 1 2026-01-05
"
        .trim()
    );
    let table = lowered
        .tables
        .iter()
        .find(|table| &*table.name == "out")
        .unwrap();
    let columns: Vec<_> = table
        .schema
        .fields()
        .iter()
        .map(|field| field.name())
        .collect();
    assert_eq!(
        columns,
        ["window_start", "window_end", "users", "dt", "campaign_id"]
    );
}

/// A column that has no nulls in one input, and may have some in another.
#[test]
fn rows_flow_together_whether_they_have_nulls_or_not() {
    check(
        "SELECT event_id AS k, occurred_at FROM events WHERE event_type = 'click' \
         UNION ALL SELECT campaign_id AS k, occurred_at FROM events WHERE user_id = 'u3'",
        "
k occurred_at
- 2026-01-05T00:01:00Z
c2 2026-01-05T00:01:00Z
e3 2026-01-05T00:00:02Z
",
    );
    check(
        "SELECT tumble(occurred_at, INTERVAL '1 minute') AS w, 0 AS n FROM events GROUP BY 1 \
         UNION ALL \
         SELECT tumble(occurred_at, INTERVAL '1 minute') AS w, count(*) AS n FROM events GROUP BY 1",
        "
w_start w_end n
2026-01-05T00:00:00Z 2026-01-05T00:01:00Z 0
2026-01-05T00:00:00Z 2026-01-05T00:01:00Z 4
2026-01-05T00:01:00Z 2026-01-05T00:02:00Z 0
2026-01-05T00:01:00Z 2026-01-05T00:02:00Z 2
",
    );
}

#[test]
fn the_best_rows_flow_together_with_all() {
    let v = "SELECT tumble(occurred_at, INTERVAL '1 minute') AS w, user_id, count(*) AS n \
             FROM events GROUP BY 1, 2";
    let q = "SELECT w, user_id, n FROM v UNION ALL SELECT w, user_id, n FROM (\
             SELECT *, row_number() OVER (PARTITION BY w ORDER BY n DESC) AS rank FROM v) \
             WHERE rank <= 1";
    let blocks =
        format!("queries:\n  v: {v}\n  q: {q}\nsinks: {{out: {{from: q, console: {{}}}}}}\n");
    let results = run(&lowered(&blocks), &[("events", EVENTS)]);
    assert_eq!(
        results["out"],
        "w_start w_end user_id n
2026-01-05T00:00:00Z 2026-01-05T00:01:00Z u1 3
2026-01-05T00:00:00Z 2026-01-05T00:01:00Z u1 3
2026-01-05T00:00:00Z 2026-01-05T00:01:00Z u2 1
2026-01-05T00:01:00Z 2026-01-05T00:02:00Z u3 2
2026-01-05T00:01:00Z 2026-01-05T00:02:00Z u3 2"
    );
}
