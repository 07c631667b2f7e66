//! Joins of a stream with a table, by the table's key.

use std::sync::Arc;

use datafusion::{
    common::{
        Column, DataFusionError, JoinType,
        tree_node::{Transformed, TreeNode},
    },
    logical_expr::{Expr, ExprSchemable, logical_plan, utils::conjunction},
};
use tagflow_operators::join::lookup::Missing;

use super::{
    SqlError,
    join::{Conditions, TableSide},
    stream::{Lookup, Stream},
    walk::Walk,
};

impl Walk<'_> {
    /// The rows of the left side with the columns of `table` for their key.
    pub(super) fn lookup(
        &self,
        join: &logical_plan::Join,
        table: TableSide<'_>,
        conditions: Conditions,
    ) -> Result<Stream, SqlError> {
        let name = table.name;
        let missing = match join.join_type {
            JoinType::Inner => Missing::Drop,
            JoinType::Left => Missing::Null,
            other => {
                return Err(SqlError::new(format!(
                    "a {other} join with the table `{name}` would have to know which of its rows \
                     no event will ever ask for"
                ))
                .help("write JOIN or LEFT JOIN, the stream first"));
            }
        };
        let input = self.node(&join.left)?;
        let planner = |error: DataFusionError| SqlError::of_planner(&error);
        let right = join.right.schema();
        let alias = right.qualified_field(0).0.cloned();

        let Conditions { mut equal, rest } = conditions;
        let mut key = Vec::with_capacity(table.key.len());
        for column in &table.key {
            let is_key = |(_, right): &(Expr, Expr)| match right {
                Expr::Column(right) => right.name == *column,
                _ => false,
            };
            let Some(place) = equal.iter().position(is_key) else {
                let shown = table.key.join("`, `");
                let called = alias.as_ref().map_or(name, |alias| alias.table());
                return Err(SqlError::new(format!(
                    "the table `{name}` is joined by its key (`{shown}`), and ON does not say what \
                     `{column}` equals"
                ))
                .help(format!(
                    "add `{called}.{column} = …` to ON, of the same type as `{column}`"
                )));
            };
            key.push(equal.remove(place).0);
        }
        for (expr, column) in key.iter().zip(&table.key) {
            let field = right.field_with_unqualified_name(column).map_err(planner)?;
            let kind = expr.get_type(join.left.schema()).map_err(planner)?;
            if kind != *field.data_type() {
                return Err(SqlError::new(format!(
                    "`{column}` of the table `{name}` is a {}, and is looked up by a {kind}",
                    field.data_type()
                ))
                .help("declare both of the same type"));
            }
        }

        // Inside the right side the table may have another name.
        let qualify = |filter: Expr| {
            let called = filter.transform_up(|part| match part {
                Expr::Column(column) => Ok(Transformed::yes(Expr::Column(Column::new(
                    alias.clone(),
                    column.name,
                )))),
                other => Ok(Transformed::no(other)),
            });
            called.map(|called| called.data)
        };
        let filters = table.filters.into_iter().map(qualify);
        let filters: Vec<Expr> = filters.collect::<Result<_, _>>().map_err(planner)?;
        let equal = equal.into_iter().map(|(left, right)| left.eq(right));
        Ok(Stream::Lookup(Lookup {
            input: Box::new(input),
            table: name.to_owned(),
            key,
            columns: right.fields().iter().map(|it| it.name().clone()).collect(),
            condition: conjunction(equal.chain(rest).chain(filters)),
            missing,
            schema: Arc::clone(&join.schema),
            alias,
        }))
    }
}
