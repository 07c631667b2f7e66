//! Aggregate functions: their checks for streams, and their creation.

use std::{fmt, sync::Arc};

use arrow::datatypes::{DataType, SchemaRef};
use datafusion::{
    common::DFSchema,
    error::DataFusionError,
    functions_aggregate::min_max::{max_udaf, min_udaf},
    logical_expr::{
        AggregateUDF, Expr, SortExpr, expr::AggregateFunction,
        physical_planning_context::PhysicalPlanningContext,
    },
    physical_expr::{
        PhysicalSortExpr,
        aggregate::{AggregateExprBuilder, AggregateFunctionExpr, LoweredAggregateBuilder},
        execution_props::ExecutionProps,
    },
    physical_plan::PhysicalExpr,
};
use tagflow_engine::{Error, Result};

use crate::{
    aggregate::exact,
    expr::{sql, with_quotes},
};

/// An aggregate of a windowed query.
#[derive(Debug, Clone)]
pub struct Aggregate {
    /// The function with its arguments, order and distinctness.
    pub function: Arc<AggregateFunctionExpr>,
    /// Only rows where this is true count.
    pub filter: Option<Arc<dyn PhysicalExpr>>,
    /// The name of its output column.
    pub name: String,
    /// The meaning of its state: [SQL](fmt::Display) over the input's columns, or with the origin
    /// of these columns, if the caller knows it.
    pub definition: String,
}

impl Aggregate {
    /// The aggregate `expr` over rows of `input`. The types must have been coerced.
    ///
    /// If SQL does not define the order of rows, the aggregate gets an order that is independent of
    /// their arrival: `array_agg(x)` and `string_agg(x, …)` order by `x`, and ties of an `ORDER BY`
    /// are ordered by the function's argument.
    ///
    /// # Errors
    /// `Config` if the function cannot run on a stream, see [`check`].
    pub fn new(expr: &Expr, input: &DFSchema) -> Result<Self> {
        let name = expr.schema_name().to_string();
        let expr = with_total_order(expr.clone().unalias_nested().data);
        let plan_error = |error: DataFusionError| {
            Error::config(format!("cannot plan the aggregate `{name}`")).with_source(error)
        };
        if let Expr::AggregateFunction(call) = &expr {
            check(call)
                .map_err(|reason| Error::config(format!("`{name}` cannot be used: {reason}")))?;
        }
        let lowered = LoweredAggregateBuilder::new(
            &expr,
            input,
            input.as_arrow(),
            &ExecutionProps::new(),
            &PhysicalPlanningContext::default(),
        )
        .with_name(&name)
        .build()
        .map_err(plan_error)?;
        let function = &lowered.aggregate;
        if exact::may_overflow(function) {
            return Err(Error::config(format!(
                "`{name}` cannot be used: so many digits may overflow; cast its argument to \
                 decimal(38, …)"
            )));
        }
        let made = if function.groups_accumulator_supported() {
            function.create_groups_accumulator().map(drop)
        } else {
            function.create_accumulator().map(drop)
        };
        made.map_err(plan_error)?;
        Ok(Self::defined(lowered.aggregate, lowered.filter, name))
    }

    /// The minimum of `time`, over rows of `input`.
    pub(super) fn first(time: &Arc<dyn PhysicalExpr>, input: &SchemaRef) -> Result<Self> {
        Self::of_time(min_udaf(), "_first", time, input)
    }

    /// The maximum of `time`, over rows of `input`.
    pub(super) fn last(time: &Arc<dyn PhysicalExpr>, input: &SchemaRef) -> Result<Self> {
        Self::of_time(max_udaf(), "_last", time, input)
    }

    fn of_time(
        function: Arc<AggregateUDF>,
        name: &str,
        time: &Arc<dyn PhysicalExpr>,
        input: &SchemaRef,
    ) -> Result<Self> {
        let function = AggregateExprBuilder::new(function, vec![Arc::clone(time)])
            .schema(Arc::clone(input))
            .alias(name)
            .build()
            .map_err(|error| Error::internal("cannot bound a session").with_source(error))?;
        Ok(Self::defined(Arc::new(function), None, name.into()))
    }

    fn defined(
        function: Arc<AggregateFunctionExpr>,
        filter: Option<Arc<dyn PhysicalExpr>>,
        name: String,
    ) -> Self {
        let mut aggregate = Self {
            function,
            filter,
            name,
            definition: String::new(),
        };
        aggregate.definition = aggregate.to_string();
        aggregate
    }

    /// Whether equal values count once.
    pub(super) fn compares_values(&self) -> bool {
        self.function.is_distinct()
    }

    /// The types of its state.
    pub(super) fn state_types(&self) -> datafusion::error::Result<Vec<DataType>> {
        match exact::sum_type(&self.function) {
            Some(sum) => Ok(vec![sum]),
            None => self.declared_types(),
        }
    }

