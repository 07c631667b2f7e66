//! The meaning of tags: each is computed from all events of its key, by its definition.

use std::collections::BTreeMap;

use twox_hash::XxHash3_64;

use super::event::{Event, FLAG, WEIGHT};
use crate::tags::{
    self, Absence, Again, Aggregate, Function, Funnel, FunnelMode, Over, Score, Tag, TagKind,
    TagsSpec, TimeSince, TopK, value::Value,
};
use arrow::datatypes::DataType;
use tagflow_engine::time::micros;

/// Whether waits that end at an instant have ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Not yet: events of that instant may follow.
    Before,
    /// They have.
    End,
    /// They have, and scores use the thresholds of that instant.
    Rescore,
}

/// The thresholds of scores by quantiles, by tag and by the time from which they are valid.
pub(super) type Thresholds = BTreeMap<usize, BTreeMap<i64, Vec<f64>>>;

/// Tags of a key's events.
#[derive(Clone, Copy)]
pub(super) struct Reference<'a> {
    pub(super) spec: &'a TagsSpec,
    /// The type of each tag.
    pub(super) types: &'a [DataType],
    pub(super) thresholds: &'a Thresholds,
}

impl Reference<'_> {
    /// The value of a tag at `at`, from all events up to then, in order.
    pub(super) fn value(&self, tag: usize, events: &[Event], at: i64, phase: Phase) -> Value {
        let definition = &self.spec.tags[tag];
        if let (Some(ttl), Some(newest)) = (definition.ttl, self.newest(definition, events))
            && newest + micros(ttl) <= at
        {
            return self.value(tag, &[], at, phase);
        }
        match &definition.kind {
            TagKind::Aggregate(Aggregate { function, over, .. }) => {
                let made_of = events.iter().filter(|it| is_made_of(definition, it));
                let made_of = made_of.filter(|it| is_within(*over, it.time, at));
                aggregate(definition, *function, &made_of.collect::<Vec<_>>())
            }
            TagKind::TopK(TopK { k, .. }) => {
                let heaviest = self.weights(tag, events, at).into_iter().take(*k);
                let items: Vec<Value> = heaviest.map(|(item, _)| item).collect();
                if items.is_empty() {
                    Value::Null
                } else {
                    Value::List(items)
                }
            }
            TagKind::Funnel(Funnel {
                within,
                mode,
                steps,
            }) => {
                let made_of = events.iter().filter(|it| it.time > at - micros(*within));
                let columns: Vec<usize> = steps.iter().map(|(_, column)| *column).collect();
                match level(*mode, &columns, made_of) {
                    0 => Value::Null,
                    level => Value::Text(steps[level - 1].0.as_str().into()),
                }
            }
            TagKind::Absence(_) => {
                let firings = firings(&definition.kind, events);
                let has_fired = |fired: i64| fired < at || (fired == at && phase != Phase::Before);
                let lasts = |fired: i64| definition.ttl.is_none_or(|ttl| fired + micros(ttl) > at);
                let mut firings = firings.into_iter();
                Value::Bool(firings.any(|fired| has_fired(fired) && lasts(fired)))
            }
            TagKind::TimeSince(TimeSince { tag, unit }) => {
                match self.value(*tag, events, at, phase) {
                    Value::Int(since) => Value::Int((at - since).div_euclid(micros(*unit))),
                    _ => Value::Null,
                }
            }
            TagKind::Score(Score {
                tag: of,
                thresholds,
                is_reversed,
            }) => {
                let Some(number) = self.number(*of, events, at, phase) else {
                    return Value::Null;
                };
                let known = self.thresholds.get(&tag);
                let in_force =
                    |at_cut: i64| at_cut < at || (at_cut == at && phase == Phase::Rescore);
                let known = known.into_iter().flatten().rfind(|(at, _)| in_force(**at));
                let thresholds = match (thresholds, known) {
                    (tags::Thresholds::At(thresholds), _) => thresholds,
                    (tags::Thresholds::Quantiles(_), Some((_, thresholds)))
                        if !events.is_empty() =>
                    {
                        thresholds
                    }
                    (tags::Thresholds::Quantiles(_), _) => return Value::Null,
                };
                let passed = thresholds.iter().filter(|cut| **cut <= number).count();
                let passed = if *is_reversed {
                    thresholds.len() - passed
                } else {
                    passed
                };
                Value::Int(1 + passed as i64)
            }
        }
    }

    /// The value of a tag as a number.
    fn number(&self, tag: usize, events: &[Event], at: i64, phase: Phase) -> Option<f64> {
        match (self.value(tag, events, at, phase), &self.types[tag]) {
            (Value::Int(value), _) => Some(value as f64),
            (Value::Float(value), _) => Some(value),
            (Value::Decimal(digits), DataType::Decimal128(_, scale)) => {
                Some(digits as f64 / 10_f64.powi(i32::from(*scale)))
            }
            _ => None,
        }
    }

    /// The thresholds at `at`, by tag, from the events of each key up to then: the least numbers
    /// above the lowest 1/n, 2/n … of all.
    pub(super) fn cuts_at(&self, users: &[Vec<Event>], at: i64) -> BTreeMap<usize, Vec<f64>> {
        let mut found = BTreeMap::new();
        for (place, tag) in self.spec.tags.iter().enumerate() {
            let TagKind::Score(Score {
                tag,
                thresholds: tags::Thresholds::Quantiles(parts),
                ..
            }) = tag.kind
            else {
                continue;
            };
            let numbers = users.iter().map(|it| self.number(tag, it, at, Phase::End));
            let mut numbers: Vec<f64> = numbers.flatten().map(rounded).collect();
            numbers.sort_by(f64::total_cmp);
            let thresholds = (1..parts).map(|part| {
                let lowest = (numbers.len() * part).div_ceil(parts);
                let highest = numbers[lowest - 1];
                let mut above = numbers.iter().filter(|number| **number > highest);
                *above.next().unwrap_or(&f64::INFINITY)
            });
            if !numbers.is_empty() {
                found.insert(place, thresholds.collect());
            }
        }
        found
    }

    /// The value of a tag without any event.
    pub(super) fn before_any(&self, tag: usize) -> Value {
        self.value(tag, &[], 0, Phase::End)
    }

    /// The items of a ranking with their weights, the heaviest first.
    pub(super) fn weights(&self, tag: usize, events: &[Event], at: i64) -> Vec<(Value, f64)> {
        let definition = &self.spec.tags[tag];
        let TagKind::TopK(TopK {
            argument,
            half_life,
            ..
        }) = &definition.kind
        else {
            unreachable!("no ranking");
        };
        let mut weights: Vec<(Value, f64)> = Vec::new();
        for event in events.iter().filter(|it| is_made_of(definition, it)) {
            let item = event.value(*argument);
            let age = (at - event.time) as f64 / micros(*half_life) as f64;
            let weight = weight(&definition.kind, event) * (-age).exp2();
            match weights.iter_mut().find(|(known, _)| *known == item) {
                Some((_, known)) => *known += weight,
                None => weights.push((item, weight)),
            }
        }
        weights.sort_by(|one, other| {
            let by_weight = other.1.total_cmp(&one.1);
            by_weight.then_with(|| one.0.compare(&other.0))
        });
        weights
    }

    /// The time of the newest event that contributes to a tag, without the time of a firing.
    fn newest(&self, tag: &Tag, events: &[Event]) -> Option<i64> {
        match tag.kind {
            TagKind::TimeSince(TimeSince { tag, .. }) | TagKind::Score(Score { tag, .. }) => {
                self.newest(&self.spec.tags[tag], events)
            }
            TagKind::Absence(_) => None,
            _ => {
                let made_of = events.iter().filter(|it| is_made_of(tag, it));
                made_of.map(|it| it.time).max()
            }
        }
    }

    /// The times at which a tag, or its input, expires.
    pub(super) fn expires_at(&self, tag: usize, events: &[Event]) -> Vec<i64> {
        let definition = &self.spec.tags[tag];
        let ttl = definition.ttl.map(micros);
        let newest = self.newest(definition, events);
        let mut falls: Vec<i64> = newest
            .zip(ttl)
            .map(|(newest, ttl)| newest + ttl)
            .into_iter()
            .collect();
        match definition.kind {
            TagKind::TimeSince(TimeSince { tag, .. }) | TagKind::Score(Score { tag, .. }) => {
                falls.extend(self.expires_at(tag, events));
            }
            TagKind::Absence(_) => {
                let firings = firings(&definition.kind, events);
                falls.extend(firings.into_iter().filter_map(|at| Some(at + ttl?)));
            }
            _ => {}
        }
        falls
    }
}

