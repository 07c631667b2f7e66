use super::{one_query, problems};

fn check(blocks: &str, expected: &[&str]) {
    assert_eq!(problems(blocks), expected, "{blocks}");
}

#[test]
fn places_in_sql_are_places_in_the_file() {
    check(
        &one_query("SELECT order_id,\n  revnue\nFROM orders"),
        &[
            "4:7 queries.q: column `revnue` not found in `orders` (have: order_id, buyer, \
             revenue, ordered_at) [did you mean `revenue`?]",
        ],
    );
    check(
        &one_query("SELECT user_id FROM nowhere"),
        &["3:25 queries.q: nothing is called `nowhere` (have: events, orders)"],
    );
    check(
        &one_query("SELECT user_id FROM events WHERE amount > 'abc'"),
        &["3:47 queries.q: cannot cast string 'abc' to value of Decimal128(38, 10) type"],
    );
}

#[test]
fn each_text_of_a_step_is_checked() {
    check(
        r#"
steps:
  s: {from: events, where: "usr_id = 'a'", select: [upper(user_id), "count(*) AS n", "now() AS t"]}
  t: {from: events, select: {a: "user_id +", b: "x.y"}}
sinks: {out: {from: s, console: {}}}
"#,
        &[
            "3:29 steps.s.where: column `usr_id` not found in `events` (have: event_id, user_id, \
             event_type, campaign_id, amount, created_at, occurred_at) [did you mean `user_id`?]",
            "3:53 steps.s.select: `upper(user_id)` needs a name [give it one: `upper(user_id) AS \
             name`]",
            "3:70 steps.s.select: an aggregate is over many rows, and here is one [aggregate in a \
             query with a window]",
            "3:87 steps.s.select: `now` differs from call to call, so a replay would not agree \
             with the run that it repeats [use the event's own time or id]",
            "4:34 steps.t.select: expected: an expression, found: EOF",
            "4:50 steps.t.select: nothing is called `x` here (have: events)",
        ],
    );
}

#[test]
fn parts_of_steps_are_of_columns_that_there_are() {
    check(
        r"
steps:
  s:
    from: events
    dedupe: {key: [event_id, usr_id], within: 1h}
  t:
    from: events
    flag_bots: {user_agent: amount, rate: {key: [user_id], over: 1m, more_than: 60}, as: user_id}
  u:
    from: events
    sessions: {key: [nobody], gap: 30m, as: _offset}
  v: {from: events, select: [user_id]}
  w: {from: v, sessions: {key: [user_id], gap: 30m}}
sinks: {out: {from: s, console: {}}}
",
        &[
            "5:30 steps.s.dedupe.key: column `usr_id` not found; did you mean `user_id`?",
            "8:29 steps.t.flag_bots.user_agent: `amount` is not a `string`",
            "8:90 steps.t.flag_bots.as: the rows have a column `user_id` already [give the new one \
             another name with `as`]",
            "11:22 steps.u.sessions.key: column `nobody` not found (have: event_id, user_id, \
             event_type, campaign_id, amount, created_at, occurred_at)",
            "11:45 steps.u.sessions.as: the column name `_offset` is Tagflow's own [give it \
             another name with `as`]",
            "13:13 steps.w.sessions: the rows have no event time, whose order is needed here \
             [carry the event time of the source through unchanged]",
        ],
    );
}

#[test]
fn folders_and_orders_are_of_columns_that_there_are() {
    check(
        r#"
sinks:
  out:
    from: events
    parquet:
      url: ./a
      partition_by: {dt: "date(window_start)", user_id: "upper(user_id)"}
      sort_by: [user_id, usr_id]
"#,
        &[
            "7:32 sinks.out.parquet.partition_by.dt: column `window_start` not found (have: \
             event_id, user_id, event_type, campaign_id, amount, created_at, occurred_at)",
            "7:58 sinks.out.parquet.partition_by.user_id: `user_id` is a column of the rows \
             already, with another value",
        ],
    );
    check(
        "sinks: {out: {from: events, parquet: {url: ./a, sort_by: [usr_id]}}}\n",
        &["1:59 sinks.out.parquet.sort_by: column `usr_id` not found; did you mean `user_id`?"],
    );
}

