//! Constant arguments of aggregates.

use datafusion::{
    common::{Result, ScalarValue, plan_err},
    logical_expr::function::AccumulatorArgs,
    physical_expr::expressions::Literal,
};

/// The constant second argument.
pub(super) fn constant(args: &AccumulatorArgs<'_>) -> Result<ScalarValue> {
    let literal = args
        .exprs
        .get(1)
        .and_then(|expr| expr.downcast_ref::<Literal>());
    if let Some(literal) = literal {
        Ok(literal.value().clone())
    } else {
        plan_err!("the second argument of `{}` must be a constant", args.name)
    }
}
