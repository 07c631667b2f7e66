use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, BooleanArray, Decimal128Array, Int32Array, Int64Array, StringArray},
    datatypes::{DataType, Int64Type},
    record_batch::RecordBatch,
};
use datafusion::{
    common::{DFSchema, ToDFSchema},
    logical_expr::{Expr, cast, when},
    prelude::{col, lit},
};

use super::{Failure, can_fail, condition, evaluate, evaluate_where, holds, physical, sql};

fn rows() -> RecordBatch {
    let decimals = Decimal128Array::from(vec![10_i128.pow(37) * 9, 1, 2, 3]);
    let columns: [(&str, ArrayRef); 5] = [
        (
            "n",
            Arc::new(Int64Array::from(vec![Some(2), Some(0), None, Some(5)])),
        ),
        (
            "big",
            Arc::new(Int64Array::from(vec![i64::MAX, i64::MIN, 1, 2])),
        ),
        (
            "i",
            Arc::new(Int32Array::from(vec![i32::MAX, i32::MIN, 1, 2])),
        ),
        ("s", Arc::new(StringArray::from(vec!["1", "x", "3", "4"]))),
        (
            "d",
            Arc::new(decimals.with_precision_and_scale(38, 0).unwrap()),
        ),
    ];
    let columns = columns.map(|(name, values)| (name, values, true));
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

fn schema() -> DFSchema {
    rows().schema().to_dfschema().unwrap()
}

/// The rows on which `expr` fails.
fn failing(expr: &Expr) -> Vec<usize> {
    let (expr, rows) = (physical(expr, &schema()).unwrap(), rows());
    assert!(can_fail(&expr, rows.schema_ref()), "`{}`", sql(&expr));
    let fails = |row: &usize| match evaluate(&expr, &rows.slice(*row, 1)) {
        Ok(_) => false,
        Err(Failure::Row(_)) => true,
        Err(Failure::Job(error)) => panic!("{}", error.chain()),
    };
    (0..rows.num_rows()).filter(fails).collect()
}

#[test]
fn regression_integer_arithmetic_does_not_wrap() {
    assert_eq!(failing(&(col("big") + lit(1_i64))), [0]);
    assert_eq!(failing(&(col("big") - lit(1_i64))), [1]);
    assert_eq!(failing(&(col("big") * lit(2_i64))), [0, 1]);
    assert_eq!(failing(&(col("i") + col("i"))), [0, 1]);
    assert_eq!(failing(&Expr::Negative(Box::new(col("big")))), [1]);
    assert_eq!(failing(&cast(col("big"), DataType::Int32)), [0, 1]);
    assert_eq!(failing(&(lit(10_i64) / col("n"))), [1]);
    assert_eq!(failing(&(lit(10_i64) % col("n"))), [1]);
}

#[test]
fn regression_decimals_have_no_more_digits_than_their_type() {
    let two = cast(lit(2), DataType::Decimal128(38, 0));
    assert_eq!(failing(&(col("d") + col("d"))), [0]);
    assert_eq!(failing(&(col("d") * two)), [0]);
}

#[test]
fn regression_the_left_side_guards_the_right_one() {
    let rows = rows();
    let is_small = || (lit(10_i64) / col("n")).lt(lit(4_i64));
    let guarded = condition(&col("n").not_eq(lit(0_i64)).and(is_small()), &schema()).unwrap();
    let expected = BooleanArray::from(vec![false, false, false, true]);
    assert_eq!(holds(&guarded, &rows).unwrap(), expected);

    let guarded = physical(&col("n").eq(lit(0_i64)).or(is_small()), &schema()).unwrap();
    let values = evaluate(&guarded, &rows).unwrap();
    let expected = BooleanArray::from(vec![Some(false), Some(true), None, Some(true)]);
    assert_eq!(values.as_any().downcast_ref(), Some(&expected));

    // A null on the left leaves nothing to decide in a condition, and does in a value.
    let of_null = lit(datafusion::common::ScalarValue::Boolean(None)).and(is_small());
    assert_eq!(
        holds(&condition(&of_null, &schema()).unwrap(), &rows)
            .unwrap()
            .true_count(),
        0
    );
    assert!(evaluate(&physical(&of_null, &schema()).unwrap(), &rows).is_err());
}

#[test]
fn guards_guard_within_each_other() {
    let parsed = || cast(col("s"), DataType::Int64);
    let inner = col("s")
        .not_eq(lit("x"))
        .and((lit(12_i64) / parsed()).gt(lit(3_i64)));
    let all = col("n").is_not_null().and(inner);
    let holds = holds(&condition(&all, &schema()).unwrap(), &rows()).unwrap();
    assert_eq!(holds, BooleanArray::from(vec![true, false, false, false]));
}

#[test]
fn a_case_guards_its_branches() {
    let safe = when(col("n").gt(lit(0_i64)), lit(10_i64) / col("n"))
        .end()
        .unwrap();
    assert_eq!(failing(&safe), Vec::<usize>::new());
}

#[test]
fn values_that_nobody_wants_are_not_computed() {
    let expr = physical(&(lit(10_i64) / col("n")), &schema()).unwrap();
    let wanted = BooleanArray::from(vec![true, false, false, true]);
    let values = evaluate_where(&expr, &rows(), &wanted).unwrap();
    let values = values
        .as_any()
        .downcast_ref::<arrow::array::PrimitiveArray<Int64Type>>();
    assert_eq!(
        values,
        Some(&Int64Array::from(vec![Some(5), None, None, Some(2)]))
    );
    let none = BooleanArray::from(vec![false; 4]);
    assert_eq!(
        evaluate_where(&expr, &rows(), &none).unwrap().null_count(),
        4
    );
}

#[test]
fn expressions_with_a_value_for_every_row_are_known() {
    let schema = schema();
    for total in [
        col("s").eq(lit("a")).and(col("n").gt(lit(1_i64))),
        cast(col("i"), DataType::Int64),
        cast(col("n"), DataType::Float64) / lit(0.0),
        col("s").like(lit("a%")).or(col("n").is_null()),
        col("n").in_list(vec![lit(1_i64), lit(2_i64)], false),
    ] {
        let expr = physical(&total, &schema).unwrap();
        assert!(!can_fail(&expr, schema.as_arrow()), "`{total}`");
    }
}

#[test]
fn a_guard_reads_as_it_was_written() {
    let guarded = col("n")
        .not_eq(lit(0_i64))
        .and((lit(10_i64) / col("n")).gt(lit(1_i64)));
    let expr = physical(&guarded, &schema()).unwrap();
    assert_eq!(sql(&expr), "n != 0 AND 10 / n > 1");
}
