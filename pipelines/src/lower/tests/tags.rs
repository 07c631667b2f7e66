use super::{lowered, problems, spec};
use crate::{explain, lower::definitions, sql::Program};

const TAGS: &str = r#"
steps:
  purchases: {from: events, where: "event_type = 'purchase'"}
tags:
  from: FROM
  key: user_id
  allowed_lateness: 2d
  define:
    orders: {agg: count, where: "event_type = 'purchase'", windows: [1d, 30d, lifetime]}
    spend: {agg: sum, arg: amount, where: "'purchase' = event_type", windows: [30d]}
    big: {agg: count, where: "amount > 100"}
    active_days: {agg: distinct, arg: "date(occurred_at)", windows: [28d]}
    last_order_at: {agg: last, arg: occurred_at, where: "event_type = 'purchase'"}
    days_since_order: {time_since: last_order_at, unit: d}
    recency: {score: days_since_order, cuts: [7.5, 30], reversed: true}
    interests: {top_k: {arg: campaign_id, k: 5, half_life: 14d}, weights: {view: 1, purchase: 5}}
    stage: {funnel: {within: 1d, steps: {viewed: "event_type = 'view'", paid: "event_type = 'purchase'"}}}
    abandoned: {absence: {after: "event_type = 'cart'", expect: "event_type = 'purchase'", same: [campaign_id], within: 30m}}
segments:
  high_value: {enter: "spend_30d >= 1000 and orders_30d >= 3", exit: "spend_30d < 800", hold_at_least: 1d}
  lapsing: {when: "orders_lifetime >= 2 and days_since_order between 30 and 90"}
sinks:
  changes: {from: tags.changes, console: {}}
  user_profile: {from: tags.current, parquet: {url: ./lake/profile, mode: snapshot}}
  newest: {from: tags.current, parquet: {url: ./lake/newest, mode: snapshot, every: 90m}}
  days: {from: tags.current, parquet: {url: ./lake/days, every: 1d, partition_by: {dt: date(as_of)}}}
  members: {from: segments.changes, console: {}}
"#;

/// The lines of an explanation between two headings.
fn part<'a>(text: &'a str, from: &str, to: &str) -> &'a str {
    let begin = text.find(from).unwrap();
    let end = begin + text[begin..].find(to).unwrap();
    &text[begin..end]
}

#[test]
fn tags_explained() {
    let lowered = lowered(&TAGS.replace("FROM", "events"));
    let text = explain::text("test", &lowered, 4);
    insta::assert_snapshot!(part(&text, "nodes\n", "  errors."));
    insta::assert_snapshot!("edges", part(&text, "edges\n", "  events (aside)"));
    insta::assert_snapshot!("tables", part(&text, "tables\n", "  dead_letters"));
}

#[test]
fn tags_are_of_columns_that_there_are() {
    let tags = |from: &str, key: &str, define: &str, rest: &str| {
        let text = format!(
            "tags:\n  from: {from}\n  key: {key}\n  define:\n{define}\n{rest}sinks: {{out: {{from: \
             tags.changes, console: {{}}}}}}\n"
        );
        format!("{text}\n{}\n", problems(&text).join("\n"))
    };
    let one = "    a: {agg: count}";
    let pairs = "queries: {pairs: \"SELECT e.user_id, e.occurred_at FROM events e JOIN orders o ON \
                 e.user_id = o.buyer AND o.ordered_at BETWEEN e.occurred_at AND e.occurred_at + \
                 INTERVAL '1 day'\"}\n";
    let hours = "queries: {hours: \"SELECT tumble(occurred_at, INTERVAL '1 hour') AS w, user_id \
                 FROM events GROUP BY 1, 2\"}\n";
    let kinds = r#"
    a: {agg: sum, arg: user_id}
    b: {agg: sum, arg: amuont, where: amount}
    c: {agg: max, arg: "[1, 2]"}
    d: {agg: last, arg: "count(*)"}
    e: {time_since: amounts, unit: d}
    amounts: {agg: last, arg: amount}
    f: {score: users, cuts: [1]}
    users: {agg: last, arg: user_id}
    g: {top_k: {arg: campaign, k: 5, half_life: 1d}, weights: {view: 1}, weigh_by: kind}
    h: {funnel: {within: 1d, steps: {one: event_type = 'a', two: event_typ = 'b', three: 1}}}
    i: {absence: {after: now() > occurred_at, expect: event_type = 'b', same: [nobody], within: 1h}}
    j: {agg: count, where: event_type = 'a' and }"#;
    let rules = "segments:\n  a: {enter: \"a > 1 and b > 2\", exit: a + 1}\n  b: {when: \"users = \
                 'x' and a > 'x'\"}\n  c: {when: count(a) > 1}\n";
    let all = [
        tags("events", "user", one, ""),
        tags("events", "amount", one, ""),
        tags("pairs", "user_id", one, pairs),
        tags("hours", "user_id", one, hours),
        tags("events", "user_id", kinds, ""),
        tags(
            "events",
            "user_id",
            "    a: {agg: count}\n    users: {agg: last, arg: user_id}",
            rules,
        ),
        tags(
            "orders",
            "buyer",
            "    a: {top_k: {arg: buyer, k: 1, half_life: 1d}, weights: {a: 1}}",
            "",
        ),
    ];
    insta::assert_snapshot!(all.join("\n"));
}