#[test]
fn only_one_aggregate_without_a_window_has_a_ttl() {
    let wrong = |sql: &str, more: &str, expected: &[&str]| {
        let query = format!("{{ttl: 7d{more}, sql: \"{sql}\"}}");
        check(
            &format!("queries:\n  q: {query}\nsinks:\n  t: {{from: q, console: {{}}}}\n"),
            expected,
        );
    };
    let sound = "SELECT campaign_id AS c, count(*) AS n FROM events GROUP BY 1";
    wrong(sound, "", &[]);
    wrong(sound, ", emit: {every: 7d}", &[]);
    wrong("SELECT count(DISTINCT user_id) AS n FROM events", "", &[]);

    wrong(
        sound,
        ", emit: {every: 8d}",
        &["2:41 queries.q: `ttl` is shorter than changes are apart"],
    );
    wrong(
        sound,
        ", allowed_lateness: 1h",
        &["2:44 queries.q: `allowed_lateness` is for windows; a key takes rows until its `ttl`"],
    );
    wrong(
        "SELECT user_id FROM events",
        "",
        &[
            "2:22 queries.q: `ttl` is for an aggregate without a window, and there is no \
             aggregate [leave `ttl` out]",
        ],
    );
    wrong(
        "SELECT tumble(occurred_at, INTERVAL '1 hour') AS w, count(*) AS n FROM events GROUP BY 1",
        "",
        &[
            "2:74 queries.q: `ttl` is for an aggregate without a window, and this one has a \
             window [leave `ttl` out: a window is over by itself]",
        ],
    );
    wrong(
        "SELECT max(n) AS n FROM (SELECT count(*) AS n FROM events GROUP BY user_id)",
        "",
        &[
            "2:29 queries.q: a query with `ttl` is one aggregate and nothing more [write the \
             inner one as a query of its own]",
        ],
    );
    wrong(
        "SELECT user_id, count(*) AS op FROM events GROUP BY 1",
        "",
        &[
            "2:22 queries.q: the column name `op` is Tagflow's own where results are corrected \
             [give it another: `… AS name`]",
        ],
    );
    wrong(
        "SELECT user_id, count(*) AS n FROM events GROUP BY 1 HAVING count(*) > 1",
        "",
        &[
            "2:22 queries.q: HAVING cannot take back a row that it once let pass, and this query \
             corrects rows [leave HAVING out, and filter where the result is read]",
        ],
    );
    wrong(
        "SELECT n, count(*) AS m FROM (SELECT length(user_id) AS n FROM events) GROUP BY 1",
        "",
        &[
            "2:32 queries.q: the rows have no event time, by which a key could be forgotten \
             [carry the event time of the source through unchanged]",
        ],
    );
}

#[test]
fn only_windows_that_come_out_again_replace_others() {
    let pipeline = |query: &str, step: &str, from: &str, more: &str| {
        format!(
            "queries:\n  q: {query}\n{step}sinks:\n  t:\n    from: {from}\n    parquet: {{url: ./t, \
             mode: replace_windows{more}}}\n"
        )
    };
    let sql = "'SELECT tumble(occurred_at, INTERVAL ''1 hour'') AS w, campaign_id AS c, \
               count(*) AS n FROM events GROUP BY 1, campaign_id'";
    let revised = format!("{{allowed_lateness: 1h, sql: {sql}}}");
    let folders = ", partition_by: {dt: \"date(w_start)\", c: c}";
    check(&pipeline(&revised, "", "q", folders), &[]);
    let step = "steps:\n  s: {from: q, select: [\"c AS campaign\", n, w, revision]}\n";
    check(&pipeline(&revised, step, "s", ""), &[]);

    check(
        &pipeline(sql, "", "q", ""),
        &[
            "6:31 sinks.t.parquet.mode: `replace_windows` is for windows that come out more than \
             once, and `q` gives each row once [leave `mode` out, or give the query `emit: \
             {every: …}` or `allowed_lateness`]",
        ],
    );
    let lacking = "[carry the window, every GROUP BY column and `revision` (of sessions \
                   `is_retracted` too) through unchanged, and have no WHERE and no UNION ALL \
                   over the query's result]";
    for step in [
        "select: [w, n, revision]",
        "select: [w, upper(c) AS c, n, revision]",
        "select: [w, c, n]",
        "where: n > 3",
    ] {
        let step = format!("steps:\n  s: {{from: q, {step}}}\n");
        let expected = format!(
            "8:31 sinks.t.parquet.mode: `replace_windows` finds the row to replace by its window \
             and the GROUP BY columns, and `s` lacks one of them or leaves rows out {lacking}"
        );
        check(&pipeline(&revised, &step, "s", ""), &[&expected]);
    }
    check(
        &pipeline(&revised, "", "q", ", partition_by: {size: \"n / 100\"}"),
        &[
            "6:70 sinks.t.parquet.partition_by.size: `size` goes by `n`, which a correction may \
             change, and then the row to replace is in another folder [partition by the window \
             and the GROUP BY columns alone]",
        ],
    );
}

