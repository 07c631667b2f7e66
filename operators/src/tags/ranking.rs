//! Items ranked by a decaying weight.

use std::cmp::Ordering;

use super::{
    codec::{Codec, codec},
    value::Value,
};

/// The compiled definition of a ranking kind.
#[derive(Debug, Clone)]
pub(super) struct RankingPlan {
    pub(super) filter: Option<usize>,
    pub(super) argument: usize,
    pub(super) weight: Option<usize>,
    pub(super) half_life_us: i64,
    /// The number of items in the tag's list.
    pub(super) k: usize,
    /// The most items that are kept.
    pub(super) capacity: usize,
}

/// Items with their weights, at most [`RankingPlan::capacity`]: a new item replaces the
/// lightest one.
///
/// A weight w at time t is, as of T, w · 2^((t − T) / half-life). All weights halve at
/// the same rate, so their order does not depend on T: they are stored as of time zero.
#[derive(Debug, Clone, Default)]
pub(super) struct Ranking {
    /// The items with their weights, the heaviest first.
    items: Vec<(Value, Weight)>,
    /// The time of the newest event.
    pub(super) newest: Option<i64>,
}

/// `mantissa` · 2^`exponent`, with a mantissa in [1, 2): a float that neither overflows
/// nor loses digits, however many half-lives have passed.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Weight {
    exponent: i64,
    mantissa: f64,
}

codec! {
    Ranking { items, newest }
    Weight { exponent, mantissa }
}

impl Ranking {
    /// Adds an event of weight `weight`, which is above zero.
    pub(super) fn add(&mut self, plan: &RankingPlan, item: &Value, weight: f64, time: i64) {
        self.newest = self.newest.max(Some(time));
        let weight = Weight::new(weight, time, plan.half_life_us);
        let known = self.items.iter().position(|(known, _)| known == item);
        let new = match known.map(|place| self.items.remove(place)) {
            Some((item, before)) => (item, before.plus(weight)),
            None => (item.clone(), weight),
        };
        if self.items.len() >= plan.capacity {
            self.items.pop();
        }
        let heavier = |known: &(Value, Weight)| by_weight(known, &new) == Ordering::Less;
        let place = self.items.partition_point(heavier);
        self.items.insert(place, new);
    }

    /// The `k` heaviest items, the heaviest first; of equal weights, the lower value
    /// first.
    pub(super) fn top(&self, k: usize) -> Value {
        if self.items.is_empty() {
            return Value::Null;
        }
        let is_tie = |pair: &[(Value, Weight)]| pair[0].1.equals(pair[1].1);
        let first = &self.items[..self.items.len().min(k + 1)];
        if !first.windows(2).any(is_tie) {
            let top = self.items.iter().take(k);
            return Value::List(top.map(|(item, _)| item.clone()).collect());
        }
        let mut top = Vec::with_capacity(k);
        for ties in self.items.chunk_by(|one, other| one.1.equals(other.1)) {
            let mut ties: Vec<&Value> = ties.iter().map(|(item, _)| item).collect();
            ties.sort_unstable_by(|one, other| one.compare(other));
            top.extend(ties.into_iter().take(k - top.len()).cloned());
            if top.len() == k {
                break;
            }
        }
        Value::List(top)
    }

    /// Reads a ranking of format 2, which stored the logarithms of weights.
    pub(super) fn take_scores(bytes: &mut &[u8]) -> Option<Self> {
        let (scores, newest): (Vec<(Value, f64)>, _) = Codec::take(bytes)?;
        let items = scores.into_iter().map(|(item, score)| {
            let exponent = score.floor();
            let weight = Weight::normal((score - exponent).exp2(), exponent as i64);
            (item, weight)
        });
        Some(Self {
            items: items.collect(),
            newest,
        })
    }
}

impl Weight {
    /// `weight`, which is above zero, at `time`.
    fn new(weight: f64, time: i64, half_life_us: i64) -> Self {
        let rest = time.rem_euclid(half_life_us) as f64 / half_life_us as f64;
        Self::normal(weight * rest.exp2(), time.div_euclid(half_life_us))
    }

    /// `value` · 2^`exponent`.
    fn normal(value: f64, exponent: i64) -> Self {
        const BIAS: i64 = 1023;
        const DIGITS: u64 = (1 << 52) - 1;
        if value <= 0.0 {
            // Weights are positive, except in a damaged state.
            return Self {
                exponent: i64::MIN,
                mantissa: 1.0,
            };
        }
        if value < f64::MIN_POSITIVE {
            return Self::normal(value * 64_f64.exp2(), exponent.saturating_sub(64));
        }
        let bits = value.to_bits();
        Self {
            exponent: exponent.saturating_add((bits >> 52) as i64 - BIAS),
            mantissa: f64::from_bits(bits & DIGITS | (BIAS as u64) << 52),
        }
    }

    /// The mantissa for another, higher exponent.
    fn as_of(self, exponent: i64) -> f64 {
        self.mantissa * (self.exponent.saturating_sub(exponent) as f64).exp2()
    }

    fn plus(self, other: Self) -> Self {
        let exponent = self.exponent.max(other.exponent);
        Self::normal(self.as_of(exponent) + other.as_of(exponent), exponent)
    }

