use super::{needs, program, query};

/// Plans `q`, requests all its columns, and compares the required plans.
fn check(sql: &str, expected: &str) {
    let program = program(&[("q", query(sql))]);
    let needs = needs(&program, &["q"]);
    let stream = needs.last().unwrap().stream.as_ref().unwrap();
    assert_eq!(stream.to_string().trim_end(), expected.trim(), "{sql}");
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
select window, campaign_id, impressions, clicks, reach, revenue
  tumble 1m of occurred_at by campaign_id: count(*) FILTER (WHERE (event_type = 'impression')), count(*) FILTER (WHERE (event_type = 'click')), count(DISTINCT user_id), sum(amount) FILTER (WHERE (event_type = 'purchase'))
    where campaign_id IS NOT NULL
      read events: user_id, event_type, campaign_id, amount, occurred_at
",
    );
}

#[test]
fn only_columns_that_are_read_are_scanned() {
    check(
        "SELECT user_id FROM events WHERE event_type = 'click'",
        "
where event_type = 'click'; select user_id
  read events: user_id, event_type
",
    );
    check(
        "SELECT * FROM orders",
        "
select order_id, \"userId\", revenue, ordered_at
  read orders: order_id, userId, revenue, ordered_at
",
    );
}

#[test]
fn filters_move_to_the_source() {
    check(
        "SELECT u FROM (SELECT user_id AS u, campaign_id AS c FROM events) WHERE c = 'c' || '1'",
        "
where campaign_id = 'c1'; select user_id AS u
  read events: user_id, campaign_id
",
    );
    check(
        "SELECT * FROM (SELECT user_id AS u, occurred_at AS t FROM events
                        UNION ALL SELECT \"userId\", ordered_at FROM orders) AS both
         WHERE u <> 'bot'",
        "
select u, t
  union all: 2 inputs
    where user_id <> 'bot'; select user_id AS u, occurred_at AS t
      read events: user_id, occurred_at
    where \"userId\" <> 'bot'; select \"userId\" AS u, ordered_at AS t
      read orders: userId, ordered_at
",
    );
}

#[test]
fn having_stays_after_the_aggregate() {
    check(
        "SELECT campaign_id, count(*) AS n FROM events
         GROUP BY tumble(occurred_at, INTERVAL '1 hour'), campaign_id
         HAVING count(*) > 1 AND campaign_id <> 'c1'",
        "
where count(*) > 1 AND campaign_id <> 'c1'; select campaign_id, n
  select campaign_id, count(*)
    tumble 1h of occurred_at by campaign_id: count(*)
      read events: campaign_id, occurred_at
",
    );
}

#[test]
fn windows_have_parts() {
    check(
        "SELECT \"window\"['start'] AS s, w.window.end AS e, n FROM (
           SELECT tumble(occurred_at, INTERVAL '1 day'), count(*) AS n FROM events GROUP BY 1
         ) AS w(\"window\", n)",
        "
select window.start AS s, window.end AS e, n
  select window, n
    tumble 1day of occurred_at: count(*)
      read events: occurred_at
",
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
        "
select w, user_id, n
  tumble 10s of ts by user_id: count(*)
    union all: 2 inputs
      select user_id, occurred_at AS ts
        read events: user_id, occurred_at
      select \"userId\" AS user_id, ordered_at AS ts
        read orders: userId, ordered_at
",
    );
}

#[test]
fn relations_deliver_what_is_read_of_them() {
    let program = program(&[
        (
            "clean",
            query("SELECT * FROM events WHERE campaign_id IS NOT NULL"),
        ),
        (
            "q",
            query(
                "SELECT tumble(occurred_at, INTERVAL '1 minute') AS w, count(user_id) AS n, \
                 max(amount) AS m FROM clean GROUP BY 1",
            ),
        ),
        ("few", query("SELECT n FROM q")),
    ]);
    let delivered: Vec<(String, String)> = needs(&program, &["few"])
        .into_iter()
        .map(|needs| (needs.relation, needs.columns.join(", ")))
        .collect();
    let expected = [
        ("events", "user_id, campaign_id, amount, occurred_at"),
        ("clean", "user_id, amount, occurred_at"),
        // The state of a window does not depend on its readers.
        ("q", "w, n, m"),
        ("few", "n"),
    ];
    let expected: Vec<(String, String)> = expected
        .iter()
        .map(|(name, columns)| ((*name).to_owned(), (*columns).to_owned()))
        .collect();
    assert_eq!(delivered, expected);
}

#[test]
fn joins_say_which_side_a_column_is_of() {
    check(
        r#"SELECT e.event_id, o.order_id FROM events e LEFT JOIN orders o
           ON e.user_id = o."userId" AND o.ordered_at <= e.occurred_at + INTERVAL '1 hour'
           AND o.ordered_at >= e.occurred_at AND o.revenue > e.amount"#,
        "
select event_id, order_id
  left join on e.user_id = o.userId; o.ordered_at 0s to 3600s after e.occurred_at; where o.ordered_at <= e.occurred_at + INTERVAL '1 HOURS' AND o.ordered_at >= e.occurred_at AND o.revenue > e.amount
    read events: event_id, user_id, amount, occurred_at
    read orders: order_id, userId, revenue, ordered_at
",
    );
}

#[test]
fn rankings_take_their_limit_from_the_filter() {
    check(
        r"SELECT user_id, r FROM (
             SELECT *, row_number() OVER (PARTITION BY w ORDER BY n DESC) AS r FROM (
               SELECT tumble(occurred_at, INTERVAL '1 minute') AS w, user_id, count(*) AS n
               FROM events GROUP BY 1, 2)) WHERE r < 4 AND n > 1",
        "
where r < 4 AND n > 1; select user_id, r
  select user_id, n, r
    top 3 of w by n desc
      select w, user_id, count(*) AS n
        tumble 1m of occurred_at by user_id: count(*)
          read events: user_id, occurred_at
",
    );
}
