use tagflow_schemas::Column;

use super::{super::Definition, faults, program, query};

/// All errors of a query, as `line:column message [help]`.
fn check(sql: &str, expected: &[&str]) {
    let program = program(&[("q", query(sql))]);
    let expected: Vec<String> = expected.iter().map(|fault| format!("q {fault}")).collect();
    assert_eq!(faults(&program), expected, "{sql}");
}

#[test]
fn regression_misspelt_keywords_and_windows_of_other_dialects_are_named() {
    let help = |sql: &str| faults(&program(&[("q", query(sql))])).join(" ");
    for (sql, keyword) in [
        ("SELECT user_id FORM events", "FROM"),
        ("SELECT user_id FROM events WHER user_id = 'x'", "WHERE"),
        ("SELECT user_id, count(*) FROM events GROPU BY 1", "GROUP"),
        ("SELCT user_id FROM events", "SELECT"),
        ("SELECT user_id\nFROM events\nORDRE BY 1", "ORDER"),
    ] {
        let found = help(sql);
        assert!(
            found.contains(&format!("did you mean `{keyword}`?")),
            "{found}"
        );
    }
    for sql in [
        "SELECT window_start, count(*) FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) GROUP BY 1",
        "SELECT * FROM TABLE ( HOP (TABLE events, DESCRIPTOR(ts), INTERVAL '1' MINUTE, INTERVAL '1' HOUR))",
    ] {
        let found = help(sql);
        assert!(
            found.contains("windows are functions in GROUP BY"),
            "{found}"
        );
    }
    let found = help("SELECT user_id ->> 'a' AS a FROM events");
    assert!(found.contains("regexp_match"), "{found}");
}

#[test]
fn what_is_no_query_at_all() {
    check("", &["1:1 the query is empty [write `SELECT … FROM …`]"]);
    check(
        "SELEC 1",
        &["1:1 expected: an SQL statement, found: SELEC [did you mean `SELECT`?]"],
    );
    check("SELECT (1 FROM events", &["1:11 expected: ), found: FROM"]);
    check(
        "SELECT 'a FROM events",
        &["1:8 unterminated string literal"],
    );
    check(
        "SELECT user_id FROM events; SELECT 1 FROM events",
        &[
            "1:29 a query is one statement, and here begins a second [give each query a name of its own under `queries`]",
        ],
    );
    check(
        "INSERT INTO events SELECT 1",
        &[
            "1:1 `INSERT` is not a query: a pipeline only reads [write `SELECT … FROM …`; where results go is said under `sinks`]",
        ],
    );
    check(
        "CREATE TABLE t (a INT)",
        &[
            "1:1 `CREATE` is not a query: a pipeline only reads [write `SELECT … FROM …`; where results go is said under `sinks`]",
        ],
    );
    check(
        "DELETE FROM events",
        &[
            "1:1 `DELETE` is not a query: a pipeline only reads [write `SELECT … FROM …`; where results go is said under `sinks`]",
        ],
    );
    check(
        "DROP TABLE events",
        &[
            "1:1 `DROP` is not a query: a pipeline only reads [write `SELECT … FROM …`; where results go is said under `sinks`]",
        ],
    );
    check(
        "EXPLAIN SELECT 1 FROM events",
        &[
            "1:1 `EXPLAIN` is not a query: a pipeline only reads [write `SELECT … FROM …`; where results go is said under `sinks`]",
        ],
    );
    check(
        "VALUES (1)",
        &[
            "1:8 VALUES is a constant table, and a query must read a stream [read FROM a source, a step or a query of this file]",
        ],
    );
    check(
        "SELECT 1 AS one",
        &[
            "1:1 SELECT without FROM is a constant, and a query must read a stream [read FROM a source, a step or a query of this file]",
        ],
    );
    check(
        "SELECT * FROM (VALUES (1)) AS v",
        &[
            "1:23 VALUES is a constant table, and a query must read a stream [read FROM a source, a step or a query of this file]",
        ],
    );
    check(
        "TABLE events",
        &["1:1 expected: an SQL statement, found: TABLE"],
    );
    check(
        "FROM events |> WHERE user_id = 'a'",
        &[
            "1:1 the pipe operator `|>` is not there [write it as a SELECT, or as several named queries]",
        ],
    );
}

