//! The few rules of DataFusion's optimizer that keep a plan runnable on a
//! stream, and its state what the query says.

use std::sync::Arc;

use datafusion::{
    common::{
        Result,
        tree_node::{Transformed, TreeNode, TreeNodeRecursion},
    },
    config::ConfigOptions,
    logical_expr::{Aggregate, LogicalPlan},
    optimizer::{
        Optimizer, OptimizerContext, OptimizerRule, optimize_projections::OptimizeProjections,
        push_down_filter::PushDownFilter, simplify_expressions::SimplifyExpressions,
    },
};

/// Simplifies expressions, drops columns that nobody reads, and moves filters
/// towards the source.
///
/// Filters stay on their side of an aggregate: what HAVING says must not change
/// what is in the state.
pub(crate) fn optimize(plan: LogicalPlan, config: &Arc<ConfigOptions>) -> Result<LogicalPlan> {
    let narrow: [Rule; 2] = [
        Arc::new(SimplifyExpressions::new()),
        Arc::new(OptimizeProjections::new()),
    ];
    let push_down: [Rule; 2] = [
        Arc::new(PushDownFilter::new()),
        Arc::new(OptimizeProjections::new()),
    ];
    let plan = run(plan, narrow.to_vec(), config)?;
    let below_aggregates = plan.transform_down(|node| match node {
        LogicalPlan::Aggregate(aggregate) => {
            let input = Arc::unwrap_or_clone(aggregate.input);
            let input = Arc::new(run(input, push_down.to_vec(), config)?);
            let aggregate = Aggregate::try_new(input, aggregate.group_expr, aggregate.aggr_expr)?;
            Ok(Transformed::new(
                LogicalPlan::Aggregate(aggregate),
                true,
                TreeNodeRecursion::Jump,
            ))
        }
        other => Ok(Transformed::no(other)),
    })?;
    if below_aggregates.transformed {
        Ok(below_aggregates.data)
    } else {
        run(below_aggregates.data, push_down.to_vec(), config)
    }
}

type Rule = Arc<dyn OptimizerRule + Send + Sync>;

fn run(plan: LogicalPlan, rules: Vec<Rule>, config: &Arc<ConfigOptions>) -> Result<LogicalPlan> {
    let context = OptimizerContext::new_with_config_options(Arc::clone(config))
        .without_query_execution_start_time();
    Optimizer::with_rules(rules).optimize(plan, &context, |_, _| {})
}
