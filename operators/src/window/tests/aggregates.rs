//! Every default aggregate of `DataFusion`: its results over lanes and restarts equal those in
//! batch, or it is refused.

use std::{collections::BTreeSet, sync::Arc};

use datafusion::{
    functions_aggregate::all_default_aggregate_functions, logical_expr::expr::AggregateFunction,
    prelude::col,
};
use proptest::{
    strategy::{Strategy, ValueTree},
    test_runner::TestRunner,
};

use super::{
    driver::Driver,
    oracle::{self, Tolerance, assert_same},
    rows::{Row, rows},
};
use crate::window::check;

/// An aggregate, its equivalent in batch, and the tolerance.
pub(super) struct Case {
    pub(super) sql: &'static str,
    pub(super) oracle: &'static str,
    pub(super) tolerance: Tolerance,
}

const fn exact(sql: &'static str) -> Case {
    as_in(sql, sql)
}

const fn as_in(sql: &'static str, oracle: &'static str) -> Case {
    Case {
        sql,
        oracle,
        tolerance: Tolerance::Exact,
    }
}

const fn rounded(sql: &'static str) -> Case {
    Case {
        sql,
        oracle: sql,
        tolerance: Tolerance::Rounding,
    }
}

const fn within(slack: f64, sql: &'static str) -> Case {
    Case {
        sql,
        oracle: sql,
        tolerance: Tolerance::Within(slack),
    }
}

pub(super) const CASES: &[Case] = &[
    exact("count(*)"),
    exact("count(x)"),
    exact("count(x) FILTER (WHERE b)"),
    exact("count(*) FILTER (WHERE s > 'm' AND x > 0)"),
    exact("count(DISTINCT x)"),
    exact("count(DISTINCT s)"),
    exact("count(DISTINCT s) FILTER (WHERE b)"),
    exact("sum(x)"),
    exact("sum(f)"),
    exact("sum(d)"),
    exact("sum(d) FILTER (WHERE x > 3)"),
    exact("sum(DISTINCT x)"),
    exact("sum(x + 2 * y)"),
    exact("min(x)"),
    exact("max(f)"),
    exact("min(s)"),
    exact("max(s) FILTER (WHERE b)"),
    exact("max(d)"),
    exact("min(ts)"),
    exact("max(b)"),
    exact("avg(x)"),
    exact("avg(d)"),
    exact("avg(f) FILTER (WHERE b)"),
    exact("median(x)"),
    exact("median(DISTINCT f)"),
    exact("percentile_cont(f, 0.25)"),
    rounded("stddev(x)"),
    rounded("stddev_pop(f)"),
    rounded("var_samp(x)"),
    rounded("var_pop(f) FILTER (WHERE b)"),
    rounded("covar_samp(x, y)"),
    rounded("covar_pop(x, f)"),
    within(1e-6, "corr(x, y)"),
    within(1e-6, "regr_slope(x, y)"),
    within(1e-6, "regr_intercept(x, y)"),
    exact("regr_count(x, y)"),
    within(1e-6, "regr_r2(x, y)"),
    rounded("regr_avgx(x, y)"),
    rounded("regr_avgy(x, y)"),
    rounded("regr_sxx(x, y)"),
    rounded("regr_syy(x, y)"),
    rounded("regr_sxy(x, y)"),
    exact("approx_distinct(s)"),
    exact("approx_distinct(x)"),
    within(2.0, "approx_median(f)"),
    within(2.0, "approx_percentile_cont(0.9) WITHIN GROUP (ORDER BY f)"),
    within(
        2.0,
        "approx_percentile_cont_with_weight(1, 0.5) WITHIN GROUP (ORDER BY f)",
    ),
    exact("bit_and(x)"),
    exact("bit_or(x)"),
    exact("bit_xor(x)"),
    exact("min(DISTINCT s)"),
    exact("avg(DISTINCT x)"),
    exact("avg(DISTINCT d)"),
    exact("percentile_cont(DISTINCT f, 0.25)"),
    exact("bit_or(DISTINCT x)"),
    rounded("var_samp(DISTINCT x)"),
    rounded("var_pop(DISTINCT f)"),
    exact("bool_and(DISTINCT b)"),
    as_in(
        "last_value(DISTINCT y ORDER BY o)",
        "last_value(y ORDER BY o, y)",
    ),
    exact("approx_distinct(DISTINCT s)"),
    exact("bool_and(b)"),
    exact("bool_or(x > 0)"),
    as_in("first_value(x ORDER BY o)", "first_value(x ORDER BY o, x)"),
    as_in(
        "first_value(s ORDER BY o DESC)",
        "first_value(s ORDER BY o DESC, s)",
    ),
    as_in(
        "first_value(x ORDER BY o) FILTER (WHERE b)",
        "first_value(x ORDER BY o, x) FILTER (WHERE b)",
    ),
    as_in(
        "first_value(s ORDER BY ts) IGNORE NULLS",
        "first_value(s ORDER BY ts, s) IGNORE NULLS",
    ),
    as_in("last_value(x ORDER BY o)", "last_value(x ORDER BY o, x)"),
    as_in("last_value(d ORDER BY ts)", "last_value(d ORDER BY ts, d)"),
    as_in("last_value(b ORDER BY o)", "last_value(b ORDER BY o, b)"),
    as_in("array_agg(x)", "array_agg(x ORDER BY x)"),
    as_in(
        "array_agg(s ORDER BY o DESC)",
        "array_agg(s ORDER BY o DESC, s)",
    ),
    as_in("array_agg(DISTINCT s)", "array_agg(DISTINCT s ORDER BY s)"),
    exact("array_agg(DISTINCT x ORDER BY x DESC)"),
    as_in(
        "array_agg(d) FILTER (WHERE b)",
        "array_agg(d ORDER BY d) FILTER (WHERE b)",
    ),
    as_in("string_agg(s, ',')", "string_agg(s, ',' ORDER BY s)"),
    as_in(
        "string_agg(s, ',' ORDER BY o)",
        "string_agg(s, ',' ORDER BY o, s)",
    ),
    as_in(
        "string_agg(DISTINCT s, '|')",
        "string_agg(DISTINCT s, '|' ORDER BY s)",
    ),
];

