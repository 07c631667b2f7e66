//! Comparisons of a text with a number, in which `DataFusion` casts the text.

use datafusion::{
    common::{
        DFSchema,
        tree_node::{TreeNode, TreeNodeRecursion},
    },
    logical_expr::{
        Between, BinaryExpr, Expr, ExprSchemable, LogicalPlan, Operator, expr::InList,
        utils::merge_schema,
    },
};

use super::{SqlError, display};

/// A warning for each such comparison of `plan`, whose types are not coerced yet.
pub(super) fn of_plan(plan: &LogicalPlan) -> Vec<SqlError> {
    let mut warnings = Vec::new();
    // The visits return no error of their own.
    let _ = plan.apply(|node| {
        let schema = merge_schema(&node.inputs());
        for expr in node.expressions() {
            warnings.extend(of_expr(&expr, &schema));
        }
        Ok(TreeNodeRecursion::Continue)
    });
    warnings
}

/// A warning for each such comparison of `expr`, whose types are not coerced yet.
pub(super) fn of_expr(expr: &Expr, schema: &DFSchema) -> Vec<SqlError> {
    let mut warnings = Vec::new();
    let _ = expr.apply(|part| {
        match part {
            Expr::BinaryExpr(BinaryExpr { left, op, right }) if compares(*op) => {
                warnings.extend(warning(part, left, right, schema));
                warnings.extend(warning(part, right, left, schema));
            }
            Expr::Between(Between { expr, low, .. }) => {
                warnings.extend(warning(part, expr, low, schema));
            }
            Expr::InList(InList { expr, list, .. }) => {
                let mut numbers = list.iter();
                warnings.extend(numbers.find_map(|it| warning(part, expr, it, schema)));
            }
            _ => {}
        }
        Ok(TreeNodeRecursion::Continue)
    });
    warnings
}

fn compares(operator: Operator) -> bool {
    matches!(
        operator,
        Operator::Eq
            | Operator::NotEq
            | Operator::Lt
            | Operator::LtEq
            | Operator::Gt
            | Operator::GtEq
            | Operator::IsDistinctFrom
            | Operator::IsNotDistinctFrom
    )
}

/// The warning if `whole` compares a text with a number.
fn warning(whole: &Expr, text: &Expr, number: &Expr, schema: &DFSchema) -> Option<SqlError> {
    let is_constant = matches!(text, Expr::Literal(..));
    let number = number.get_type(schema).ok()?;
    if is_constant || !number.is_numeric() || !text.get_type(schema).ok()?.is_string() {
        return None;
    }
    let kind = if number.is_integer() {
        "BIGINT"
    } else {
        "DOUBLE"
    };
    let text = display::sql(text);
    Some(
        SqlError::new(format!(
            "`{}` casts the text `{text}` to a number: a row with any other text becomes a dead \
             letter",
            display::sql(whole)
        ))
        .help(format!(
            "`TRY_CAST({text} AS {kind})` is null there; or declare the column as a number"
        )),
    )
}