#[test]
fn what_needs_all_rows() {
    check(
        "SELECT user_id FROM events ORDER BY user_id",
        &[
            "1:37 ORDER BY needs all rows, and a stream never has them all [leave it out, and sort where the result is read]",
        ],
    );
    check(
        "SELECT user_id FROM events LIMIT 3",
        &[
            "1:34 LIMIT means nothing without an order, and a stream has none [leave it out, or choose rows with WHERE or HAVING]",
        ],
    );
    check(
        "SELECT user_id FROM events FETCH FIRST 3 ROWS ONLY",
        &[
            "1:40 FETCH means nothing without an order, and a stream has none [leave it out, or choose rows with WHERE or HAVING]",
        ],
    );
    check(
        "SELECT DISTINCT user_id FROM events",
        &[
            "1:1 SELECT DISTINCT would have to remember every row for ever [write GROUP BY with a window: `GROUP BY tumble(ts, INTERVAL '1 minute'), …`]",
        ],
    );
    check(
        r#"SELECT user_id FROM events UNION SELECT "userId" FROM orders"#,
        &[
            "1:34 UNION drops duplicates, and would have to remember every row for ever [write UNION ALL]",
        ],
    );
    check(
        r#"SELECT user_id FROM events INTERSECT SELECT "userId" FROM orders"#,
        &["1:38 INTERSECT would have to remember every row for ever [filter with WHERE]"],
    );
    check(
        r#"SELECT user_id FROM events EXCEPT SELECT "userId" FROM orders"#,
        &["1:35 EXCEPT would have to remember every row for ever [filter with WHERE]"],
    );
    check(
        "WITH RECURSIVE r AS (SELECT user_id FROM events UNION ALL SELECT user_id FROM r) SELECT user_id FROM r",
        &["1:1 a recursive query never ends on a stream [write a plain `WITH`]"],
    );
    check(
        "SELECT e.user_id FROM events e ORDER BY 1 LIMIT 2",
        &[
            "1:41 ORDER BY needs all rows, and a stream never has them all [leave it out, and sort where the result is read]",
            "1:49 LIMIT means nothing without an order, and a stream has none [leave it out, or choose rows with WHERE or HAVING]",
        ],
    );
}

#[test]
fn aggregates_without_a_window() {
    check(
        "SELECT count(*) AS n FROM events",
        &[
            "1:8 an aggregate without a window never has its final value [add a window to GROUP BY: `tumble(occurred_at, INTERVAL '1 minute')`; or give the query a `ttl`, and its changes come out]",
        ],
    );
    check(
        r"SELECT campaign_id, count(*) AS n
FROM events GROUP BY campaign_id",
        &[
            "1:21 an aggregate without a window never has its final value [add a window to GROUP BY: `tumble(occurred_at, INTERVAL '1 minute')`; or give the query a `ttl`, and its changes come out]",
        ],
    );
    check(
        "SELECT campaign_id, count(*) AS n FROM events GROUP BY ROLLUP (campaign_id)",
        &[
            "1:64 GROUPING SETS, CUBE and ROLLUP are not there yet [write one query for each grouping]",
        ],
    );
    check(
        "SELECT campaign_id, count(*) AS n FROM events GROUP BY GROUPING SETS ((campaign_id), ())",
        &[
            "1:72 GROUPING SETS, CUBE and ROLLUP are not there yet [write one query for each grouping]",
        ],
    );
    check(
        "SELECT user_id FROM events WHERE count(*) > 1",
        &["1:1 aggregate functions are not allowed in the WHERE clause"],
    );
}

