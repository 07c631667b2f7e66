//! The types of a plan, and the rules of DataFusion's optimizer that keep a plan runnable
//! on a stream and do not change the meaning of its state.

use std::sync::Arc;

use datafusion::{
    common::{
        Result,
        tree_node::{Transformed, TreeNode, TreeNodeRecursion},
    },
    config::ConfigOptions,
    logical_expr::{Aggregate, LogicalPlan},
    optimizer::{
        Analyzer, Optimizer, OptimizerContext, OptimizerRule,
        optimize_projections::OptimizeProjections, push_down_filter::PushDownFilter,
        simplify_expressions::SimplifyExpressions,
    },
};

/// The most rounds in which folding constants changes types, each one level further from the
/// constant.
const FOLDS: usize = 4;

/// Gives each expression its type.
///
/// The type of a function can depend on the value of a constant argument: `round(<decimal>, 1)` has
/// one digit. Coercion hides such a constant in a cast. So constants are folded, and then the
/// readers of a changed type are coerced again.
pub(crate) fn typed(plan: LogicalPlan, config: &Arc<ConfigOptions>) -> Result<LogicalPlan> {
    let mut plan = coerce(plan, config)?;
    for _ in 0..FOLDS {
        let folded = fold(plan.clone(), config)?;
        let coerced = coerce(folded.data.clone(), config)?;
        if !folded.transformed && coerced == folded.data {
            break;
        }
        plan = coerced;
    }
    Ok(plan)
}

fn coerce(plan: LogicalPlan, config: &Arc<ConfigOptions>) -> Result<LogicalPlan> {
    Analyzer::new().execute_and_check(plan, config, |_, _| {})
}

/// Folds constants. `transformed` is set if that changes the type of a column.
fn fold(plan: LogicalPlan, config: &Arc<ConfigOptions>) -> Result<Transformed<LogicalPlan>> {
    let (simplify, context) = (SimplifyExpressions::new(), context(config));
    plan.transform_up(|node| {
        let before = Arc::clone(node.schema());
        let node = simplify.rewrite(node, &context)?.data.recompute_schema()?;
        let mut types = before.fields().iter().zip(node.schema().fields());
        let is_same = types.all(|(before, now)| before.data_type() == now.data_type());
        Ok(Transformed::new_transformed(node, !is_same))
    })
}

/// Simplifies expressions, drops columns that are not read, and moves filters
/// towards the source.
///
/// Filters stay on their side of an aggregate: a HAVING clause must not change
/// the content of the state.
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
    Optimizer::with_rules(rules).optimize(plan, &context(config), |_, _| {})
}

fn context(config: &Arc<ConfigOptions>) -> OptimizerContext {
    OptimizerContext::new_with_config_options(Arc::clone(config))
        .without_query_execution_start_time()
}