#[test]
fn nodes_have_names_of_their_own() {
    check(
        "sinks:\n  events: {from: events, console: {}}\n  late: {from: events, console: {}}\n",
        &[
            "2:3 sinks.events: the name `events` is taken: state and metrics go by it, so a sink \
             needs its own [call the sink `events_table`]",
            "3:3 sinks.late: `late` is the name of a table of Tagflow's own [give the sink \
             another name; `errors` says where that table is]",
        ],
    );
}

#[test]
fn circles_through_queries() {
    check(
        "steps:\n  s: {from: a}\nqueries:\n  a: SELECT user_id FROM s\n\
         sinks: {out: {from: a, console: {}}}\n",
        &[
            "2:13 steps.s: a circle: `a` reads `s` reads `a` [one of them must read something \
             else]",
        ],
    );
}

#[test]
fn what_tables_cannot_hold() {
    check(
        &one_query("SELECT NULL AS x FROM events"),
        &["4:21 sinks.out: column `x` is always null [give it a type: `CAST(NULL AS text)`]"],
    );
    check(
        &one_query("SELECT occurred_at - created_at AS x FROM events"),
        &[
            "4:21 sinks.out: column `x` is an interval, which tables cannot hold [write it as a \
             number of seconds: `extract(epoch FROM …)`]",
        ],
    );
    check(
        &one_query(
            "SELECT user_id AS window_start, tumble(occurred_at, INTERVAL '1 minute') \
             FROM events GROUP BY 1, 2",
        ),
        &[
            "4:21 sinks.out: two columns are named `window_start` [a window gives `…_start` and \
             `…_end`; rename the other column]",
        ],
    );
}

