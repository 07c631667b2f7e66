//! Guards work: a condition in front of an expression that can fail excludes the rows on
//! which it would fail.

use std::sync::Arc;

use tagflow_engine::testing::Script;

use crate::{
    oracle::{answer, context, register},
    poison::{COLUMNS, EXPRESSIONS, columns, condition, quoted, rows},
    rig::Rig,
};

/// Queries whose guards prevent failures on every row, each with an equivalent query that
/// needs no guard.
const GUARDED: &[(&str, &str)] = &[
    (
        "SELECT k FROM e WHERE n <> 0 AND 10 / n > 1",
        "SELECT k FROM e WHERE 10 / nullif(n, 0) > 1",
    ),
    (
        "SELECT k FROM e WHERE k <> 'zs' AND CAST(s AS BIGINT) > 1",
        "SELECT k FROM e WHERE TRY_CAST(s AS BIGINT) > 1",
    ),
    (
        "SELECT k FROM e WHERE n = 0 OR 10 / n > 1",
        "SELECT k FROM e WHERE n = 0 OR 10 / nullif(n, 0) > 1",
    ),
    (
        "SELECT k, n <> 0 AND 10 / n > 1 AS v FROM e",
        "SELECT k, CASE WHEN n = 0 THEN false ELSE 10 / nullif(n, 0) > 1 END AS v FROM e",
    ),
    (
        "SELECT k, v FROM (SELECT k, n, 10 / n AS v FROM e WHERE n <> 0) WHERE v > 1",
        "SELECT k, v FROM (SELECT k, 10 / nullif(n, 0) AS v FROM e) WHERE v > 1",
    ),
    (
        "SELECT k, CASE WHEN n <> 0 THEN 10 / n ELSE -1 END AS v FROM e",
        "SELECT k, CASE WHEN n = 0 OR n IS NULL THEN -1 ELSE 10 / nullif(n, 0) END AS v FROM e",
    ),
    (
        "SELECT k, coalesce(nullif(n, 0), 10 / (n + 1)) AS v FROM e",
        "SELECT k, CASE WHEN n = 0 THEN 10 ELSE n END AS v FROM e",
    ),
    (
        "SELECT tumble(ts, INTERVAL '1 minute') AS w, count(*) AS c, \
         sum(10 / n) FILTER (WHERE n <> 0) AS v FROM e GROUP BY 1",
        "SELECT named_struct('start', date_trunc('minute', min(ts))) AS w, count(*) AS c, \
         sum(10 / nullif(n, 0)) AS v FROM e",
    ),
    (
        "SELECT tumble(ts, INTERVAL '1 minute') AS w, k, max(CAST(s AS BIGINT)) FILTER (WHERE k \
         <> 'zs') AS v FROM e GROUP BY 1, 2",
        "SELECT named_struct('start', date_trunc('minute', min(ts))) AS w, k, \
         max(TRY_CAST(s AS BIGINT)) AS v FROM e GROUP BY k",
    ),
];

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap()
}

/// A rig with `blocks` and the source `e`, which has all rows, or all but one.
fn rig(blocks: &str, without: Option<&str>) -> Rig {
    let columns = columns();
    let mut rig = Rig::new(format!(
        "name: poison\nsources:\n  e: {{files: {{url: /nowhere/e.ndjson}}, format: {{json: {{}}}}, \
         columns: {{{columns}}}, time: {{event_time: ts, delay: 0s}}}}\n{blocks}"
    ));
    let script = Arc::new(Script::default());
    script.push("p0", rows(without));
    rig.scripts.insert("e", script);
    rig
}

/// A line without its window, whose ends have another format.
fn without_window(line: &str) -> &str {
    match line.rsplit_once('}') {
        Some((_, rest)) => rest.trim_start_matches(','),
        None => line,
    }
}

#[test]
fn regression_guards_guard() {
    runtime().block_on(async {
        for (guarded, safe) in GUARDED {
            let sinks = "sinks: {o: {from: q, console: {}}}";
            let rig = rig(
                &format!("queries: {{q: {}}}\n{sinks}", quoted(guarded)),
                None,
            );
            let status = rig.start().await.unwrap_or_else(|error| {
                panic!("`{guarded}`: {}", error.chain());
            });
            let dead = rig.lines("errors.dead_letters").await;
            assert_eq!(
                (status.totals.dead_letter, dead),
                (0, Vec::new()),
                "`{guarded}`"
            );
            let context = context();
            register(&context, "e", COLUMNS, rows(None).iter());
            let mut expected = answer(&context, safe).await;
            let mut ours: Vec<String> = rig.lines("o").await;
            if guarded.contains("tumble") {
                // A sink writes a window as two columns.
                let cut = |line: &String| line.splitn(3, ',').nth(2).unwrap_or("").to_owned();
                ours = ours.iter().map(cut).collect();
                expected = expected
                    .iter()
                    .map(|it| without_window(it).to_owned())
                    .collect();
            }
            ours.sort();
            expected.sort();
            assert_eq!(ours, expected, "`{guarded}`");
            assert!(!ours.is_empty(), "`{guarded}`");
        }
    });
}

