//! An aggregate without a window, as one over windows that are as wide as the interval between its
//! changes.

use std::time::Duration;

use arrow::datatypes::IntervalMonthDayNano;
use datafusion::{
    common::{
        Column, ScalarValue,
        tree_node::{Transformed, TreeNode, TreeNodeRecursion},
    },
    logical_expr::{Aggregate, Expr, LogicalPlan, lit},
};

use super::{
    Catalog, Lineage, SqlError, functions::WindowKind, places::Places, walk::Walk,
    windowed::as_window,
};

/// Adds windows of the width `every` to the GROUP BY of the one aggregate in `plan`. Their column
/// has no readers.
pub(super) fn cut(
    plan: LogicalPlan,
    every: Duration,
    catalog: &Catalog,
    places: Places<'_>,
) -> Result<LogicalPlan, SqlError> {
    let planner = |error| SqlError::of_planner(&error);
    let mut aggregates = Vec::new();
    plan.apply(|node| {
        if let LogicalPlan::Aggregate(aggregate) = node {
            aggregates.push(aggregate.clone());
        }
        Ok(TreeNodeRecursion::Continue)
    })
    .map_err(planner)?;
    let place = places.aggregate(catalog);
    let wrong = |message: &str, help: &str| {
        let error = SqlError::new(message).help(help);
        error.at_token_if(place)
    };
    let aggregate = match aggregates.as_slice() {
        [one]
            if one
                .group_expr
                .iter()
                .any(|group| as_window(group).is_some()) =>
        {
            return Err(wrong(
                "`ttl` is for an aggregate without a window, and this one has a window",
                "leave `ttl` out: a window is over by itself",
            ));
        }
        [one] => one,
        [] => {
            return Err(wrong(
                "`ttl` is for an aggregate without a window, and there is no aggregate",
                "leave `ttl` out",
            ));
        }
        [..] => {
            return Err(wrong(
                "a query with `ttl` is one aggregate and nothing more",
                "write the inner one as a query of its own",
            ));
        }
    };
    let input = Walk { catalog, places }.node(&aggregate.input)?;
    let lineage = input.lineage(catalog);
    let time = [Lineage::EventTime, Lineage::Window]
        .iter()
        .find_map(|wanted| lineage.iter().position(|of| of == wanted));
    let (Some(time), Some(tumble)) = (time, catalog.functions().scalar(WindowKind::Tumble.name()))
    else {
        return Err(wrong(
            "the rows have no event time, by which a key could be forgotten",
            "carry the event time of the source through unchanged",
        ));
    };
    let time = Column::from(input.schema().qualified_field(time));
    let nanos = i64::try_from(every.as_nanos()).unwrap_or(i64::MAX);
    let width = IntervalMonthDayNano::new(0, 0, nanos);
    let window = tumble.call(vec![
        Expr::Column(time),
        lit(ScalarValue::IntervalMonthDayNano(Some(width))),
    ]);
    let cut = plan.transform_up(|node| match node {
        LogicalPlan::Aggregate(aggregate) => {
            let mut groups = aggregate.group_expr;
            groups.push(window.clone());
            let cut = Aggregate::try_new(aggregate.input, groups, aggregate.aggr_expr)?;
            Ok(Transformed::yes(LogicalPlan::Aggregate(cut)))
        }
        other => Ok(Transformed::no(other)),
    });
    Ok(cut.map_err(planner)?.data)
}
