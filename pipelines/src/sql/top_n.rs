//! The best rows of each window: `ROW_NUMBER() OVER (…) <= n`.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::{
    common::{Column, ScalarValue},
    logical_expr::{
        Between, BinaryExpr, Cast, Expr, Operator, logical_plan, utils::split_conjunction,
    },
};

use super::{
    Lineage, Rows, SqlError,
    functions::ROW_NUMBER,
    places::Places,
    stream::{Stream, Top},
    walk::Walk,
};

const WRITE: &str = "write `SELECT * FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY \"window\" \
                     ORDER BY x DESC) AS rank FROM per_window) WHERE rank <= 10`";

impl Walk<'_> {
    /// The rows of windows with their ranks.
    pub(super) fn top(&self, window: &logical_plan::Window) -> Result<Stream, SqlError> {
        let input = self.node(&window.input)?;
        let wrong = |message: &str| {
            Err(SqlError::new(message)
                .help(WRITE)
                .at_token_if(self.places.over()))
        };
        let [expr] = window.window_expr.as_slice() else {
            return wrong("rows can be ranked in one way only");
        };
        let Expr::WindowFunction(call) = expr.clone().unalias_nested().data else {
            return wrong("only `row_number()` can stand before OVER");
        };
        let params = &call.params;
        if call.fun.name() != ROW_NUMBER || params.filter.is_some() {
            return wrong("only `row_number()` can stand before OVER");
        }
        if input.rows(self.catalog) >= Rows::Revisions {
            return wrong("results that are corrected cannot be ranked: a rank may change later");
        }
        if !input.is_of_windows(self.catalog) {
            return wrong("only rows of windows can be ranked: of others the best may be to come");
        }
        if params.order_by.is_empty() {
            return wrong("`row_number()` without ORDER BY ranks by nothing");
        }
        let lineage = input.lineage(self.catalog);
        let mut partition = Vec::new();
        for expr in &params.partition_by {
            let index = match expr {
                Expr::Column(column) => input.schema().maybe_index_of_column(column),
                _ => None,
            };
            match index {
                Some(index) => partition.push(index),
                None => {
                    return wrong("PARTITION BY takes columns; compute others in a query before");
                }
            }
        }
        let is_window = |index: &usize| lineage[*index] == Lineage::Window;
        let Some(window_index) = partition.iter().copied().find(is_window) else {
            return wrong(
                "the window must be in PARTITION BY: across windows the best may be to come",
            );
        };
        if input.schema().field(window_index).is_nullable() {
            return wrong(
                "the window of some rows may be missing, so it is never known when to rank",
            );
        }
        Ok(Stream::Top(Top {
            input: Box::new(input),
            window: window_index,
            partition,
            order: params.order_by.clone(),
            limit: None,
            schema: Arc::clone(&window.schema),
        }))
    }
}

/// Determines from the filters how many rows each ranking must deliver.
pub(super) fn limit(stream: &mut Stream, places: Places<'_>) -> Result<(), SqlError> {
    match stream {
        Stream::Top(Top { limit: None, .. }) => {
            return Err(SqlError::new("every row gets a rank, and none is left out")
                .help(WRITE)
                .at_token_if(places.over()));
        }
        Stream::Map(map) => {
            for part in map.filter.iter().flat_map(split_conjunction) {
                if let Some((column, most)) = at_most(part) {
                    bound(&mut map.input, &column, most);
                }
            }
        }
        _ => {}
    }
    let mut inputs = stream.inputs_mut().into_iter();
    inputs.try_for_each(|input| limit(input, places))
}

/// If `column` is a rank, at most `most` rows are needed.
fn bound(stream: &mut Stream, column: &Column, most: u64) {
    let Some(index) = stream.schema().maybe_index_of_column(column) else {
        return;
    };
    match stream {
        Stream::Top(top) if index + 1 == top.schema.fields().len() => {
            top.limit = Some(top.limit.map_or(most, |limit| limit.min(most)));
        }
        Stream::Map(map) => {
            let column = match &map.columns {
                None => Column::from(map.input.schema().qualified_field(index)),
                Some(columns) => match columns[index].clone().unalias_nested().data {
                    Expr::Column(column) => column,
                    _ => return,
                },
            };
            bound(&mut map.input, &column, most);
        }
        _ => {}
    }
}

/// The column with its upper limit where `condition` is true.
fn at_most(condition: &Expr) -> Option<(Column, u64)> {
    let (one, op, other) = match condition {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => (left, *op, right),
        Expr::Between(Between {
            expr,
            negated: false,
            high,
            ..
        }) => (expr, Operator::LtEq, high),
        _ => return None,
    };
    let (column, op, most) = match (column(one), number(other)) {
        (Some(column), Some(number)) => (column, op, number),
        _ => (column(other)?, op.swap()?, number(one)?),
    };
    let most = match op {
        Operator::LtEq | Operator::Eq => most,
        Operator::Lt => most.checked_sub(1)?,
        _ => return None,
    };
    Some((column, u64::try_from(most).unwrap_or(0)))
}

fn column(expr: &Expr) -> Option<Column> {
    match expr {
        Expr::Column(column) => Some(column.clone()),
        Expr::Cast(Cast { expr, .. }) => column(expr),
        _ => None,
    }
}

fn number(expr: &Expr) -> Option<i64> {
    match expr {
        Expr::Literal(value, _) => match value.cast_to(&DataType::Int64) {
            Ok(ScalarValue::Int64(number)) => number,
            _ => None,
        },
        Expr::Cast(Cast { expr, .. }) => number(expr),
        _ => None,
    }
}
