use super::{one_query, problems};

#[test]
fn show() {
    for blocks in [
        one_query("SELECT user_id,\n  revnue\nFROM orders"),
        one_query("SELECT user_id FROM nowhere"),
        one_query("SELECT string_agg(user_id, ',') AS x, tumble(occurred_at, INTERVAL '1 minute') AS w FROM events GROUP BY 2"),
        "steps:\n  s: {from: events, where: \"usr_id = 'a'\", select: [upper(user_id), \"count(*) AS n\", \"now() AS t\"]}\nsinks: {out: {from: s, console: {}}}\n".into(),
        "steps:\n  s: {from: events, select: {a: \"user_id +\", b: \"x.y\"}}\nsinks: {out: {from: s, console: {}}}\n".into(),
        "sinks:\n  out: {from: events, parquet: {url: ./a, partition_by: {dt: \"date(window_start)\", user_id: \"upper(user_id)\"}, sort_by: [usr_id]}}\n".into(),
        "sinks:\n  events: {from: events, console: {}}\n  late: {from: events, console: {}}\n".into(),
        "queries:\n  a: SELECT user_id FROM b\n  b: SELECT user_id FROM a\nsinks: {out: {from: a, console: {}}}\n".into(),
        "steps:\n  s: {from: a}\nqueries:\n  a: SELECT user_id FROM s\nsinks: {out: {from: a, console: {}}}\n".into(),
        one_query("SELECT NULL AS x FROM events"), one_query("SELECT occurred_at - created_at AS x FROM events"),
        one_query("SELECT user_id AS window_start, tumble(occurred_at, INTERVAL '1 minute') AS \"window\" FROM events GROUP BY 1, 2"),
        one_query("SELECT user_id FROM events WHERE amount > 'abc'"),
        one_query("SELECT make_array(user_id) AS l, named_struct('a', user_id) AS s, arrow_cast(user_id, 'Dictionary(Int32, Utf8)') AS d FROM events"),
        one_query("SELECT tumble(occurred_at, INTERVAL '1 minute') AS w, array_agg(user_id) AS us, make_array(user_id) AS l, count(*) AS n FROM events GROUP BY 1, 3"),
    ] {
        println!("{blocks}");
        for problem in problems(&blocks) {
            println!("   -> {problem}");
        }
    }
}
