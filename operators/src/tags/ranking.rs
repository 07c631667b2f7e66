//! Items by weight that decays.

use std::cmp::Ordering;

use super::{coding::coded, value::Value};

/// How rankings of one kind are kept.
#[derive(Debug, Clone)]
pub(super) struct RankingPlan {
    pub(super) filter: Option<usize>,
    pub(super) argument: usize,
    pub(super) weight: Option<usize>,
    pub(super) half_life_us: i64,
    /// How many items are shown.
    pub(super) k: usize,
    /// How many items are known at most.
    pub(super) capacity: usize,
}

/// Items with their weights, at most [`RankingPlan::capacity`]: the lightest one
/// goes for a new one.
///
/// A weight w at time t is, as of T, w · 2^((t − T) / half-life). All fall alike, so
/// their order stays, and log₂ w + t / half-life, the *score*, says all about a
/// weight whatever T is.
#[derive(Debug, Clone, Default)]
pub(super) struct Ranking {
    /// With their scores, the heaviest first.
    items: Vec<(Value, f64)>,
    /// The time of the newest event.
    pub(super) newest: Option<i64>,
}

coded! {
    Ranking { items, newest }
}

impl Ranking {
    /// Adds an event that weighs `weight`, which is above zero.
    pub(super) fn add(&mut self, plan: &RankingPlan, item: &Value, weight: f64, time: i64) {
        self.newest = self.newest.max(Some(time));
        let mut score = weight.log2() + time as f64 / plan.half_life_us as f64;
        if let Some(place) = self.items.iter().position(|(known, _)| known == item) {
            let (_, known) = self.items.remove(place);
            let (low, high) = (known.min(score), known.max(score));
            score = high + (low - high).exp2().ln_1p() / std::f64::consts::LN_2;
        } else if self.items.len() >= plan.capacity {
            self.items.pop();
        }
        let new = (item.clone(), score);
        let heavier = |known: &(Value, f64)| by_weight(known, &new) == Ordering::Less;
        let place = self.items.partition_point(heavier);
        self.items.insert(place, new);
    }

    /// The `k` heaviest items, the heaviest first; of equal ones the lower value.
    pub(super) fn top(&self, k: usize) -> Value {
        if self.items.is_empty() {
            return Value::Null;
        }
        let top = self.items.iter().take(k);
        Value::List(top.map(|(item, _)| item.clone()).collect())
    }
}

fn by_weight(one: &(Value, f64), other: &(Value, f64)) -> Ordering {
    let by_score = other.1.total_cmp(&one.1);
    by_score.then_with(|| one.0.compare(&other.0))
}
