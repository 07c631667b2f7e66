//! The door to `DataFusion`'s physical expressions.

use std::sync::Arc;

use arrow::{array::ArrayRef, record_batch::RecordBatch};
use datafusion::{
    common::{
        DFSchema,
        tree_node::{Transformed, TreeNode},
    },
    error::DataFusionError,
    logical_expr::{Expr, physical_planning_context::PhysicalPlanningContext},
    physical_expr::{
        create_physical_expr,
        execution_props::ExecutionProps,
        expressions::{Column, Literal, lit},
    },
    physical_expr_common::physical_expr::fmt_sql,
    physical_plan::PhysicalExpr,
};
use tagflow_engine::{Error, Result};

/// `expr` as SQL over the names of its input's columns. Strings stand in quotes:
/// `x = 'a'` is not `x = a`.
pub(crate) fn sql(expr: &Arc<dyn PhysicalExpr>) -> String {
    fmt_sql(with_quotes(expr).as_ref()).to_string()
}

/// `expr` with each string in the quotes that [`fmt_sql`] leaves out.
pub(crate) fn with_quotes(expr: &Arc<dyn PhysicalExpr>) -> Arc<dyn PhysicalExpr> {
    let quoted = Arc::clone(expr).transform_up(|part| {
        let literal = part.downcast_ref::<Literal>().map(Literal::value);
        let Some(text) = literal.and_then(|value| value.try_as_str().flatten()) else {
            return Ok(Transformed::no(part));
        };
        let text = format!("'{}'", text.replace('\'', "''"));
        Ok(Transformed::yes(lit(text) as Arc<dyn PhysicalExpr>))
    });
    quoted.map_or_else(|_| Arc::clone(expr), |quoted| quoted.data)
}

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
        .map_err(|error| failed(node, &sql(expr), error))
}

/// `node` could not compute `what`.
pub(crate) fn failed(node: &str, what: &str, cause: DataFusionError) -> Error {
    Error::data(format!("`{node}` cannot compute `{what}`")).with_source(cause)
}
