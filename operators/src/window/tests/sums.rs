//! Sums that exceed the bounds of their types, temporarily or at the end.

use std::{collections::BTreeMap, sync::Arc};

use arrow::{
    array::{ArrayRef, AsArray, Decimal128Array, RecordBatch},
    compute::cast,
    datatypes::{
        DataType, Decimal128Type, Float64Type, Int64Type, Schema, TimestampMicrosecondType,
    },
};
use proptest::prelude::*;
use tagflow_engine::{
    operator::{LaneContext, Output, Progress},
    state::{LaneState, Restore, StatePart},
};

use super::{
    driver::Driver,
    oracle,
    rows::{PARTITIONS, Row, row},
};
use crate::window::Aggregation;

/// The sums of `x` in each window, by its start; `None` for null.
fn sums(results: &[RecordBatch]) -> BTreeMap<i64, Option<i64>> {
    let mut sums = BTreeMap::new();
    for rows in results {
        let starts = rows.column(0).as_struct().column(0);
        let starts = starts.as_primitive::<TimestampMicrosecondType>().values();
        let of = rows.column(1).as_primitive::<Int64Type>();
        sums.extend(starts.iter().copied().zip(of.iter()));
    }
    sums
}

fn extreme() -> impl Strategy<Value = i64> {
    prop_oneof![
        2 => prop_oneof![Just(i64::MAX), Just(i64::MIN), Just(i64::MAX - 1)],
        1 => -3..3_i64,
        1 => any::<i64>(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    /// For any order of rows, any lanes and any restarts. Each null has a dead letter.
    #[test]
    fn regression_sums_are_exact_or_null(
        rows in prop::collection::vec((0..PARTITIONS, 0..120_i64, extreme()), 1..40),
        chunk in 1..20_usize,
        lanes in 1..4_usize,
    ) {
        let rows: Vec<Row> = rows
            .into_iter()
            .map(|(partition, ts, x)| Row { x: Some(x), ..row(partition, ts, 0) })
            .collect();
        let mut driver = Driver::new(&oracle::plan(&[], &["sum(x)"]).unwrap(), 2, 1_000);
        for rows in rows.chunks(chunk) {
            driver.send(rows);
            driver.barrier();
            driver.restart(lanes);
        }
        driver.end();
        let mut exact: BTreeMap<i64, i128> = BTreeMap::new();
        for row in &rows {
            *exact.entry(row.start()).or_default() += i128::from(row.x.unwrap());
        }
        let exact: BTreeMap<i64, Option<i64>> =
            exact.into_iter().map(|(start, sum)| (start, sum.try_into().ok())).collect();
        let nulls = exact.values().filter(|sum| sum.is_none()).count();
        let letters = driver.dead_letters().iter().map(RecordBatch::num_rows);
        prop_assert_eq!(letters.sum::<usize>(), nulls);
        prop_assert_eq!(sums(driver.results()), exact);
    }
}

/// The single result of an aggregate over `values` of `x`.
fn of(aggregate: &str, values: &[i64]) -> ArrayRef {
    let mut driver = Driver::new(&oracle::plan(&[], &[aggregate]).unwrap(), 1, 1_000);
    for value in values {
        driver.send(&[Row {
            x: Some(*value),
            ..row(0, 0, 0)
        }]);
        driver.flush();
    }
    driver.end();
    assert_eq!(driver.results().len(), 1);
    let result = Arc::clone(driver.results()[0].column(1));
    let letters = driver.dead_letters().iter().map(RecordBatch::num_rows);
    assert_eq!(letters.sum::<usize>(), result.null_count(), "{aggregate}");
    result
}

#[test]
fn regression_sums_of_decimals_have_no_digit_more_than_their_type() {
    // The largest `x` as decimals of 38 digits, and of other types.
    let nines = "99999999999999999999999999999999999999";
    let largest = format!("CAST(x AS DECIMAL(38, 0)) * 0 + CAST('{nines}' AS DECIMAL(38, 0)) * x");
    let sum = |values: &[i64]| {
        let sum = of(&format!("sum({largest})"), values);
        let sum = sum.as_primitive::<Decimal128Type>();
        sum.iter().next().unwrap().map(|sum| sum.to_string())
    };
    assert_eq!(sum(&[1]).as_deref(), Some(nines));
    assert_eq!(sum(&[1, 1]), None);
    // The sum exceeds 128 bits, and fits again.
    assert_eq!(sum(&[1, 1, -1]).as_deref(), Some(nines));
    assert_eq!(sum(&[1, 1, 1, 1, -1, -1, -1, -1]).as_deref(), Some("0"));
    // A mean has four more digits after the point.
    let mean = of(&format!("avg({largest})"), &[1, 1]);
    assert_eq!(mean.null_count(), 1);
    let mean = of(&format!("avg({largest})"), &[1, -1]);
    assert_eq!(mean.as_primitive::<Decimal128Type>().value(0), 0);
}

#[test]
fn regression_other_sums_do_not_wrap_either() {
    let most = i64::MAX;
    for (aggregate, values, is_null) in [
        ("sum(DISTINCT x)", &[most, 1, 1][..], true),
        ("sum(DISTINCT x)", &[most, 1, 1, -1], false),
        ("sum(x) FILTER (WHERE x > 0)", &[most, -5, 1], true),
        ("sum(x) FILTER (WHERE x < 2)", &[most, 1], false),
        ("sum(CAST(x AS BIGINT UNSIGNED))", &[most, most, 1], false),
        ("sum(CAST(x AS BIGINT UNSIGNED))", &[most, most, 2], true),
        ("avg(DISTINCT CAST(x AS DECIMAL(38, 0)))", &[most, 1], false),
    ] {
        let result = of(aggregate, values);
        assert_eq!(result.null_count() == 1, is_null, "{aggregate} {values:?}");
    }
    let mean = of("avg(x)", &[most, most]);
    let mean = mean.as_primitive::<Float64Type>();
    assert_eq!(mean.values(), &[most as f64]);
}

/// Stored parts of an earlier build, whose sums had the type of their results.
fn as_of_before(parts: Vec<StatePart>, types: &[DataType]) -> Vec<StatePart> {
    let mut parts = parts;
    for part in &mut parts {
        let of_sums = |it: usize| part.rows.schema().field(it).data_type().is_decimal();
        let sums: Vec<usize> = (0..part.rows.num_columns())
            .filter(|it| of_sums(*it))
            .collect();
        if sums.is_empty() {
            continue;
        }
        let mut fields = part.rows.schema().fields().to_vec();
        let mut columns = part.rows.columns().to_vec();
        for (place, kind) in sums.into_iter().zip(types) {
            columns[place] = cast(&columns[place], kind).unwrap();
            fields[place] = Arc::new(fields[place].as_ref().clone().with_data_type(kind.clone()));
        }
        let schema = Arc::new(Schema::new(fields));
        part.rows = RecordBatch::try_new(schema, columns).unwrap();
    }
    parts
}

#[test]
fn sums_go_on_from_the_state_of_a_build_that_had_them_narrower() {
    let plan: Arc<Aggregation> = oracle::plan(&[], &["sum(x)", "sum(d)"]).unwrap();
    let mut driver = Driver::new(&plan, 1, 1_000);
    let values = |y| Row {
        x: Some(7),
        y: Some(y),
        ..row(0, 0, 0)
    };
    driver.send(&[values(150)]);
    driver.barrier();
    let types = [DataType::Int64, DataType::Decimal128(28, 2)];
    let parts = as_of_before(driver.stored_parts(0), &types);
    assert!(
        parts
            .iter()
            .any(|part| part.rows.schema().field(2).data_type() == &types[0])
    );
    let names: Vec<String> = parts.iter().map(|part| part.key.clone()).collect();

    let context = LaneContext {
        node: "q".into(),
        lane: 0,
        lanes: 1,
        memory_bytes: None,
    };
    let mut stage = plan.finalize()(&context).unwrap();
    let lanes = Restore::InPlace;
    stage.restore(LaneState { parts, lanes }).unwrap();
    // A widened part is stored again.
    let snapshot = stage.snapshot().unwrap();
    assert!(snapshot.removed.iter().all(|name| names.contains(name)));
    assert_eq!(snapshot.removed.len(), 1);
    let mut out = Output::default();
    stage.on_end(&mut out).unwrap();
    while stage.poll_output(&mut out).unwrap() != Progress::Done {}
    let results: Vec<RecordBatch> = out.take().into_iter().map(|(_, it)| it.records).collect();
    assert_eq!(
        sums(&results).values().copied().collect::<Vec<_>>(),
        [Some(7)]
    );
    let decimals = results[0].column(2).as_primitive::<Decimal128Type>();
    let expected = Decimal128Array::from(vec![150]).with_precision_and_scale(28, 2);
    assert_eq!(*decimals, expected.unwrap());
}

/// A definition contains the types of sums before they were wider, so that `diff` treats them as
/// equal.
#[test]
fn the_definition_of_a_sum_stays_what_it_was() {
    let plan = oracle::plan(&[], &["sum(x)", "sum(d)"]).unwrap();
    let definitions: Vec<String> = plan
        .definitions()
        .map(|(_, definition)| definition)
        .collect();
    let expected = ["sum(x); kept as Int64", "sum(d); kept as Decimal128(28, 2)"];
    assert_eq!(definitions, expected);
}
