//! Wraps `DataFusion`'s physical expressions.
//!
//! Expressions are evaluated for whole batches. They differ from `DataFusion`'s in the treatment of
//! a row without a value: arithmetic and times are checked (`checked`), the left side of an `AND`
//! or `OR` guards the right one (`guarded`), and an error contains the expression that failed
//! (`failure`).

mod checked;
mod failure;
mod fallible;
mod guarded;
mod sql_text;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, BooleanArray, UInt32Array, new_null_array},
    compute::{filter_record_batch, prep_null_mask_filter, take},
    datatypes::{DataType, Schema},
    record_batch::RecordBatch,
};
use datafusion::{
    common::{
        DFSchema,
        tree_node::{Transformed, TreeNode},
    },
    error::DataFusionError,
    logical_expr::{Expr, Operator, physical_planning_context::PhysicalPlanningContext},
    physical_expr::{
        ScalarFunctionExpr, create_physical_expr,
        execution_props::ExecutionProps,
        expressions::{BinaryExpr, Column, NegativeExpr},
    },
    physical_plan::PhysicalExpr,
};
use tagflow_engine::{Error, Result};

use checked::{Check, Checked};
use failure::is_of_row;
pub(crate) use failure::{FailedExpr, Failure, Reason};
pub use fallible::can_fail;
use guarded::{Guarded, Nulls};
pub(crate) use sql_text::{failed, sql, with_quotes};

/// The physical form of `expr`, which reads rows of `schema`. The types must have been coerced.
///
/// # Errors
/// `Config` if `expr` cannot be evaluated.
pub fn physical(expr: &Expr, schema: &DFSchema) -> Result<Arc<dyn PhysicalExpr>> {
    safe(planned(expr, schema)?, schema.as_arrow(), Nulls::Open)
}

/// As [`physical`], for a condition: null counts as false, also within its `AND`s.
///
/// # Errors
/// `Config` if `expr` cannot be evaluated.
pub fn condition(expr: &Expr, schema: &DFSchema) -> Result<Arc<dyn PhysicalExpr>> {
    safe(planned(expr, schema)?, schema.as_arrow(), Nulls::False)
}

fn planned(expr: &Expr, schema: &DFSchema) -> Result<Arc<dyn PhysicalExpr>> {
    create_physical_expr(
        expr,
        schema,
        &ExecutionProps::new(),
        &PhysicalPlanningContext::default(),
    )
    .map_err(|error| Error::config(format!("cannot plan `{expr}`")).with_source(error))
}

/// The argument of an aggregate over rows of `schema`, with checked arithmetic and working guards.
pub(crate) fn argument(
    expr: &Arc<dyn PhysicalExpr>,
    schema: &Schema,
) -> Result<Arc<dyn PhysicalExpr>> {
    safe(Arc::clone(expr), schema, Nulls::Open)
}

/// The condition of an aggregate, with the same changes.
pub(crate) fn filter(
    expr: &Arc<dyn PhysicalExpr>,
    schema: &Schema,
) -> Result<Arc<dyn PhysicalExpr>> {
    safe(Arc::clone(expr), schema, Nulls::False)
}

/// `expr` with checked arithmetic and working guards. `nulls` is the meaning of null in its `AND`s.
fn safe(
    expr: Arc<dyn PhysicalExpr>,
    schema: &Schema,
    nulls: Nulls,
) -> Result<Arc<dyn PhysicalExpr>> {
    let unplannable = |error| Error::config("cannot plan an expression").with_source(error);
    let checked = expr.transform_up(|part| checked(part, schema));
    let checked = checked.map_err(unplannable)?.data;
    Ok(match nulls {
        Nulls::Open => checked,
        Nulls::False => null_is_false(&checked).map_err(unplannable)?,
    })
}

fn checked(
    part: Arc<dyn PhysicalExpr>,
    schema: &Schema,
) -> Result<Transformed<Arc<dyn PhysicalExpr>>, DataFusionError> {
    if part.downcast_ref::<NegativeExpr>().is_some() {
        if part.data_type(schema)?.is_floating() {
            return Ok(Transformed::no(part));
        }
        return Ok(Transformed::yes(Arc::new(Checked::new(
            part,
            Check::Negation,
        ))));
    }
    if let Some(call) = part.downcast_ref::<ScalarFunctionExpr>() {
        return Ok(match function_check(call, schema)? {
            Some(check) => Transformed::yes(Arc::new(Checked::new(part, check))),
            None => Transformed::no(part),
        });
    }
    let Some(binary) = part.downcast_ref::<BinaryExpr>() else {
        return Ok(Transformed::no(part));
    };
    let safe: Arc<dyn PhysicalExpr> = match binary.op() {
        Operator::And | Operator::Or if can_fail(binary.right(), schema) => {
            Arc::new(Guarded::new(binary.clone(), Nulls::Open))
        }
        Operator::Plus | Operator::Minus | Operator::Multiply => {
            let safe = Arc::new(binary.clone().with_fail_on_overflow(true));
            with_digits(safe, schema)?
        }
        Operator::Divide | Operator::Modulo => with_digits(Arc::new(binary.clone()), schema)?,
        _ => return Ok(Transformed::no(part)),
    };
    Ok(Transformed::yes(safe))
}

