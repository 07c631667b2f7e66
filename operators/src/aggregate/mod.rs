//! Aggregate functions that `DataFusion` does not have, and replacements for some of its functions.
//!
//! | function | result |
//! | --- | --- |
//! | `theta_sketch(x, lg_k)` | a sketch of the distinct `x`, see [`ThetaSketchFunction`] |
//! | `theta_union(sketch, lg_k)` | the union of the sketches |
//! | `frequency_histogram(x, '1,2,5')` | the number of distinct `x` by frequency, see [`FrequencyHistogram`] |
//!
//! Their states merge in any order and any grouping to the same bytes.

mod constant;
mod distinct;
pub(crate) mod exact;
mod histogram;
mod theta;

use arrow::{
    array::{Array, BooleanArray},
    compute::prep_null_mask_filter,
};
use datafusion::logical_expr::AggregateUDF;

pub(crate) use distinct::DistinctCounts;
pub use histogram::FrequencyHistogram;
pub use theta::{ThetaSketchFunction, estimate};

/// The functions, for registration.
pub fn functions() -> [AggregateUDF; 3] {
    [
        AggregateUDF::new_from_impl(ThetaSketchFunction::of_values()),
        AggregateUDF::new_from_impl(ThetaSketchFunction::of_sketches()),
        AggregateUDF::new_from_impl(FrequencyHistogram::new()),
    ]
}

/// The condition, with nulls as false.
fn without_nulls(wanted: &BooleanArray) -> BooleanArray {
    match wanted.null_count() {
        0 => wanted.clone(),
        _ => prep_null_mask_filter(wanted),
    }
}