    /// The state types that `DataFusion` declares. They belong to the meaning of the state, as in
    /// states that were stored before sums were wider.
    pub(super) fn declared_types(&self) -> datafusion::error::Result<Vec<DataType>> {
        let fields = self.function.state_fields()?;
        Ok(fields.iter().map(|it| it.data_type().clone()).collect())
    }

    /// The inputs of the accumulator: the arguments, then the order.
    pub(super) fn arguments(&self) -> Vec<Arc<dyn PhysicalExpr>> {
        let mut arguments = self.function.expressions();
        let order = self.function.order_bys().iter();
        arguments.extend(order.map(|sort| Arc::clone(&sort.expr)));
        arguments
    }
}

impl fmt::Display for Aggregate {
    /// SQL over the names of the input's columns.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let function = &self.function;
        write!(f, "{}(", function.fun().name())?;
        if function.is_distinct() {
            f.write_str("DISTINCT ")?;
        }
        for (i, argument) in function.expressions().iter().enumerate() {
            let comma = if i > 0 { ", " } else { "" };
            write!(f, "{comma}{}", sql(argument))?;
        }
        for (i, sort) in function.order_bys().iter().enumerate() {
            f.write_str(if i > 0 { ", " } else { " ORDER BY " })?;
            let sort = PhysicalSortExpr::new(with_quotes(&sort.expr), sort.options);
            sort.fmt_sql(f)?;
        }
        f.write_str(")")?;
        if function.ignore_nulls() {
            f.write_str(" IGNORE NULLS")?;
        }
        match &self.filter {
            Some(filter) => write!(f, " FILTER (WHERE {})", sql(filter)),
            None => Ok(()),
        }
    }
}

/// Checks that an aggregate can run on a stream: its state must survive a snapshot, merge with
/// others, and not depend on the arrival order.
///
/// # Errors
/// The reason why it cannot, with an alternative.
pub fn check(call: &AggregateFunction) -> Result<(), String> {
    let name = call.func.name();
    if call.params.distinct && !heeds_distinct(name) {
        return Err("DataFusion has no `DISTINCT` for it, or forgets it".into());
    }
    let ordered = !call.params.order_by.is_empty();
    match name {
        "approx_distinct"
        | "approx_median"
        | "approx_percentile_cont"
        | "approx_percentile_cont_with_weight"
        | "array_agg"
        | "avg"
        | "bit_and"
        | "bit_or"
        | "bit_xor"
        | "bool_and"
        | "bool_or"
        | "corr"
        | "count"
        | "covar_pop"
        | "covar_samp"
        | "frequency_histogram"
        | "max"
        | "median"
        | "min"
        | "percentile_cont"
        | "regr_avgx"
        | "regr_avgy"
        | "regr_count"
        | "regr_intercept"
        | "regr_r2"
        | "regr_slope"
        | "regr_sxx"
        | "regr_sxy"
        | "regr_syy"
        | "stddev"
        | "stddev_pop"
        | "string_agg"
        | "sum"
        | "theta_sketch"
        | "theta_union"
        | "var"
        | "var_pop" => Ok(()),
        "first_value" | "last_value" if ordered => Ok(()),
        "first_value" | "last_value" => Err(format!(
            "without an order its value depends on how the rows arrive; \
             write `{name}(x ORDER BY …)`"
        )),
        "any_value" => {
            Err("its value depends on how the rows arrive; write `min(x)` or `max(x)`".into())
        }
        "nth_value" => {
            Err("its rows would have to arrive in order; write `array_agg(x ORDER BY …)[n]`".into())
        }
        "grouping" => Err("there are no grouping sets in a stream".into()),
        _ => Err("nothing is known of how its state survives a restart".into()),
    }
}

/// Whether `DISTINCT` is implemented, or makes no difference.
fn heeds_distinct(name: &str) -> bool {
    matches!(
        name,
        "approx_distinct"
            | "array_agg"
            | "avg"
            | "bit_and"
            | "bit_or"
            | "bool_and"
            | "bool_or"
            | "count"
            | "first_value"
            | "last_value"
            | "max"
            | "median"
            | "min"
            | "percentile_cont"
            | "string_agg"
            | "sum"
            | "var"
            | "var_pop"
    )
}

/// The same aggregate with a total order, if the order of rows matters.
fn with_total_order(expr: Expr) -> Expr {
    let Expr::AggregateFunction(AggregateFunction { func, mut params }) = expr else {
        return expr;
    };
    let ordered = !params.order_by.is_empty();
    let wants_order = match func.name() {
        // Distinct values have no ties, and no other order is allowed.
        "array_agg" | "string_agg" => !(ordered && params.distinct),
        "first_value" | "last_value" => ordered,
        _ => false,
    };
    if let Some(value) = params.args.first()
        && wants_order
        && params.order_by.iter().all(|sort| sort.expr != *value)
    {
        params
            .order_by
            .push(SortExpr::new(value.clone(), true, false));
    }
    Expr::AggregateFunction(AggregateFunction { func, params })
}