#[test]
fn joins_and_subqueries() {
    check(
        r#"SELECT e.user_id FROM events e JOIN orders o ON e.user_id = o."userId""#,
        &[
            "1:37 a join of two streams without a bound of time on both sides would have to remember every row for ever [add the bound to ON: `AND o.ordered_at BETWEEN e.occurred_at AND e.occurred_at + INTERVAL '1 day'`]",
        ],
    );
    check(
        "SELECT 1 AS x FROM events, orders",
        &[
            "1:28 a join of everything with everything never ends [write JOIN with an ON that says which rows belong together]",
        ],
    );
    check(
        r#"SELECT user_id FROM events WHERE user_id IN (SELECT "userId" FROM orders)"#,
        &[
            "1:46 IN (SELECT …) in an expression would be a join, and is not there yet [list the values: `IN ('a', 'b')`, or write it as a JOIN]",
        ],
    );
    check(
        "SELECT user_id FROM events WHERE EXISTS (SELECT 1 FROM orders)",
        &[
            "1:42 EXISTS in an expression would be a join, and is not there yet [list the values: `IN ('a', 'b')`, or write it as a JOIN]",
        ],
    );
    check(
        "SELECT (SELECT max(revenue) FROM orders) AS m FROM events",
        &[
            "1:9 a subquery in an expression would be a join, and is not there yet [list the values: `IN ('a', 'b')`, or write it as a JOIN]",
        ],
    );
}

#[test]
fn joins_with_a_table() {
    let campaigns = || {
        let column = |name: &str, kind: &str| Column {
            name: name.into(),
            kind: kind.parse().unwrap(),
            nullable: false,
        };
        let columns = vec![column("campaign_id", "string"), column("budget", "int64")];
        let key = vec!["campaign_id".into()];
        Definition::Table { columns, key }
    };
    for (sql, expected) in [
        (
            "SELECT budget FROM campaigns",
            "1:1 `campaigns` is a table, and a query must read a stream [join the table as it is with a stream: `FROM stream JOIN campaigns ON …`]",
        ),
        (
            "SELECT user_id FROM events e JOIN campaigns c ON e.user_id = c.budget",
            "1:35 the table `campaigns` is joined by its key (`campaign_id`), and ON does not say what `campaign_id` equals [add `c.campaign_id = …` to ON, of the same type as `campaign_id`]",
        ),
        (
            "SELECT user_id FROM campaigns c JOIN events e ON e.campaign_id = c.campaign_id",
            "1:38 the table `campaigns` stands on the left, but it is the stream's rows that are looked up in it [write the stream first: `FROM stream JOIN campaigns ON …`]",
        ),
        (
            "SELECT user_id FROM events e FULL JOIN campaigns c ON e.campaign_id = c.campaign_id",
            "1:40 a Full join with the table `campaigns` would have to know which of its rows no event will ever ask for [write JOIN or LEFT JOIN, the stream first]",
        ),
        (
            "SELECT user_id FROM events e CROSS JOIN campaigns c",
            "1:41 a join of everything with everything never ends [write JOIN with an ON that says which rows belong together]",
        ),
    ] {
        let program = program(&[("campaigns", campaigns()), ("q", query(sql))]);
        assert_eq!(faults(&program), [format!("q {expected}")], "{sql}");
    }
}

#[test]
fn joins_of_streams() {
    let minutely = |relation: &str, time: &str| {
        query(&format!(
            "SELECT tumble({time}, INTERVAL '1 minute') AS w, count(*) AS n FROM {relation} GROUP BY 1"
        ))
    };
    for (sql, expected) in [
        (
            r#"SELECT 1 AS x FROM events e JOIN orders o ON e.user_id = o."userId" AND o.ordered_at > e.occurred_at"#,
            "1:34 a join of two streams without a bound of time on both sides would have to remember every row for ever [add the bound to ON: `AND o.ordered_at BETWEEN e.occurred_at AND e.occurred_at + INTERVAL '1 day'`]",
        ),
        (
            r#"SELECT 1 AS x FROM events e JOIN orders o ON e.user_id = o."userId" AND o.ordered_at BETWEEN e.created_at AND e.created_at + INTERVAL '1 day'"#,
            "1:34 a join of two streams without a bound of time on both sides would have to remember every row for ever [add the bound to ON: `AND o.ordered_at BETWEEN e.occurred_at AND e.occurred_at + INTERVAL '1 day'`]",
        ),
        (
            "SELECT 1 AS x FROM events e JOIN orders o ON o.ordered_at BETWEEN e.occurred_at AND e.occurred_at + INTERVAL '1 day'",
            "1:34 a join without an equality would compare every row with every other [add to ON what is equal: `ON a.user_id = b.user_id AND …`]",
        ),
        (
            "SELECT 1 AS x FROM clicks c JOIN sales s ON c.n = s.n",
            "1:34 a join of windows that is not on the same window would have to remember every row for ever [add to ON: `AND c.w = s.w`]",
        ),
        (
            "SELECT 1 AS x FROM clicks c JOIN orders o ON c.n = length(o.order_id)",
            "1:34 one side has rows of windows, and the other has events [aggregate the events in a window first, then join the two on it]",
        ),
        (
            "SELECT 1 AS x FROM clicks c LEFT SEMI JOIN sales s ON c.w = s.w",
            "1:44 a join of everything with everything never ends [write JOIN with an ON that says which rows belong together]",
        ),
        (
            r#"SELECT count(*) AS n FROM (SELECT o.ordered_at AS t FROM events e LEFT JOIN orders o ON e.user_id = o."userId" AND o.ordered_at BETWEEN e.occurred_at AND e.occurred_at + INTERVAL '1 day') GROUP BY tumble(t, INTERVAL '1 minute')"#,
            "1:198 `tumble` is given `t`, not the event time of the source [of a join of events only an inner join's later time can be a window's; or aggregate both sides in windows and join those]",
        ),
    ] {
        let program = program(&[
            ("clicks", minutely("events", "occurred_at")),
            ("sales", minutely("orders", "ordered_at")),
            ("q", query(sql)),
        ]);
        assert_eq!(faults(&program), [format!("q {expected}")], "{sql}");
    }
}