/// Rounded down to 14 binary digits.
fn rounded(number: f64) -> f64 {
    if number == 0.0 {
        return 0.0;
    }
    let unit = (number.abs().log2().floor() - 13.0).exp2();
    (number / unit).floor() * unit
}

/// Whether an event contributes to a tag's value.
fn is_made_of(tag: &Tag, event: &Event) -> bool {
    match &tag.kind {
        TagKind::Aggregate(Aggregate {
            argument, filter, ..
        }) => event.passes(*filter) && argument.is_none_or(|it| !event.value(it).is_null()),
        TagKind::TopK(TopK {
            argument, filter, ..
        }) => {
            let has_weight = weight(&tag.kind, event) > 0.0;
            event.passes(*filter) && !event.value(*argument).is_null() && has_weight
        }
        TagKind::Funnel(Funnel { steps, .. }) => {
            steps.iter().any(|(_, step)| event.passes(Some(*step)))
        }
        _ => unreachable!("not made of events one by one"),
    }
}

fn is_within(over: Over, time: i64, at: i64) -> bool {
    match over {
        Over::Lifetime => true,
        Over::Rolling { window, tile } => {
            let tile = micros(tile);
            let leaves_with = (time.div_euclid(tile) + 1) * tile - 1;
            leaves_with > at - micros(window)
        }
    }
}