/// The check of a function's result, if it needs one.
fn function_check(
    call: &ScalarFunctionExpr,
    schema: &Schema,
) -> Result<Option<Check>, DataFusionError> {
    Ok(match (call.name(), call.args()) {
        ("to_timestamp", [seconds]) if seconds.data_type(schema)?.is_floating() => {
            Some(Check::Seconds)
        }
        ("date_bin" | "date_part", _) => Some(Check::Time),
        _ => None,
    })
}

/// Checks the digits of a result whose type has the maximum precision: only such a result can have
/// too many.
fn with_digits(
    expr: Arc<dyn PhysicalExpr>,
    schema: &Schema,
) -> Result<Arc<dyn PhysicalExpr>, DataFusionError> {
    Ok(match expr.data_type(schema)? {
        DataType::Decimal128(38, _) | DataType::Decimal256(76, _) => {
            Arc::new(Checked::new(expr, Check::Digits))
        }
        _ => expr,
    })
}

/// A condition whose `AND`s count null as false.
fn null_is_false(expr: &Arc<dyn PhysicalExpr>) -> Result<Arc<dyn PhysicalExpr>, DataFusionError> {
    let guarded = expr.downcast_ref::<Guarded>().map(Guarded::whole);
    let Some(and) = guarded.or_else(|| expr.downcast_ref::<BinaryExpr>()) else {
        return Ok(Arc::clone(expr));
    };
    if *and.op() != Operator::And {
        return Ok(Arc::clone(expr));
    }
    let (left, right) = (null_is_false(and.left())?, null_is_false(and.right())?);
    let and = BinaryExpr::new(left, Operator::And, right);
    Ok(match guarded {
        Some(_) => Arc::new(Guarded::new(and, Nulls::False)),
        None => Arc::new(and),
    })
}

/// The values of `expr` for each row of `rows`. A column reference copies
/// nothing.
///
/// # Errors
/// [`Failure::Row`] where a row has no value: a division by zero, a cast that fails.
pub(crate) fn evaluate(
    expr: &Arc<dyn PhysicalExpr>,
    rows: &RecordBatch,
) -> Result<ArrayRef, Failure> {
    if let Some(column) = expr.downcast_ref::<Column>()
        && let Some(values) = rows.columns().get(column.index())
    {
        return Ok(Arc::clone(values));
    }
    expr.evaluate(rows)
        .and_then(|values| values.into_array(rows.num_rows()))
        .map_err(|cause| failure(expr, cause))
}

/// Whether the condition `expr` is true; a null counts as false.
///
/// # Errors
/// As [`evaluate`].
pub(crate) fn holds(
    expr: &Arc<dyn PhysicalExpr>,
    rows: &RecordBatch,
) -> Result<BooleanArray, Failure> {
    let values = evaluate(expr, rows)?;
    let Some(values) = values.as_any().downcast_ref::<BooleanArray>() else {
        let text = sql(expr);
        return Err(Error::internal(format!("`{text}` is not a condition")).into());
    };
    Ok(match values.null_count() {
        0 => values.clone(),
        _ => prep_null_mask_filter(values),
    })
}

/// As [`evaluate`], for the `wanted` rows only; the others are null.
///
/// # Errors
/// As [`evaluate`].
pub(crate) fn evaluate_where(
    expr: &Arc<dyn PhysicalExpr>,
    rows: &RecordBatch,
    wanted: &BooleanArray,
) -> Result<ArrayRef, Failure> {
    if wanted.true_count() == rows.num_rows() || expr.downcast_ref::<Column>().is_some() {
        return evaluate(expr, rows);
    }
    if wanted.true_count() == 0 {
        let kind = expr.data_type(rows.schema_ref());
        let kind = kind.map_err(|cause| failure(expr, cause))?;
        return Ok(new_null_array(&kind, rows.num_rows()));
    }
    let values = evaluate(expr, &filter_record_batch(rows, wanted)?)?;
    let mut next = 0;
    let places = wanted.iter().map(|is_wanted| {
        is_wanted.unwrap_or_default().then(|| {
            next += 1;
            next - 1
        })
    });
    let places: UInt32Array = places.collect();
    Ok(take(&values, &places, None)?)
}

fn failure(expr: &Arc<dyn PhysicalExpr>, cause: DataFusionError) -> Failure {
    if is_of_row(&cause) {
        return Failure::Row(FailedExpr {
            expr: Arc::clone(expr),
            cause: Box::new(cause),
        });
    }
    let message = format!("cannot compute `{}`", sql(expr));
    Failure::Job(Error::data(message).with_source(cause))
}