#[test]
fn rankings() {
    let write = r#"[write `SELECT * FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY "window" ORDER BY x DESC) AS rank FROM per_window) WHERE rank <= 10`]"#;
    for (sql, expected) in [
        (
            "SELECT *, row_number() OVER (PARTITION BY w ORDER BY n) AS r FROM clicks",
            "1:11 every row gets a rank, and none is left out",
        ),
        (
            "SELECT * FROM (SELECT *, row_number() OVER (PARTITION BY w ORDER BY n) AS r FROM clicks) WHERE r > 3",
            "1:26 every row gets a rank, and none is left out",
        ),
        (
            "SELECT * FROM (SELECT *, row_number() OVER (ORDER BY n) AS r FROM clicks) WHERE r < 3",
            "1:26 the window must be in PARTITION BY: across windows the best may be to come",
        ),
        (
            "SELECT * FROM (SELECT *, row_number() OVER (PARTITION BY w) AS r FROM clicks) WHERE r < 3",
            "1:26 `row_number()` without ORDER BY ranks by nothing",
        ),
        (
            "SELECT * FROM (SELECT *, row_number() OVER (PARTITION BY w, n % 2 ORDER BY n) AS r FROM clicks) WHERE r < 3",
            "1:26 PARTITION BY takes columns; compute others in a query before",
        ),
    ] {
        let program = program(&[
            (
                "clicks",
                query(
                    "SELECT tumble(occurred_at, INTERVAL '1 minute') AS w, user_id, count(*) AS n FROM events GROUP BY 1, 2",
                ),
            ),
            ("q", query(sql)),
        ]);
        assert_eq!(faults(&program), [format!("q {expected} {write}")], "{sql}");
    }
    check(
        "SELECT rank() OVER (ORDER BY user_id) AS r FROM events",
        &[
            "1:8 `rank(…) OVER …` is not there yet; `row_number` is [aggregate over a window: `GROUP BY tumble(ts, INTERVAL '1 minute'), …`]",
        ],
    );
}