#[test]
fn a_query_cannot_read_tags() {
    let text = format!(
        "{}queries: {{q: SELECT * FROM tags.changes}}\n",
        TAGS.replace("FROM", "events")
    );
    let problems = problems(&text);
    assert_eq!(
        problems,
        [
            "28:28 queries.q: `tags.changes` cannot be read by a query in this version [write it \
             to a table: `from: tags.changes` in a sink]"
        ]
    );
}

/// The operator's node: its label with the names of its columns, and its state.
fn state(text: &str) -> (String, String) {
    let text = explain::text("test", &lowered(text), 1);
    let input = part(&text, "tags.input  (", "  tags  (").to_owned();
    let state = part(&text, "  tags  (", "  tags.changes  (");
    let (_, state) = state.split_once("state: ").unwrap();
    (input, state.trim().to_owned())
}

#[test]
fn state_goes_by_what_makes_it() {
    let of_source = TAGS.replace("FROM", "events");
    let of_step = TAGS.replace("FROM", "purchases");
    // A different, rewritten or removed tag does not affect the others.
    let (input, is) = state(&of_source);
    let reworded = of_source.replace("\"event_type = 'view'\"", "\"(event_type) ='view'\"");
    assert_eq!(state(&reworded), (input.clone(), is.clone()));
    let less = of_source.replace("    big: {agg: count, where: \"amount > 100\"}\n", "");
    let (fewer, same) = state(&less);
    assert_eq!(same, is);
    assert!(
        input.contains("amount > ") && !fewer.contains("amount > "),
        "{input}"
    );
    // The filter of a step is part of its rows' definition.
    let (input, is) = state(&of_step);
    let (other, changed) = state(&of_step.replacen("'purchase'", "'sale'", 1));
    assert_ne!(is, changed);
    assert_ne!(input, other);
    let selected = |amount: &str| {
        let select = format!(
            "from: events, select: {{user_id: user_id, event_id: event_id, event_type: \
             event_type, campaign_id: campaign_id, occurred_at: occurred_at, amount: {amount}}}"
        );
        state(&of_step.replacen("from: events", &select, 1))
    };
    let ((input, is), (other, same)) = (selected("amount"), selected("amount / 100"));
    assert_eq!(is, same);
    let names = |text: &str| -> Vec<String> {
        let names = text.split("select ").nth(1).unwrap().split(", ");
        names.map(str::to_owned).collect()
    };
    let (input, other) = (names(&input), names(&other));
    let kept: Vec<_> = input.iter().filter(|name| other.contains(name)).collect();
    let of_amount = input.iter().filter(|name| name.starts_with("amount "));
    assert_eq!(of_amount.count(), 2, "{input:?}");
    assert_eq!(kept.len(), input.len() - 2, "{input:?} {other:?}");
}

#[test]
fn keys_that_come_straight_from_a_source_are_not_empty() {
    let columns = |steps: &str, from: &str, key: &str| {
        let text = format!(
            "{steps}\ntags: {{from: {from}, key: {key}, define: {{a: {{agg: count}}}}}}\nsinks: {{out: \
             {{from: tags.changes, blackhole: {{}}}}}}\n"
        );
        let spec = spec(&text);
        let definitions = definitions::definitions(&spec);
        let program = Program::plan(&definitions, |_| false);
        program.carried_from(from, key)
    };
    let of = |source: &str, column: &str| (source.to_owned(), column.to_owned());
    assert_eq!(columns("", "events", "user_id"), [of("events", "user_id")]);
    let steps = "steps:\n  a: {from: events, dedupe: {key: [event_id], within: 1h}, where: amount > \
                 1, select: {who: user_id, shouted: upper(user_id), at: occurred_at}}\nqueries:\n  \
                 b: SELECT who AS person, at FROM a UNION ALL SELECT buyer, ordered_at FROM orders";
    assert_eq!(columns(steps, "a", "who"), [of("events", "user_id")]);
    assert_eq!(columns(steps, "a", "shouted"), []);
    assert_eq!(
        columns(steps, "b", "person"),
        [of("events", "user_id"), of("orders", "buyer")]
    );
}