fn weight(kind: &TagKind, event: &Event) -> f64 {
    match kind {
        TagKind::TopK(TopK {
            weight: Some(WEIGHT),
            ..
        }) => event.weight.unwrap_or(0.0),
        _ => 1.0,
    }
}

fn aggregate(tag: &Tag, function: Function, events: &[&Event]) -> Value {
    let TagKind::Aggregate(Aggregate { argument, .. }) = tag.kind else {
        unreachable!("no aggregate");
    };
    if function == Function::Count {
        return Value::Int(events.len() as i64);
    }
    let argument = argument.unwrap();
    let values: Vec<Value> = events.iter().map(|it| it.value(argument)).collect();
    let decimal = argument == super::event::DECIMAL;
    let numbers = || {
        values.iter().map(|value| match value {
            Value::Int(value) => *value as f64,
            Value::Float(value) => *value,
            Value::Decimal(digits) => *digits as f64 / 100.0,
            _ => unreachable!("no number"),
        })
    };
    let count = values.len() as f64;
    let list = |values: Vec<Value>| {
        if values.is_empty() {
            Value::Null
        } else {
            Value::List(values)
        }
    };
    match function {
        Function::Sum if decimal => Value::Decimal(
            values
                .iter()
                .map(|value| match value {
                    Value::Decimal(digits) => *digits,
                    _ => 0,
                })
                .sum(),
        ),
        Function::Sum if argument == super::event::FLOAT => {
            Value::Float(numbers().sum::<f64>() + 0.0)
        }
        Function::Sum => Value::Int(numbers().sum::<f64>() as i64),
        Function::Avg if values.is_empty() => Value::Null,
        Function::Avg if decimal => {
            let digits = numbers().map(|it| (it * 100.0).round()).sum::<f64>();
            Value::Float(digits / 100.0 / count)
        }
        Function::Avg => Value::Float(numbers().sum::<f64>() / count),
        Function::Std if values.len() < 2 => Value::Null,
        Function::Std => {
            let mean = numbers().sum::<f64>() / count;
            let squares = numbers().map(|it| (it - mean).powi(2)).sum::<f64>();
            Value::Float((squares / (count - 1.0)).sqrt())
        }
        Function::Min => values
            .into_iter()
            .min_by(Value::compare)
            .unwrap_or_default(),
        Function::Max => values
            .into_iter()
            .max_by(Value::compare)
            .unwrap_or_default(),
        Function::First => values.first().cloned().unwrap_or_default(),
        Function::Last => values.last().cloned().unwrap_or_default(),
        Function::LastK { k } => list(values.into_iter().rev().take(k as usize).collect()),
        Function::Distinct { exact_up_to } => {
            let mut hashes: Vec<u64> = values.iter().map(hash).collect();
            hashes.sort_unstable();
            hashes.dedup();
            let bound = exact_up_to as usize;
            if hashes.len() <= bound {
                return Value::Int(hashes.len() as i64);
            }
            // The lowest hashes have the same density as all.
            let share = hashes[bound] as f64 / 2_f64.powi(64);
            Value::Int((bound as f64 / share).round() as i64)
        }
        Function::Count => unreachable!("above"),
    }
}