#[test]
fn functions() {
    check(
        "SELECT user_id, row_number() OVER (PARTITION BY user_id) AS n FROM events",
        &[
            "1:17 only rows of windows can be ranked: of others the best may be to come [write `SELECT * FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY \"window\" ORDER BY x DESC) AS rank FROM per_window) WHERE rank <= 10`]",
        ],
    );
    check(
        "SELECT user_id, now() AS n FROM events",
        &[
            "1:17 `now` differs from call to call, so a replay would not agree with the run that it repeats [use the event's own time or id]",
        ],
    );
    check(
        "SELECT random() AS n FROM events",
        &[
            "1:8 `random` differs from call to call, so a replay would not agree with the run that it repeats [use the event's own time or id]",
        ],
    );
    check(
        "SELECT uuid() AS n FROM events",
        &[
            "1:8 `uuid` differs from call to call, so a replay would not agree with the run that it repeats [use the event's own time or id]",
        ],
    );
    check(
        "SELECT current_date AS n FROM events",
        &[
            "1:8 `current_date` differs from call to call, so a replay would not agree with the run that it repeats [use the event's own time or id]",
        ],
    );
    check(
        "SELECT tumble(occurred_at, INTERVAL '1 minute') AS w, first_value(user_id) AS n FROM events GROUP BY 1",
        &[
            "1:55 `first_value` cannot be used: without an order its value depends on how the rows arrive; write `first_value(x ORDER BY …)`",
        ],
    );
    check(
        "SELECT tumble(occurred_at, INTERVAL '1 minute') AS w, any_value(user_id) AS n FROM events GROUP BY 1",
        &[
            "1:55 `any_value` cannot be used: its value depends on how the rows arrive; write `min(x)` or `max(x)`",
        ],
    );
    check(
        "SELECT uper(user_id) AS x FROM events",
        &["1:8 function `uper` not found [did you mean `upper`?]"],
    );
    check(
        "SELECT user AS x FROM events",
        &["1:8 `user` is a word of SQL's own [write `\"user\"` for the column]"],
    );
    check(
        "SELECT unnest([1,2]) AS x FROM events",
        &[
            "1:8 `unnest` makes many rows of one, which is not there yet [use the list as it is: `array_length(x)`, `array_has(x, y)`, `x[1]`]",
        ],
    );
    check(
        "SELECT substr(user_id) AS x FROM events",
        &["1:1 substring without for/from is not valid"],
    );
    check(
        "SELECT user_id FROM events QUALIFY row_number() OVER () = 1",
        &[
            "1:36 only rows of windows can be ranked: of others the best may be to come [write `SELECT * FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY \"window\" ORDER BY x DESC) AS rank FROM per_window) WHERE rank <= 10`]",
        ],
    );
}

#[test]
fn windows_of_every_kind() {
    check(
        "SELECT hop(occurred_at, INTERVAL '1 hour', INTERVAL '1 minute') AS w, count(*) AS n FROM events GROUP BY 1",
        &[
            "1:8 windows that slide by more than their size leave rows out [for example `hop(ts, INTERVAL '1 minute', INTERVAL '1 hour')`]",
        ],
    );
    check(
        "SELECT tumble_day(occurred_at, 'Asia/Shangai') AS w, count(*) AS n FROM events GROUP BY 1",
        &[
            "1:8 there is no time zone `Asia/Shangai`; did you mean `Asia/Shanghai`? [for example `tumble_day(ts, 'Asia/Shanghai')`]",
        ],
    );
    check(
        "SELECT tumble_week(occurred_at, 'UTC') AS w, count(*) AS n FROM events GROUP BY 1",
        &["1:8 `tumble_week` is written `tumble_week(ts, 'Asia/Shanghai', 'monday')`"],
    );
    check(
        "SELECT session(occurred_at, INTERVAL '5 minutes' + (occurred_at - occurred_at)) AS w, count(*) AS n FROM events GROUP BY 1",
        &[
            "1:8 but for the time, a window is given by constants [write a fixed width: `INTERVAL '1 minute'`, `INTERVAL '1 day'`]",
        ],
    );
    check(
        "SELECT hop(created_at, INTERVAL '1 minute', INTERVAL '1 hour') AS w, count(*) AS n FROM events GROUP BY 1",
        &[
            "1:12 `hop` is given `created_at`, not the event time of the source [write `hop(occurred_at, …)`]",
        ],
    );
    check(
        "SELECT tumble(w, INTERVAL '1 hour') AS h, sum(n) AS n FROM (SELECT session(occurred_at, INTERVAL '1 minute') AS w, count(*) AS n FROM events GROUP BY 1) GROUP BY 1",
        &[],
    );
}

