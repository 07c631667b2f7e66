//! The door to `DataFusion`'s physical expressions.

use std::sync::Arc;

use arrow::{array::ArrayRef, record_batch::RecordBatch};
use datafusion::{
    common::DFSchema,
    error::DataFusionError,
    logical_expr::{Expr, physical_planning_context::PhysicalPlanningContext},
    physical_expr::{create_physical_expr, execution_props::ExecutionProps, expressions::Column},
    physical_plan::PhysicalExpr,
};
use tagflow_engine::{Error, Result};

pub use datafusion::physical_expr_common::physical_expr::fmt_sql;

/// The physical form of `expr`, which reads rows of `schema`. Types must have
/// been coerced already.
///
/// # Errors
/// `Config` where `expr` cannot be evaluated.
pub fn physical(expr: &Expr, schema: &DFSchema) -> Result<Arc<dyn PhysicalExpr>> {
    create_physical_expr(
        expr,
        schema,
        &ExecutionProps::new(),
        &PhysicalPlanningContext::default(),
    )
    .map_err(|error| Error::config(format!("cannot plan `{expr}`")).with_source(error))
}

/// The values of `expr` for each row of `rows`. A column reference copies
/// nothing.
///
/// # Errors
/// `Data`, naming `node` and the expression, where a row has no value: a
/// division by zero, a cast that fails.
pub(crate) fn evaluate(
    node: &str,
    expr: &Arc<dyn PhysicalExpr>,
    rows: &RecordBatch,
) -> Result<ArrayRef> {
    if let Some(column) = expr.downcast_ref::<Column>()
        && let Some(values) = rows.columns().get(column.index())
    {
        return Ok(Arc::clone(values));
    }
    expr.evaluate(rows)
        .and_then(|values| values.into_array(rows.num_rows()))
        .map_err(|error| failed(node, &fmt_sql(expr.as_ref()).to_string(), error))
}

/// `node` could not compute `what`.
pub(crate) fn failed(node: &str, what: &str, cause: DataFusionError) -> Error {
    Error::data(format!("`{node}` cannot compute `{what}`")).with_source(cause)
}