#[test]
fn each_text_of_metrics_is_checked() {
    check(
        r#"
metrics:
  m:
    key: [campain_id, user_id]
    window: {tumble: 1h}
    measures:
      rows: {from: events, agg: count}
      sold: {from: orders, agg: sum, arg: revenue}
  n:
    window: {tumble: day, timezone: Asia/Shangai}
    measures: {rows: {from: events, agg: count}}
  o:
    window: {tumble: 1h, timezone: Asia/Kolkata}
    measures: {rows: {from: events, agg: count}}
  p:
    window: {hop: 1h, every: 1m}
    emit: {preview: 10s}
    measures: {rows: {from: events, agg: count}}
  q:
    window: {tumble: 1h}
    measures:
      rows: {from: events, agg: count, where: evnt_type = 'a'}
      odd: {from: events, agg: count, where: amount}
      sold: {from: events, agg: max, arg: amount + max(amount)}
  r:
    window: {tumble: 1h}
    measures:
      rows: {from: events, agg: count}
      sold: {from: events, agg: sum, arg: user_id}
  s:
    window: {tumble: 1h}
    measures: {rows: {from: events, agg: count}}
    derived: {a: rows / rws, b: a + 1, c: sum(rows)}
  t:
    window: {tumble: 1h}
    measures: {rows: {from: hourly, agg: count}}
  u:
    window: {tumble: 1h}
    measures: {rows: {from: u, agg: count}}
  v:
    window: {hop: 1h, every: 2h}
    measures: {rows: {from: events, agg: count}}
  w:
    window: {tumble: 1h}
    measures: {rows: {from: events, agg: distinct, arg: amount, sketch: {theta: }}}
queries:
  hourly: SELECT tumble(occurred_at, INTERVAL '1 hour') AS "window", count(*) AS n FROM events GROUP BY 1
sinks: {out: {from: m, console: {}}}
"#,
        &[
            "4:11 metrics.m.key: column `campain_id` not found in `events` (have: event_id, user_id, event_type, campaign_id, amount, created_at, occurred_at) [did you mean `campaign_id`?]",
            "4:23 metrics.m.key: column `user_id` not found in `orders` (have: order_id, buyer, revenue, ordered_at)",
            "10:37 metrics.n.window.timezone: there is no time zone `Asia/Shangai`; did you mean `Asia/Shanghai`?",
            "13:36 metrics.o.window.timezone: windows of 1h cannot begin on the hours of `Asia/Kolkata`, which is at times 5h 30m ahead of UTC [take a width that divides this, or `tumble: day`; or leave `timezone` out]",
            "22:47 metrics.q.measures.rows: column `evnt_type` not found in `events` (have: event_id, user_id, event_type, campaign_id, amount, created_at, occurred_at) [did you mean `event_type`?]",
            "23:46 metrics.q.measures.odd: the condition `amount` is a Decimal128(18, 2), neither true nor false",
            "24:52 metrics.q.measures.sold: an aggregate is over many rows, and here is one [aggregate in a query with a window]",
            "29:43 metrics.r.measures.sold: function 'sum' requires Interval, but received String (DataType: Utf8)",
            "33:25 metrics.s.derived.a: column `rws` not found (have: window, rows) [did you mean `rows`?]",
            "33:43 metrics.s.derived.c: an aggregate is over many rows, and here is one [aggregate in a query with a window]",
            "36:29 metrics.t.measures.rows: the rows of `hourly` have no event time [carry the event time of the source through unchanged]",
            "37:3 metrics.u: a circle: `u` reads `u` [one of them must read something else]",
            "41:19 metrics.v.window: windows that slide by more than their size leave rows out",
            "45:57 metrics.w.measures.rows: `theta_sketch` is of a string or an integer, and of `lg_k`",
        ],
    );
}

#[test]
fn a_mistake_is_not_followed_by_those_that_it_makes() {
    check(
        "queries:
  a: |
    SELECT tumble(occurred_at, INTERVAL '1 minute') AS w,
           theta_sketch(user_id, length(user_id)) AS n
    FROM events GROUP BY 1
  b: SELECT w, n FROM a
sinks: {out: {from: b, console: {}}}
",
        &[
            "3:5 a: cannot plan the aggregate `theta_sketch(events.user_id,length(events.user_id))`: \
             Error during planning: the second argument of \
             `theta_sketch(events.user_id,length(events.user_id))` must be a constant",
        ],
    );
}

#[test]
fn regression_a_text_that_is_compared_with_a_number_is_a_warning() {
    let blocks = "steps:\n  s: {from: events, where: \"event_type > 5\"}\n\
                  sinks: {out: {from: s, console: {}}}\n";
    assert_eq!(
        problems(blocks),
        [
            "2:3 s: `event_type > 5` casts the text `event_type` to a number: a row with any \
          other text becomes a dead letter [`TRY_CAST(event_type AS BIGINT)` is null there; or declare \
          the column as a number]"
        ]
    );
    let blocks = one_query("SELECT event_id FROM events WHERE event_type BETWEEN 1.5 AND 2");
    assert!(problems(&blocks)[0].contains("TRY_CAST(event_type AS DOUBLE)"));
    let blocks = one_query("SELECT event_id FROM events WHERE event_type IN (1, 2)");
    assert_eq!(problems(&blocks).len(), 1);
    let explicit = one_query("SELECT event_id FROM events WHERE TRY_CAST(event_type AS INT) > 5");
    assert_eq!(problems(&explicit), Vec::<String>::new());
}