#[test]
fn windows() {
    check(
        "SELECT tumble(occurred_at, INTERVAL '1 month') AS w, count(*) AS n FROM events GROUP BY 1",
        &[
            "1:8 a month has no fixed width; write `tumble_month(ts, 'UTC')` for calendar months [for example `tumble(ts, INTERVAL '1 minute')`]",
        ],
    );
    check(
        "SELECT tumble(occurred_at, INTERVAL '0 seconds') AS w, count(*) AS n FROM events GROUP BY 1",
        &["1:8 a window cannot be 0 wide [for example `tumble(ts, INTERVAL '1 minute')`]"],
    );
    check(
        "SELECT tumble(occurred_at, INTERVAL '-1 minute') AS w, count(*) AS n FROM events GROUP BY 1",
        &[
            "1:8 a window cannot be of negative width [for example `tumble(ts, INTERVAL '1 minute')`]",
        ],
    );
    check(
        "SELECT tumble(occurred_at, occurred_at - created_at) AS w, count(*) AS n FROM events GROUP BY 1",
        &["1:8 `tumble` is written `tumble(ts, INTERVAL '1 minute')`"],
    );
    check(
        "SELECT tumble(occurred_at, '1 minute') AS w, count(*) AS n FROM events GROUP BY 1",
        &["1:8 `tumble` is written `tumble(ts, INTERVAL '1 minute')`"],
    );
    check(
        "SELECT tumble(occurred_at) AS w, count(*) AS n FROM events GROUP BY 1",
        &["1:8 `tumble` is written `tumble(ts, INTERVAL '1 minute')`"],
    );
    check(
        "SELECT tumble(created_at, INTERVAL '1 minute') AS w, count(*) AS n FROM events GROUP BY 1",
        &[
            "1:15 `tumble` is given `created_at`, not the event time of the source [write `tumble(occurred_at, …)`]",
        ],
    );
    check(
        "SELECT tumble(occurred_at + INTERVAL '8 hours', INTERVAL '1 minute') AS w, count(*) AS n FROM events GROUP BY 1",
        &[
            "1:15 `tumble` is given a computed time, not the event time of the source [write `tumble(occurred_at, …)`]",
        ],
    );
    check(
        "SELECT tumble(t, INTERVAL '1 minute') AS w, count(*) AS n FROM (SELECT created_at AS t FROM events) GROUP BY 1",
        &[
            "1:8 `tumble` is given `t`, not the event time of the source [carry the event time through unchanged: `occurred_at` of `events`]",
        ],
    );
    check(
        "SELECT tumble(occurred_at, INTERVAL '1 minute') AS w, tumble(occurred_at, INTERVAL '1 hour') AS v, count(*) AS n FROM events GROUP BY 1, 2",
        &[
            "1:8 GROUP BY has two windows, and they would not close together [write one query for each window]",
        ],
    );
    check(
        "SELECT tumble(occurred_at, INTERVAL '1 minute') AS w FROM events",
        &[
            r#"1:8 `tumble` stands in GROUP BY by itself, and nowhere else [group by it and give it a name in SELECT; of the result take `"window"['start']`]"#,
        ],
    );
    check(
        "SELECT tumble(occurred_at, INTERVAL '1 minute')['start'] AS w, count(*) AS n FROM events GROUP BY 1",
        &[
            r#"1:8 `tumble` stands in GROUP BY by itself, and nowhere else [group by it and give it a name in SELECT; of the result take `"window"['start']`]"#,
        ],
    );
    check(
        "WITH m AS (SELECT tumble(occurred_at, INTERVAL '1 minute') AS w, count(*) AS n FROM events GROUP BY 1) SELECT max(n) AS x FROM m",
        &[
            "1:66 an aggregate without a window never has its final value [add a window to GROUP BY: `tumble(w, INTERVAL '1 minute')`; or give the query a `ttl`, and its changes come out]",
        ],
    );
    check(
        "WITH m AS (SELECT tumble(occurred_at, INTERVAL '1 minute') AS w, min(occurred_at) AS t, count(*) AS n FROM events GROUP BY 1) SELECT tumble(t, INTERVAL '1 hour') AS x, max(n) AS m FROM m GROUP BY 1",
        &["1:141 `tumble` is given `t`, not the event time of the source [write `tumble(w, …)`]"],
    );
    check(
        "SELECT user_id, count(*) AS n FROM events GROUP BY tumble(occurred_at, INTERVAL '1 minute')",
        &[
            "1:8 column `user_id` is neither in GROUP BY nor in an aggregate [add it to GROUP BY, or take one of its values: `min(user_id)`]",
        ],
    );
}

