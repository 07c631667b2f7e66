//! Aggregate functions that `DataFusion` has not.
//!
//! | function | is |
//! | --- | --- |
//! | `theta_sketch(x, lg_k)` | a sketch of the distinct `x`, see [`ThetaSketchFunction`] |
//! | `theta_union(sketch, lg_k)` | the sketch of all that the sketches have seen |
//! | `frequency_histogram(x, '1,2,5')` | how many distinct `x` came how often, see [`FrequencyHistogram`] |
//!
//! Their states merge in any order and any grouping to the same bytes.

mod distinct;
mod histogram;
mod theta;

use datafusion::{
    common::{Result, ScalarValue, plan_err},
    logical_expr::{AggregateUDF, function::AccumulatorArgs},
    physical_expr::expressions::Literal,
};

pub(crate) use distinct::DistinctCounts;
pub use histogram::FrequencyHistogram;
pub use theta::{ThetaSketchFunction, estimate};

/// The functions, to be registered.
pub fn functions() -> [AggregateUDF; 3] {
    [
        AggregateUDF::new_from_impl(ThetaSketchFunction::of_values()),
        AggregateUDF::new_from_impl(ThetaSketchFunction::of_sketches()),
        AggregateUDF::new_from_impl(FrequencyHistogram::new()),
    ]
}

/// The constant that is the second argument.
fn constant(args: &AccumulatorArgs<'_>) -> Result<ScalarValue> {
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
