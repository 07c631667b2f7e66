use super::{needs, program, query};

/// Plans `q`, asks for all of its columns, and compares what must run.
fn check(sql: &str, expected: &str) {
    let program = program(&[("q", query(sql))]);
    let needs = needs(&program, &["q"]);
    let stream = needs.last().unwrap().stream.as_ref().unwrap();
    assert_eq!(stream.to_string().trim_end(), expected.trim());
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
        "",
    );
}

#[test]
fn only_columns_that_are_read_are_scanned() {
    check("SELECT user_id FROM events WHERE event_type = 'click'", "");
    check("SELECT * FROM orders", "");
}

#[test]
fn filters_move_to_the_source() {
    check(
        "SELECT u FROM (SELECT user_id AS u, campaign_id AS c FROM events) WHERE c = 'c' || '1'",
        "",
    );
    check(
        "SELECT * FROM (SELECT user_id AS u, occurred_at AS t FROM events
                        UNION ALL SELECT \"userId\", ordered_at FROM orders) AS both
         WHERE u <> 'bot'",
        "",
    );
}

#[test]
fn having_stays_after_the_aggregate() {
    check(
        "SELECT campaign_id, count(*) AS n FROM events
         GROUP BY tumble(occurred_at, INTERVAL '1 hour'), campaign_id
         HAVING count(*) > 1 AND campaign_id <> 'c1'",
        "",
    );
}

#[test]
fn windows_have_parts() {
    check(
        "SELECT \"window\"['start'] AS s, w.window.end AS e, n FROM (
           SELECT tumble(occurred_at, INTERVAL '1 day'), count(*) AS n FROM events GROUP BY 1
         ) AS w(\"window\", n)",
        "",
    );
}

#[test]
fn unions_and_common_tables() {
    check(
        "WITH actions AS (
           SELECT user_id, occurred_at AS ts FROM events
           UNION ALL SELECT \"userId\", ordered_at FROM orders)
         SELECT tumble(ts, INTERVAL '10 seconds') AS w, user_id, count(*) AS n
         FROM actions GROUP BY w, user_id",
        "",
    );
}
