//! The events that count, and the expected profiles, with late events.

use std::collections::{BTreeMap, BTreeSet};

use tagflow_engine::time::micros;

use super::{
    definitions::{Case, RECUT_US, lateness_us},
    event::Event,
    reference::{Phase, Thresholds},
};
use crate::tags::value::Value;

/// All accepted events of each user, at a watermark.
pub(super) struct Model<'a> {
    case: &'a Case,
    pub(super) watermark: i64,
    /// In order.
    pub(super) events: BTreeMap<String, Vec<Event>>,
    /// The expected profiles, by user and time.
    pub(super) profiles: BTreeMap<(String, i64), Shown>,
    /// Partition and offset of late events.
    pub(super) late: Vec<(String, i64)>,
    pub(super) without_user: usize,
    /// Events behind the watermark that count.
    pub(super) corrections: usize,
    pub(super) thresholds: Thresholds,
}

/// The content of a profile.
#[derive(Debug)]
pub(super) struct Shown {
    pub(super) values: Vec<Value>,
    /// By tag, the weights of a ranking.
    pub(super) weights: Vec<Vec<(Value, f64)>>,
    /// The segments of the user, by their enter rules alone.
    pub(super) segments: Vec<bool>,
}

impl<'a> Model<'a> {
    pub(super) fn new(case: &'a Case) -> Self {
        Self {
            case,
            watermark: i64::MIN,
            events: BTreeMap::new(),
            profiles: BTreeMap::new(),
            late: Vec::new(),
            without_user: 0,
            corrections: 0,
            thresholds: Thresholds::new(),
        }
    }

    pub(super) fn send(&mut self, event: &Event) {
        let Some(user) = &event.user else {
            self.without_user += 1;
            return;
        };
        if event.time < self.watermark.saturating_sub(lateness_us(self.case)) {
            self.late.push((event.partition.to_string(), event.offset));
            return;
        }
        self.corrections += usize::from(event.time < self.watermark);
        let events = self.events.entry(user.clone()).or_default();
        let place = event.place(self.case.spec.id.is_some());
        let place = events.partition_point(|it| it.place(self.case.spec.id.is_some()) <= place);
        events.insert(place, event.clone());
    }

    pub(super) fn watermark(&mut self, to: i64) {
        let every = self.case.spec.profile.every;
        let every = micros(every.expect("cases have profiles"));
        let profiles = self.multiples(every, to).map(|at| (at, true));
        let recuts = self.multiples(RECUT_US, to).map(|at| (at, false));
        let instants: BTreeSet<(i64, bool)> = profiles.chain(recuts).collect();
        let users: Vec<String> = self.events.keys().cloned().collect();
        for (at, is_profile) in instants {
            if !is_profile {
                let live: Vec<Vec<Event>> = users.iter().map(|user| self.live(user, at)).collect();
                let known: Vec<Vec<Event>> = live.into_iter().filter(|it| !it.is_empty()).collect();
                let found = self.case.reference(&self.thresholds).cuts_at(&known, at);
                for (tag, thresholds) in found {
                    self.thresholds
                        .entry(tag)
                        .or_default()
                        .insert(at, thresholds);
                }
                continue;
            }
            for user in &users {
                if let Some(shown) = self.shown(user, at) {
                    self.profiles.insert((user.clone(), at), shown);
                }
            }
        }
        self.watermark = to;
        // A forgotten key stays forgotten even if a late event follows.
        for user in self.events.keys().cloned().collect::<Vec<_>>() {
            let live = self.live(&user, to - 1).len();
            let events = self.events.get_mut(&user).unwrap();
            let done = events.partition_point(|it| it.time < to);
            events.drain(..done - live);
        }
    }

    /// The multiples of `every` that the watermark passes on its way to `to`, from the first event
    /// on.
    fn multiples(&self, every: i64, to: i64) -> impl Iterator<Item = i64> + use<> {
        let first = self.events.values().flatten().map(|it| it.time).min();
        let first = first.unwrap_or(i64::MAX).max(self.watermark);
        let places = first.div_euclid(every)..=(to - 1).div_euclid(every);
        places
            .map(move |place| place * every)
            .filter(move |at| *at >= first)
    }

    /// The events of a user up to `at` that are not forgotten then.
    pub(super) fn live(&self, user: &str, at: i64) -> Vec<Event> {
        let state_ttl = self.case.spec.state_ttl.map(micros);
        let mut live: Vec<Event> = Vec::new();
        let events = self.events[user].iter();
        for event in events.take_while(|it| it.time <= at) {
            let is_over = |last: &Event| state_ttl.is_some_and(|ttl| last.time + ttl <= event.time);
            if live.last().is_some_and(is_over) {
                live.clear();
            }
            live.push(event.clone());
        }
        if live
            .last()
            .zip(state_ttl)
            .is_some_and(|(last, ttl)| last.time + ttl <= at)
        {
            live.clear();
        }
        live
    }

    /// The profile of each user just before `agreed`, the common watermark of all lanes.
    pub(super) fn newest(&self, agreed: i64) -> BTreeMap<(String, i64), Shown> {
        let at = agreed.saturating_sub(1);
        let users = self.events.keys().filter_map(|user| {
            let shown = self.shown(user, at)?;
            Some(((user.clone(), at), shown))
        });
        users.collect()
    }

    fn shown(&self, user: &str, at: i64) -> Option<Shown> {
        let live = self.live(user, at);
        live.last()?;
        let reference = self.case.reference(&self.thresholds);
        let tags = 0..self.case.spec.tags.len();
        let values: Vec<Value> = tags
            .clone()
            .map(|tag| reference.value(tag, &live, at, Phase::Rescore))
            .collect();
        let column = |column: usize| values[self.case.spec.segments.tags[column]].clone();
        let segments = self.case.segments.iter();
        let segments = segments.map(|it| it.enter.eval(&column) == Some(true));
        Some(Shown {
            segments: segments.collect(),
            weights: tags
                .map(|tag| match (self.case.is_exact(tag), &values[tag]) {
                    (false, Value::List(_)) => reference.weights(tag, &live, at),
                    _ => Vec::new(),
                })
                .collect(),
            values,
        })
    }
}