pub(super) fn some_rows() -> Vec<Row> {
    let mut runner = TestRunner::deterministic();
    let rows = rows(600, 40);
    loop {
        let rows = rows.new_tree(&mut runner).unwrap().current();
        if rows.len() > 400 {
            return rows;
        }
    }
}

#[test]
fn aggregates_answer_as_in_batch_over_lanes_and_restarts() {
    let rows = some_rows();
    let mut failures = Vec::new();
    for case in CASES {
        let run = || {
            let aggregation = oracle::plan(&["campaign"], &[case.sql]).unwrap();
            let mut driver = Driver::new(&aggregation, 2, 40);
            for (i, chunk) in rows.chunks(37).enumerate() {
                driver.send(chunk);
                match i % 4 {
                    1 => driver.barrier(),
                    3 => {
                        driver.barrier();
                        driver.restart(1 + i % 3);
                    }
                    _ => {}
                }
            }
            driver.end();
            assert_eq!(driver.counts().late, 0);
            let expected = oracle::batch(&rows, &["campaign"], &[case.oracle]);
            assert_same(driver.results(), &expected, 1, &[case.tolerance]);
        };
        if std::panic::catch_unwind(run).is_err() {
            failures.push(case.sql);
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

#[test]
fn every_default_aggregate_is_tested_or_refused() {
    let call = |case: &Case| case.sql.split('(').next().unwrap().to_owned();
    let tested: BTreeSet<String> = CASES.iter().map(call).collect();
    for function in all_default_aggregate_functions() {
        let names = std::iter::once(function.name()).chain(function.aliases().iter().map(|s| &**s));
        let is_tested = names.clone().any(|name| tested.contains(name));
        let order = vec![col("o").sort(true, false)];
        let call = AggregateFunction::new_udf(
            Arc::clone(&function),
            vec![col("x")],
            false,
            None,
            order,
            None,
        );
        assert_eq!(check(&call).is_ok(), is_tested, "{}", function.name());
    }
}

#[test]
fn refused_aggregates_say_why() {
    for (sql, reason) in [
        ("first_value(x)", "first_value(x ORDER BY …)"),
        ("last_value(x)", "depends on how the rows arrive"),
        ("any_value(x)", "min(x)"),
        ("corr(DISTINCT x, y)", "`DISTINCT`"),
        ("nth_value(x, 2 ORDER BY o)", "array_agg(x ORDER BY …)[n]"),
        (
            "array_agg(DISTINCT x ORDER BY o)",
            "cannot plan the aggregate",
        ),
    ] {
        let error = oracle::plan(&[], &[sql]).unwrap_err();
        assert!(error.chain().contains(reason), "{sql}: {}", error.chain());
    }
}
