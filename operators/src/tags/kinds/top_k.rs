//! Items ranked by a decaying weight.

use std::{cmp::Ordering, time::Duration};

use arrow::datatypes::{DataType, Schema};
use tagflow_engine::time::micros;

use super::{
    aggregate::Read,
    context::Context,
    stateful::{CompiledState, Outcome, StatePlan, StatefulKind},
};
use crate::tags::{
    codec::{Codec, codec},
    event::{Event, Timing},
    value::{Value, checked_type, list_of},
};

/// The least number of items that a ranking stores.
const MIN_CAPACITY: usize = 100;

/// The number of stored items for each item in its list.
const CAPACITY_FACTOR: usize = 10;

/// The items with the highest weight: a list of up to `k`, the heaviest first. A weight decays with
/// the time since its event.
#[derive(Debug, Clone, PartialEq)]
pub struct TopK {
    /// The column with the item: `Utf8`; rows with null do not count.
    pub argument: usize,
    /// The column with the weight of an event. A weight of null, zero or less does not count.
    /// `None` weighs 1.
    pub weight: Option<usize>,
    /// The column with the condition.
    pub filter: Option<usize>,
    /// The length of the list.
    pub k: usize,
    /// The time in which a weight halves.
    pub half_life: Duration,
}

/// A compiled [`TopK`].
#[derive(Debug, Clone)]
pub(crate) struct RankingPlan {
    filter: Option<usize>,
    argument: usize,
    weight: Option<usize>,
    half_life_us: i64,
    /// The number of items in the tag's list.
    k: usize,
    /// The most items that are kept.
    capacity: usize,
}

/// The code of rankings in format 2.
const SCORES: u8 = 1;

/// The weight of an item by an event.
#[derive(Debug)]
pub(crate) struct Weighted {
    item: Value,
    /// Above zero.
    weight: f64,
    time: i64,
}

/// Items with their weights, at most [`RankingPlan::capacity`]: a new item replaces the
/// lightest one.
///
/// A weight w at time t is, as of T, w · 2^((t − T) / half-life). All weights halve at
/// the same rate, so their order does not depend on T: they are stored as of time zero.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ranking {
    /// The items with their weights, the heaviest first.
    items: Vec<(Value, Weight)>,
    /// The time of the newest event.
    newest: Option<i64>,
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

impl StatefulKind for TopK {
    type Plan = RankingPlan;

    fn columns_mut(&mut self) -> Vec<&mut usize> {
        let columns = [&mut self.argument].into_iter();
        columns
            .chain(&mut self.weight)
            .chain(&mut self.filter)
            .collect()
    }

    fn data_type(&self, input: &Schema) -> Result<(DataType, bool), String> {
        let item = checked_type(input.field(self.argument))?;
        Ok((list_of(item), true))
    }

    fn compile(&self, context: &Context<'_>) -> CompiledState<RankingPlan> {
        let plan = RankingPlan {
            filter: self.filter,
            argument: self.argument,
            weight: self.weight,
            half_life_us: micros(self.half_life),
            k: self.k,
            capacity: (self.k * CAPACITY_FACTOR).max(MIN_CAPACITY),
        };
        let name = |column: Option<usize>| column.map(|column| context.name(column));
        let fingerprint = format!(
            "top of {}; weight {}; where {}; half-life {}us; of {}",
            context.name(self.argument),
            name(self.weight).unwrap_or("1"),
            name(self.filter).unwrap_or("true"),
            plan.half_life_us,
            plan.capacity,
        );
        CompiledState::alone(plan, fingerprint)
    }
}

impl StatePlan for RankingPlan {
    type State = Ranking;
    type Input = Weighted;

    fn new_state(&self) -> Ranking {
        Ranking::default()
    }

    fn take_older(code: u8, bytes: &mut &[u8]) -> Option<Ranking> {
        (code == SCORES).then(|| Ranking::take_scores(bytes))?
    }

    fn input(&self, event: &Event<'_>) -> Option<Weighted> {
        let weight = event.weight(self.weight);
        let has_weight = weight.partial_cmp(&0.0) == Some(Ordering::Greater);
        if !has_weight || !event.passes(self.filter) {
            return None;
        }
        let item = event.value(self.argument);
        (!item.is_null()).then_some(Weighted {
            item,
            weight,
            time: event.time,
        })
    }

    fn add(&self, state: &mut Ranking, event: Weighted, _: Timing, _: i64) -> Outcome {
        state.add(self, event);
        Outcome::New
    }

    fn value(&self, state: &Ranking, _: Option<&Read>, _: i64) -> Value {
        state.top(self.k)
    }

    fn newest(&self, state: &Ranking) -> Option<i64> {
        state.newest
    }
}

impl Ranking {
    fn add(&mut self, plan: &RankingPlan, event: Weighted) {
        let Weighted { item, weight, time } = event;
        self.newest = self.newest.max(Some(time));
        let weight = Weight::new(weight, time, plan.half_life_us);
        let known = self.items.iter().position(|(known, _)| *known == item);
        let new = match known.map(|place| self.items.remove(place)) {
            Some((item, before)) => (item, before.plus(weight)),
            None => (item, weight),
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
    fn top(&self, k: usize) -> Value {
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
    fn take_scores(bytes: &mut &[u8]) -> Option<Self> {
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

    fn weighted(item: &str, weight: f64, time: i64) -> Weighted {
        Weighted {
            item: Value::Text(item.into()),
            weight,
            time,
        }
    }

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
                ranking.add(&plan, weighted(item, *weight, *time));
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
        ranking.add(&plan, weighted("c", 3.0, NOW));
        assert_eq!(
            ranking.top(3),
            Value::List([text("b"), text("c"), text("a")].into())
        );
        ranking.add(&plan, weighted("a", 2.5, NOW));
        assert_eq!(ranking.top(1), Value::List([text("b")].into()));
    }
}
