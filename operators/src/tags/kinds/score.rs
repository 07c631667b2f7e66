//! The score of another tag's value, by thresholds.

use arrow::datatypes::{DataType, Field};
use tagflow_engine::time::micros;

use super::{
    context::Context,
    derived::{CompiledDerived, DerivedKind, DerivedPlan, InputTag, ThresholdPlan},
};
use crate::tags::value::Value;

/// A score from 1 to the number of thresholds and one: 1 and the number of thresholds that are not
/// above the value; null if that is null.
#[derive(Debug, Clone, PartialEq)]
pub struct Score {
    /// The index in [`TagsSpec::tags`](crate::tags::TagsSpec::tags) of a tag that is a number.
    pub tag: usize,
    /// The thresholds.
    pub thresholds: Thresholds,
    /// Whether low values have the high scores.
    pub is_reversed: bool,
}

/// The thresholds of a score.
#[derive(Debug, Clone, PartialEq)]
pub enum Thresholds {
    /// At these numbers, ascending.
    At(Vec<f64>),
    /// Quantiles over the values of all keys, with this number of parts, at least two. The
    /// thresholds are the least numbers above the lowest 1/n, 2/n … of the keys with a value, at
    /// the last multiple of [`TagsSpec::rescore_every`]. Numbers are distinguished to one in 8,192.
    /// The score is null before the first multiple. Its tag may not depend on another such score.
    ///
    /// [`TagsSpec::rescore_every`]: crate::tags::TagsSpec::rescore_every
    Quantiles(usize),
}

/// A compiled [`Score`].
#[derive(Debug, Clone)]
pub(crate) struct ScorePlan {
    tag: usize,
    thresholds: ThresholdPlan,
    is_reversed: bool,
}

impl DerivedKind for Score {
    type Plan = ScorePlan;

    fn tag(&self) -> usize {
        self.tag
    }

    fn tag_mut(&mut self) -> &mut usize {
        &mut self.tag
    }

    fn quantiles(&self) -> Option<usize> {
        match self.thresholds {
            Thresholds::At(_) => None,
            Thresholds::Quantiles(parts) => Some(parts),
        }
    }

    fn data_type(&self, of: &Field) -> Result<DataType, String> {
        match of.data_type() {
            DataType::Int64 | DataType::Float64 | DataType::Decimal128(..) => Ok(DataType::Int64),
            _ => Err(format!("`{}` is no number", of.name())),
        }
    }

    fn compile(&self, context: &Context<'_>, of: &InputTag<'_>) -> CompiledDerived<ScorePlan> {
        let Self { is_reversed, .. } = *self;
        let (at, by) = match &self.thresholds {
            Thresholds::At(at) => (Some(at.clone()), format!("{at:?}")),
            Thresholds::Quantiles(parts) => {
                let every = micros(context.rescore_every);
                (None, format!("in {parts} each {every}us"))
            }
        };
        let plan = ScorePlan {
            tag: self.tag,
            thresholds: ThresholdPlan {
                at,
                quantiles: self.quantiles(),
            },
            is_reversed,
        };
        CompiledDerived {
            fingerprint: format!("score {by} {is_reversed} of {}", of.fingerprint),
            default: plan.score(of.default.number(of.data_type)),
            plan,
        }
    }
}

impl ScorePlan {
    /// The score of a number; null without thresholds.
    fn score(&self, number: Option<f64>) -> Value {
        let (Some(number), Some(thresholds)) = (number, &self.thresholds.at) else {
            return Value::Null;
        };
        let passed = thresholds.partition_point(|cut| *cut <= number);
        let score = if self.is_reversed {
            thresholds.len() - passed
        } else {
            passed
        };
        Value::Int(score as i64 + 1)
    }
}

impl DerivedPlan for ScorePlan {
    fn tag(&self) -> usize {
        self.tag
    }

    fn value(&self, of: &Value, data_type: &DataType, _: i64) -> Value {
        self.score(of.number(data_type))
    }

    fn thresholds(&self) -> Option<&ThresholdPlan> {
        Some(&self.thresholds)
    }

    fn thresholds_mut(&mut self) -> Option<&mut ThresholdPlan> {
        Some(&mut self.thresholds)
    }
}