    /// Whether both weights are equal; `lighter` is not the heavier one. The rounding of
    /// sums depends on the order of events, so 12 equal digits suffice.
    fn equals(self, lighter: Self) -> bool {
        self.mantissa - lighter.as_of(self.exponent) <= (-40_f64).exp2()
    }
}

fn by_weight(one: &(Value, Weight), other: &(Value, Weight)) -> Ordering {
    let (one_is, other_is) = (one.1, other.1);
    let by_exponent = other_is.exponent.cmp(&one_is.exponent);
    by_exponent
        .then_with(|| other_is.mantissa.total_cmp(&one_is.mantissa))
        .then_with(|| one.0.compare(&other.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_US: i64 = 86_400_000_000;
    /// 2026-03-02.
    const NOW: i64 = 20_514 * DAY_US;

    /// The two heaviest of some items, by the weights of each item's events.
    fn top(half_life_us: i64, items: &[(&str, &[(f64, i64)])]) -> Vec<String> {
        let plan = RankingPlan {
            filter: None,
            argument: 0,
            weight: None,
            half_life_us,
            k: 2,
            capacity: 100,
        };
        let mut ranking = Ranking::default();
        for (item, events) in items {
            for (weight, time) in *events {
                ranking.add(&plan, &Value::Text((*item).into()), *weight, *time);
            }
        }
        match ranking.top(plan.k) {
            Value::List(top) => top
                .iter()
                .map(|item| item.text(&arrow::datatypes::DataType::Utf8).unwrap())
                .collect(),
            _ => Vec::new(),
        }
    }

    #[test]
    fn regression_equal_sums_are_ties_however_they_were_added() {
        let (one, before) = ((1.0, NOW), (2.0, NOW - 14 * DAY_US));
        for count in 2..40 {
            let many = vec![one; count];
            let at_once = [(count as f64, NOW)];
            for half_life in [14 * DAY_US, DAY_US / 24, 40] {
                let names = ["b", "a"];
                for [many_is, once_is] in [names, ["a", "b"]] {
                    let items: [(&str, &[(f64, i64)]); 2] = [(many_is, &many), (once_is, &at_once)];
                    assert_eq!(top(half_life, &items), ["a", "b"], "{count}");
                }
            }
        }
        // Two half-lives leave a quarter; the order of arrival does not matter.
        let forth = [one, before, (0.3, NOW - DAY_US)];
        let back = [forth[2], forth[1], forth[0]];
        assert_eq!(top(14 * DAY_US, &[("b", &forth), ("a", &back)]), ["a", "b"]);
        assert_eq!(
            top(14 * DAY_US, &[("b", &[before]), ("a", &[one])]),
            ["a", "b"]
        );
    }

    #[test]
    fn ties_at_the_end_of_the_list_go_by_value() {
        let one: &[(f64, i64)] = &[(1.0, NOW)];
        let items = [("d", one), ("c", one), ("b", one), ("a", one)];
        assert_eq!(top(DAY_US, &items), ["a", "b"]);
        let heavy: &[(f64, i64)] = &[(1.0, NOW), (1e-6, NOW)];
        assert_eq!(
            top(DAY_US, &[("b", one), ("a", one), ("z", heavy)]),
            ["z", "a"]
        );
    }
    #[test]
    fn weights_keep_their_digits() {
        let (light, heavy) = ([(1e6, NOW)], [(1e6 + 1.0, NOW)]);
        for half_life in [40, 1_000_000, 14 * DAY_US] {
            assert_eq!(top(half_life, &[("a", &light), ("z", &heavy)]), ["z", "a"]);
        }
        // Beyond the range of floats, in both directions.
        let (long_ago, now) = ([(f64::MAX, 0)], [(f64::MIN_POSITIVE / 8.0, NOW)]);
        assert_eq!(top(40, &[("a", &long_ago), ("z", &now)]), ["z", "a"]);
        let infinite: &[(f64, i64)] = &[(f64::INFINITY, 0), (1.0, NOW)];
        let twice: &[(f64, i64)] = &[(1.0, 0), (1.0, 0)];
        assert_eq!(top(DAY_US, &[("b", infinite), ("a", twice)]), ["b", "a"]);
    }

    #[test]
    fn rankings_of_format_2_are_read() {
        let text = |text: &str| Value::Text(text.into());
        let scores = vec![
            (text("b"), 20_514.0 / 14.0 + 3_f64.log2()),
            (text("a"), -2.5),
        ];
        let mut bytes = Vec::new();
        (scores, Some(NOW)).put(&mut bytes);
        let mut ranking = Ranking::take_scores(&mut bytes.as_slice()).unwrap();
        assert_eq!(ranking.newest, Some(NOW));
        let plan = RankingPlan {
            filter: None,
            argument: 0,
            weight: None,
            half_life_us: 14 * DAY_US,
            k: 3,
            capacity: 100,
        };
        // Three events of weight one equal one event of weight three.
        ranking.add(&plan, &text("c"), 3.0, NOW);
        assert_eq!(
            ranking.top(3),
            Value::List([text("b"), text("c"), text("a")].into())
        );
        ranking.add(&plan, &text("a"), 2.5, NOW);
        assert_eq!(ranking.top(1), Value::List([text("b")].into()));
    }
}
