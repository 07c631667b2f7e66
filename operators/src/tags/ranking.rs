//! Items by weight that decays.

use serde::{Deserialize, Serialize};

use super::value::Value;

/// How rankings of one kind are kept.
#[derive(Debug, Clone)]
pub(super) struct RankingPlan {
    /// What the state depends on.
    pub(super) fingerprint: String,
    pub(super) filter: Option<usize>,
    pub(super) argument: usize,
    pub(super) weight: Option<usize>,
    pub(super) half_life_us: i64,
    /// How many items are known at most.
    pub(super) capacity: usize,
    /// The tag that is made of it.
    pub(super) tag: usize,
}

/// Items with their weights, at most [`RankingPlan::capacity`]: the lightest one
/// goes for a new one.
///
/// A weight w at time t is, as of T, w · 2^((t − T) / half-life). All fall alike, so
/// their order stays, and log₂ w + t / half-life, the *score*, says all about a
/// weight whatever T is.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Ranking {
    items: Vec<(Value, f64)>,
    /// The time of the newest event.
    pub(super) newest: Option<i64>,
}

impl Ranking {
    /// Adds an event that weighs `weight`, which is above zero.
    pub(super) fn add(&mut self, plan: &RankingPlan, item: &Value, weight: f64, time: i64) {
        self.newest = self.newest.max(Some(time));
        let score = weight.log2() + time as f64 / plan.half_life_us as f64;
        if let Some((_, known)) = self.items.iter_mut().find(|(known, _)| known == item) {
            let (low, high) = (known.min(score), known.max(score));
            *known = high + (low - high).exp2().ln_1p() / std::f64::consts::LN_2;
            return;
        }
        self.items.push((item.clone(), score));
        if self.items.len() > plan.capacity {
            let items = self.items.iter().enumerate();
            let lightest = items.max_by(|(_, one), (_, other)| by_weight(one, other));
            if let Some((place, _)) = lightest {
                self.items.swap_remove(place);
            }
        }
    }

    /// The `k` heaviest items, the heaviest first; of equal ones the lower value.
    pub(super) fn top(&self, k: usize) -> Value {
        if self.items.is_empty() {
            return Value::Null;
        }
        let mut items: Vec<&(Value, f64)> = self.items.iter().collect();
        if items.len() > k {
            items.select_nth_unstable_by(k - 1, |one, other| by_weight(one, other));
            items.truncate(k);
        }
        items.sort_by(|one, other| by_weight(one, other));
        Value::List(items.into_iter().map(|(item, _)| item.clone()).collect())
    }
}

fn by_weight(one: &(Value, f64), other: &(Value, f64)) -> std::cmp::Ordering {
    let by_score = other.1.total_cmp(&one.1);
    by_score.then_with(|| one.0.compare(&other.0))
}