fn hash(value: &Value) -> u64 {
    match value {
        Value::Int(value) => XxHash3_64::oneshot(&value.to_le_bytes()),
        Value::Text(value) => XxHash3_64::oneshot(value.as_bytes()),
        _ => unreachable!("not counted here"),
    }
}

/// `ClickHouse`'s `windowFunnel` over events that are all within its window, one clause of its
/// documentation at a time. At the same time, events that are no step are first, then those of the
/// first step, and so on. If each step must be later, every passage is followed, as with
/// `strict_once`.
fn level<'a>(mode: FunnelMode, steps: &[usize], events: impl Iterator<Item = &'a Event>) -> usize {
    // Each step of each event, 0 for none.
    let mut passed: Vec<(i64, usize)> = Vec::new();
    for event in events {
        let is = |step: &usize| event.flags[steps[*step - 1] - FLAG] == Some(true);
        let of: Vec<usize> = (1..=steps.len()).filter(is).collect();
        if of.is_empty() {
            passed.push((event.time, 0));
        }
        passed.extend(of.into_iter().map(|step| (event.time, step)));
    }
    passed.sort_unstable();
    // The times at which passages reach each step.
    let mut reached: Vec<Vec<i64>> = vec![Vec::new(); steps.len() + 1];
    let mut highest = 0;
    for (time, step) in passed {
        match (mode, step) {
            (FunnelMode::StrictOrder, 0) if highest > 0 => return highest,
            (_, 0) => {}
            (_, 1) => {
                reached[1].push(time);
                highest = highest.max(1);
            }
            (FunnelMode::StrictDeduplication, step) if !reached[step].is_empty() => {
                return highest;
            }
            (FunnelMode::StrictOrder, step) if highest > 0 && step > highest + 1 => return highest,
            (_, step) => {
                let is_later = mode == FunnelMode::StrictIncrease;
                let mut before = reached[step - 1].iter();
                if before.any(|before| !is_later || *before < time) {
                    reached[step].push(time);
                    highest = highest.max(step);
                }
            }
        }
        if highest == steps.len() {
            return highest;
        }
    }
    highest
}

/// When an absence fires without further events, in order.
pub(super) fn firings(kind: &TagKind, events: &[Event]) -> Vec<i64> {
    let TagKind::Absence(Absence {
        after,
        expect,
        same,
        within,
        again,
    }) = kind
    else {
        unreachable!("no absence");
    };
    let within = micros(*within);
    let of = |event: &Event| -> Vec<Value> { same.iter().map(|it| event.value(*it)).collect() };
    // Whether an expected event occurs in [from, to].
    let is_met = |key: &[Value], from: i64, to: i64| {
        let mut events = events.iter();
        events
            .any(|it| it.passes(Some(*expect)) && it.time >= from && it.time <= to && of(it) == key)
    };
    let mut waits: Vec<(i64, Vec<Value>)> = Vec::new();
    for event in events.iter().filter(|it| it.passes(Some(*after))) {
        let (time, key) = (event.time, of(event));
        if is_met(&key, time, time) {
            continue;
        }
        let goes_on = waits.iter().rposition(|(begun, of)| {
            *of == key && time <= begun + within && !is_met(&key, *begun, time)
        });
        match (again, goes_on) {
            (Again::First, Some(_)) => continue,
            (Again::Restart, Some(wait)) => drop(waits.remove(wait)),
            _ => {}
        }
        waits.push((time, key));
    }
    waits.retain(|(begun, key)| !is_met(key, *begun, begun + within));
    let mut firings: Vec<i64> = waits.into_iter().map(|(begun, _)| begun + within).collect();
    firings.sort_unstable();
    firings
}