#[test]
fn regression_the_where_of_a_tag_guards_its_argument() {
    let define = "{a: {agg: sum, arg: 10 / n, where: n <> 0}, b: {agg: last, arg: CAST(s AS \
                  BIGINT), where: k <> 'zs'}}";
    let blocks = format!(
        "tags: {{from: e, key: k, define: {define}}}\nsinks: {{o: {{from: tags.changes, console: \
         {{}}}}}}\n"
    );
    runtime().block_on(async {
        let rig = rig(&blocks, None);
        let status = rig.start().await.unwrap();
        let lines = rig.lines("o").await;
        assert_eq!(status.totals.dead_letter, 0, "{lines:#?}");
        let of = |tag: &str| lines.iter().filter(|line| line.contains(tag)).count();
        assert!(of(",a,") > 10 && of(",b,") > 10, "{lines:#?}");
    });
}

#[test]
fn regression_a_failing_expression_of_a_tag_costs_its_event() {
    runtime().block_on(async {
        let mut problems = Vec::new();
        for (expr, bad) in EXPRESSIONS {
            let argument = quoted(&format!("CAST({expr} AS VARCHAR)"));
            let filter = quoted(&condition(expr));
            let steps = format!("{{one: {filter}, two: {filter}}}");
            let define = format!(
                "{{a: {{agg: last, arg: {argument}}}, b: {{agg: count, where: {filter}}}, c: \
                 {{funnel: {{within: 1h, steps: {steps}}}}}}}"
            );
            let blocks = format!(
                "tags: {{from: e, key: k, define: {define}}}\nsinks: {{o: {{from: tags.changes, \
                 console: {{}}}}}}\n"
            );
            let all = rig(&blocks, None);
            let good = rig(&blocks, Some(bad));
            let status = all
                .start()
                .await
                .unwrap_or_else(|error| panic!("{}", error.chain()));
            good.start().await.unwrap();
            let (ours, expected) = (all.lines("o").await, good.lines("o").await);
            let dead = all.lines("errors.dead_letters").await;
            let is_named = dead.iter().all(|line| line.contains(",tags.input,"));
            // Among changes of one instant, the last tag may differ; the keys must not.
            if ours != expected || dead.len() != 1 || !is_named || status.totals.dead_letter != 1 {
                problems.push(format!(
                    "`{expr}`: {ours:#?} in place of {expected:#?}, {dead:#?}"
                ));
            }
        }
        assert!(problems.is_empty(), "{}", problems.join("\n"));
    });
}

#[test]
fn regression_a_failing_rule_of_a_segment_leaves_the_key_where_it_is() {
    let tags = ["n", "s", "x", "big", "m", "d", "t", "p", "f", "g", "h"];
    let define = tags.map(|tag| format!("{tag}: {{agg: last, arg: {tag}}}"));
    let rules = EXPRESSIONS.iter().enumerate().map(|(number, (expr, _))| {
        let rule = condition(&expr.replace("concat(k, ", "concat(s, "));
        format!("s{number}: {{when: {}}}", quoted(&rule))
    });
    let rules: Vec<String> = rules.collect();
    let blocks = format!(
        "tags: {{from: e, key: k, define: {{{}}}}}\nsegments: {{{}}}\nsinks: {{o: {{from: \
         segments.changes, console: {{}}}}}}\n",
        define.join(", "),
        rules.join(", ")
    );
    runtime().block_on(async {
        let rig = rig(&blocks, None);
        let status = rig
            .start()
            .await
            .unwrap_or_else(|error| panic!("{}", error.chain()));
        let lines = rig.lines("o").await;
        let keys = rows(None).len();
        for (number, (expr, bad)) in EXPRESSIONS.iter().enumerate() {
            let segment = format!("s{number},");
            let entered = lines.iter().filter(|line| line.starts_with(&segment));
            let entered: Vec<&String> = entered.collect();
            let has_bad = entered
                .iter()
                .any(|line| line.starts_with(&format!("{segment}{bad},")));
            assert!(
                !has_bad && entered.len() == keys - 1,
                "`{expr}`: {entered:#?}"
            );
        }
        let dead = rig.lines("errors.dead_letters").await;
        assert!(dead.len() >= EXPRESSIONS.len(), "{dead:#?}");
        assert_eq!(status.totals.derived_dead_letter, dead.len() as u64);
        assert!(dead.iter().all(|line| line.contains(",tags,")), "{dead:#?}");
    });
}

#[test]
fn regression_a_pair_whose_condition_fails_is_no_match() {
    let sql = "SELECT a.k, b.k AS other FROM e a JOIN e b ON a.k = b.k AND b.ts BETWEEN a.ts AND \
               a.ts + INTERVAL '1 second' AND 10 / (a.n + b.n - 4) >= 0";
    let sinks = "sinks: {o: {from: q, console: {}}}";
    runtime().block_on(async {
        let rig = rig(&format!("queries: {{q: {}}}\n{sinks}", quoted(sql)), None);
        let status = rig
            .start()
            .await
            .unwrap_or_else(|error| panic!("{}", error.chain()));
        // For all keys other than `zn` and `null`, n is 2.
        assert_eq!(rig.lines("o").await, ["last,last", "more,more"]);
        assert_eq!(
            status.totals.derived_dead_letter,
            rows(None).len() as u64 - 4
        );
    });
}