#[test]
fn names_and_types() {
    check(
        "SELECT revnue FROM orders",
        &[
            "1:8 column `revnue` not found in `orders` (have: order_id, userId, revenue, ordered_at) [did you mean `revenue`?]",
        ],
    );
    check(
        "SELECT userid FROM orders",
        &[
            r#"1:8 column `userid` not found in `orders` (have: order_id, userId, revenue, ordered_at) [names fold to lower case; write `"userId"`]"#,
        ],
    );
    check(
        r"SELECT o.revnue
 FROM orders o",
        &[
            "1:8 column `revnue` not found in `o` (have: order_id, userId, revenue, ordered_at) [did you mean `revenue`?]",
        ],
    );
    check(
        "SELECT nothing_like_it FROM orders",
        &[
            "1:8 column `nothing_like_it` not found in `orders` (have: order_id, userId, revenue, ordered_at)",
        ],
    );
    check(
        "SELECT user_id FROM evnts",
        &["1:21 nothing is called `evnts` (have: events, orders) [did you mean `events`?]"],
    );
    check(
        "SELECT user_id FROM lake.events",
        &[
            "1:21 `lake.events` is no relation: their names have one part [name a source, a step or a query of this file]",
        ],
    );
    check(
        "SELECT user_id + 1 AS x FROM events",
        &["1:8 cannot coerce arithmetic expression Utf8 + Int64 to valid types"],
    );
    check(
        "SELECT amount + user_id AS x FROM events",
        &["1:8 cannot coerce arithmetic expression Decimal128(18, 2) + Utf8 to valid types"],
    );
    check(
        "SELECT upper(user_id) FROM events",
        &[
            "1:8 column 1 of the result needs a name of letters, digits and `_` [give it one: `… AS name`]",
        ],
    );
    check(
        "SELECT user_id, user_id FROM events",
        &["1:8 two columns are named `user_id` [rename one of them: `AS other_user_id`]"],
    );
    check(
        r#"SELECT user_id AS "_offset" FROM events"#,
        &["1:8 the column name `_offset` is Tagflow's own [give it another: `… AS name`]"],
    );
    check(
        "SELECT user_id FROM q",
        &["1:21 a circle: `q` reads `q` [one of them must read something else]"],
    );
    check(
        "SELECT * FROM generate_series(1, 3)",
        &[
            "1:15 `generate_series(1, 3)` cannot be read from [name a source, a step or a query of this file]",
        ],
    );
    check(
        "SELECT user_id FROM events WHERE user_id",
        &["1:8 the condition `user_id` is a Utf8, neither true nor false"],
    );
    check(
        "SELECT user_id FROM events WHERE amount > 'abc'",
        &["1:43 cannot cast string 'abc' to value of Decimal128(38, 10) type"],
    );
    check(
        "SELECT $1 AS x FROM events",
        &["1:8 nothing stands for `$1` [write the value, or `${params.name}`]"],
    );
    check(
        "SELECT * FROM events TABLESAMPLE (10 PERCENT)",
        &[
            "1:15 `events TABLESAMPLE (10 PERCENT)` cannot be read from [name a source, a step or a query of this file]",
        ],
    );
    check(
        "SELECT CAST(user_id AS blob2) AS x FROM events",
        &["1:1 not there yet: unsupported SQL type blob2"],
    );
}

#[test]
fn what_cannot_be_read_is_not_blamed_on_its_readers() {
    let readers = program(&[("q", query("SELECT user_id FROM unreadable"))]);
    assert_eq!(faults(&readers), Vec::<String>::new());
    assert!(readers.relation("q").is_none());
}

#[test]
fn one_mistake_is_told_once() {
    let chain = program(&[
        ("a", query("SELECT revnue FROM orders")),
        ("b", query("SELECT revnue FROM a")),
    ]);
    assert_eq!(
        faults(&chain),
        [
            "a 1:8 column `revnue` not found in `orders` (have: order_id, userId, revenue, \
          ordered_at) [did you mean `revenue`?]"
        ]
    );
}

#[test]
fn circles_are_told_once() {
    let circle = program(&[
        ("a", query("SELECT user_id FROM b")),
        ("b", query("SELECT user_id FROM a")),
    ]);
    assert_eq!(
        faults(&circle),
        ["b 1:21 a circle: `a` reads `b` reads `a` [one of them must read something else]"]
    );
}
