//! A kind of tag that is computed from another tag.

use arrow::datatypes::{DataType, Field};

use super::context::Context;
use crate::tags::value::Value;

/// The definition of a derived tag.
pub(crate) trait DerivedKind {
    /// The compiled definition.
    type Plan: DerivedPlan;

    /// The index of the other tag.
    fn tag(&self) -> usize;

    /// The same, mutable.
    fn tag_mut(&mut self) -> &mut usize;

    /// The number of parts, if it depends on quantiles over all keys.
    fn quantiles(&self) -> Option<usize> {
        None
    }

    /// The type of its values, which may be null. `of` is the other tag.
    ///
    /// # Errors
    /// The mistake in the definition.
    fn data_type(&self, of: &Field) -> Result<DataType, String>;

    /// Compiles it. [`data_type`](Self::data_type) has found no mistake.
    fn compile(&self, context: &Context<'_>, of: &InputTag<'_>) -> CompiledDerived<Self::Plan>;
}

/// The tag from which another one is computed.
#[derive(Debug)]
pub(crate) struct InputTag<'a> {
    pub(crate) data_type: &'a DataType,
    pub(crate) fingerprint: &'a str,
    /// The value before any event.
    pub(crate) default: &'a Value,
}

/// A compiled definition, and the tag's value before any event.
#[derive(Debug)]
pub(crate) struct CompiledDerived<P> {
    pub(crate) plan: P,
    /// The fingerprint of the value.
    pub(crate) fingerprint: String,
    pub(crate) default: Value,
}

/// A compiled definition, which computes values from those of another tag.
pub(crate) trait DerivedPlan {
    /// Whether changes are emitted.
    const HAS_CHANGES: bool = true;

    /// The index of the other tag.
    fn tag(&self) -> usize;

    /// The value at `clock`. `of` is the value of the other tag.
    fn value(&self, of: &Value, data_type: &DataType, clock: i64) -> Value;

    /// If values count the time since another value: the unit.
    fn unit_us(&self) -> Option<i64> {
        None
    }

    /// The thresholds of values; `None` for a kind without any.
    fn thresholds(&self) -> Option<&ThresholdPlan> {
        None
    }

    /// The same, mutable.
    fn thresholds_mut(&mut self) -> Option<&mut ThresholdPlan> {
        None
    }
}

/// The thresholds with which a value is compared.
#[derive(Debug, Clone)]
pub(crate) struct ThresholdPlan {
    /// In ascending order; `None` until they are known.
    pub(crate) at: Option<Vec<f64>>,
    /// The number of quantiles, if they are quantiles over all keys.
    pub(crate) quantiles: Option<usize>,
}
