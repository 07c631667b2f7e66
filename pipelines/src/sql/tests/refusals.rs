use super::{faults, program, query};

/// Everything that is wrong with the query `q`.
fn check(sql: &str, expected: &[&str]) {
    assert_eq!(faults(&program(&[("q", query(sql))])), expected, "{sql}");
}

#[test]
fn all() {
    for sql in [
        "", "SELEC 1", "SELECT (1 FROM events", "SELECT 'a FROM events",
        "SELECT user_id FROM events; SELECT 1 FROM events",
        "INSERT INTO events SELECT 1", "CREATE TABLE t (a INT)", "DELETE FROM events", "DROP TABLE events", "EXPLAIN SELECT 1 FROM events",
        "SELECT user_id FROM events ORDER BY user_id",
        "SELECT user_id FROM events LIMIT 3",
        "SELECT user_id FROM events FETCH FIRST 3 ROWS ONLY",
        "SELECT count(*) AS n FROM events",
        "SELECT campaign_id, count(*) AS n\nFROM events GROUP BY campaign_id",
        "SELECT e.user_id FROM events e JOIN orders o ON e.user_id = o.\"userId\"",
        "SELECT 1 AS x FROM events, orders",
        "SELECT user_id, row_number() OVER (PARTITION BY user_id) AS n FROM events",
        "SELECT DISTINCT user_id FROM events",
        "SELECT user_id FROM events WHERE user_id IN (SELECT \"userId\" FROM orders)",
        "SELECT user_id FROM events WHERE EXISTS (SELECT 1 FROM orders)",
        "SELECT (SELECT max(revenue) FROM orders) AS m FROM events",
        "SELECT user_id FROM events UNION SELECT \"userId\" FROM orders",
        "SELECT user_id FROM events INTERSECT SELECT \"userId\" FROM orders",
        "SELECT user_id FROM events EXCEPT SELECT \"userId\" FROM orders",
        "WITH RECURSIVE r AS (SELECT user_id FROM events UNION ALL SELECT user_id FROM r) SELECT user_id FROM r",
        "VALUES (1)", "SELECT 1 AS one", "SELECT * FROM (VALUES (1)) AS v",
        "SELECT user_id, now() AS n FROM events", "SELECT random() AS n FROM events", "SELECT uuid() AS n FROM events", "SELECT current_date AS n FROM events",
        "SELECT campaign_id, count(*) AS n FROM events GROUP BY ROLLUP (campaign_id)",
        "SELECT campaign_id, count(*) AS n FROM events GROUP BY GROUPING SETS ((campaign_id), ())",
        "SELECT tumble(occurred_at, INTERVAL '1 minute') AS w, first_value(user_id) AS n FROM events GROUP BY 1",
        "SELECT tumble(occurred_at, INTERVAL '1 minute') AS w, any_value(user_id) AS n FROM events GROUP BY 1",
        "SELECT tumble(occurred_at, INTERVAL '1 month') AS w, count(*) AS n FROM events GROUP BY 1",
        "SELECT tumble(occurred_at, INTERVAL '0 seconds') AS w, count(*) AS n FROM events GROUP BY 1",
        "SELECT tumble(occurred_at, INTERVAL '-1 minute') AS w, count(*) AS n FROM events GROUP BY 1",
        "SELECT tumble(occurred_at, occurred_at - created_at) AS w, count(*) AS n FROM events GROUP BY 1",
        "SELECT tumble(occurred_at, '1 minute') AS w, count(*) AS n FROM events GROUP BY 1",
        "SELECT tumble(occurred_at) AS w, count(*) AS n FROM events GROUP BY 1",
        "SELECT tumble(created_at, INTERVAL '1 minute') AS w, count(*) AS n FROM events GROUP BY 1",
        "SELECT tumble(occurred_at + INTERVAL '8 hours', INTERVAL '1 minute') AS w, count(*) AS n FROM events GROUP BY 1",
        "SELECT tumble(t, INTERVAL '1 minute') AS w, count(*) AS n FROM (SELECT created_at AS t FROM events) GROUP BY 1",
        "SELECT tumble(occurred_at, INTERVAL '1 minute') AS w, tumble(occurred_at, INTERVAL '1 hour') AS v, count(*) AS n FROM events GROUP BY 1, 2",
        "SELECT tumble(occurred_at, INTERVAL '1 minute') AS w FROM events",
        "SELECT tumble(occurred_at, INTERVAL '1 minute')['start'] AS w, count(*) AS n FROM events GROUP BY 1",
        "SELECT hop(occurred_at, INTERVAL '1 minute', INTERVAL '1 hour') AS w, count(*) AS n FROM events GROUP BY 1",
        "SELECT session(occurred_at, INTERVAL '1 minute') AS w, count(*) AS n FROM events GROUP BY 1",
        "WITH m AS (SELECT tumble(occurred_at, INTERVAL '1 minute') AS w, count(*) AS n FROM events GROUP BY 1) SELECT max(n) AS x FROM m",
        "WITH m AS (SELECT tumble(occurred_at, INTERVAL '1 minute') AS w, min(occurred_at) AS t, count(*) AS n FROM events GROUP BY 1) SELECT tumble(t, INTERVAL '1 hour') AS x, max(n) AS m FROM m GROUP BY 1",
        "SELECT revnue FROM orders", "SELECT userid FROM orders", "SELECT o.revnue\n FROM orders o", "SELECT nothing_like_it FROM orders",
        "SELECT user_id FROM evnts", "SELECT user_id FROM lake.events", "SELECT uper(user_id) AS x FROM events",
        "SELECT user_id + 1 AS x FROM events", "SELECT amount + user_id AS x FROM events", "SELECT upper(user_id) FROM events", "SELECT user_id, user_id FROM events", "SELECT user_id AS \"_offset\" FROM events",
        "SELECT user_id, count(*) AS n FROM events GROUP BY tumble(occurred_at, INTERVAL '1 minute')",
        "SELECT user_id FROM q", "SELECT unnest([1,2]) AS x FROM events", "SELECT * FROM generate_series(1, 3)", "SELECT user_id FROM events WHERE user_id",
        "SELECT user_id FROM events WHERE amount > 'abc'", "SELECT $1 AS x FROM events", "SELECT user_id FROM events WHERE count(*) > 1", "TABLE events", "SELECT * FROM events TABLESAMPLE (10 PERCENT)",
        "SELECT NULL AS x FROM events","SELECT substr(user_id) AS x FROM events", "SELECT CAST(user_id AS blob2) AS x FROM events",
        "SELECT e.user_id FROM events e ORDER BY 1 LIMIT 2",
        "FROM events |> WHERE user_id = 'a'", "SELECT user_id FROM events QUALIFY row_number() OVER () = 1",
    ] {
        println!("{sql}");
        for fault in faults(&program(&[("q", query(sql))])) {
            println!("    {fault}");
        }
    }
}
