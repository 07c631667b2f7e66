//! The time since another tag's value.

use std::time::Duration;

use arrow::datatypes::{DataType, Field, TimeUnit};
use tagflow_engine::time::micros;

use super::{
    context::Context,
    derived::{CompiledDerived, DerivedKind, DerivedPlan, InputTag},
};
use crate::tags::value::Value;

/// The time since a tag's value, in whole units; null if that is null. It emits no changes, because
/// they would never end.
#[derive(Debug, Clone, PartialEq)]
pub struct TimeSince {
    /// The index in [`TagsSpec::tags`](crate::tags::TagsSpec::tags) of a tag that is a timestamp.
    pub tag: usize,
    /// The unit.
    pub unit: Duration,
}

/// A compiled [`TimeSince`].
#[derive(Debug, Clone)]
pub(crate) struct TimeSincePlan {
    tag: usize,
    unit_us: i64,
}

impl DerivedKind for TimeSince {
    type Plan = TimeSincePlan;

    fn tag(&self) -> usize {
        self.tag
    }

    fn tag_mut(&mut self) -> &mut usize {
        &mut self.tag
    }

    fn data_type(&self, of: &Field) -> Result<DataType, String> {
        if !matches!(
            of.data_type(),
            DataType::Timestamp(TimeUnit::Microsecond, _)
        ) {
            return Err(format!("`{}` is no time", of.name()));
        }
        if self.unit < Duration::from_micros(1) {
            return Err("the unit is zero".into());
        }
        Ok(DataType::Int64)
    }

    fn compile(&self, _: &Context<'_>, of: &InputTag<'_>) -> CompiledDerived<TimeSincePlan> {
        let unit_us = micros(self.unit);
        CompiledDerived {
            plan: TimeSincePlan {
                tag: self.tag,
                unit_us,
            },
            fingerprint: format!("units of {unit_us}us since {}", of.fingerprint),
            default: Value::Null,
        }
    }
}

impl DerivedPlan for TimeSincePlan {
    const HAS_CHANGES: bool = false;

    fn tag(&self) -> usize {
        self.tag
    }

    fn value(&self, of: &Value, _: &DataType, clock: i64) -> Value {
        match of {
            Value::Int(since) => Value::Int(clock.saturating_sub(*since).div_euclid(self.unit_us)),
            _ => Value::Null,
        }
    }

    fn unit_us(&self) -> Option<i64> {
        Some(self.unit_us)
    }
}
