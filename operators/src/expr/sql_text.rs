//! Expressions as text, for fingerprints and messages.

use std::sync::Arc;

use datafusion::{
    common::tree_node::{Transformed, TreeNode},
    error::DataFusionError,
    physical_expr::expressions::{Literal, lit},
    physical_expr_common::physical_expr::fmt_sql,
    physical_plan::PhysicalExpr,
};
use tagflow_engine::Error;

/// `expr` as SQL over the names of its input's columns. Strings are quoted: `x = 'a'` is not `x =
/// a`.
pub(crate) fn sql(expr: &Arc<dyn PhysicalExpr>) -> String {
    fmt_sql(with_quotes(expr).as_ref()).to_string()
}

/// `expr` with each string in the quotes that [`fmt_sql`] omits.
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

/// The error that `node` cannot compute `what`.
pub(crate) fn failed(node: &str, what: &str, cause: DataFusionError) -> Error {
    Error::data(format!("`{node}` cannot compute `{what}`")).with_source(cause)
}
