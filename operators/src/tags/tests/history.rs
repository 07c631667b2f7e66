//! A key's tags and segments over time, step by step.

use std::collections::{BTreeMap, BTreeSet};

use arrow::datatypes::DataType;
use tagflow_engine::{EventTime, time::micros};

use super::{
    definitions::{Case, Condition},
    event::Event,
    reference::{Phase, Reference, Thresholds, firings},
};
use crate::tags::{Absence, Aggregate, Funnel, Over, TagKind, TimeSince, value::Value};

/// All rows of a key.
#[derive(Debug, Default)]
pub(super) struct History {
    pub(super) changes: Vec<String>,
    pub(super) moves: Vec<String>,
}

/// The membership of a key in a segment.
#[derive(Clone, Default)]
struct Membership {
    since: Option<i64>,
    /// The reason to leave at the end of the shortest membership.
    leaving: Option<String>,
}

struct Run<'a> {
    case: &'a Case,
    reference: Reference<'a>,
    user: &'a str,
    live: Vec<Event>,
    values: Vec<Value>,
    members: Vec<Membership>,
    /// Instants at which a change may happen.
    ahead: BTreeSet<i64>,
    history: History,
}

/// The history of `key_state` up to `until`, from its ordered events, with `thresholds` as the thresholds. No
/// event is late.
pub(super) fn history(
    case: &Case,
    user: &str,
    events: &[Event],
    until: i64,
    thresholds: &Thresholds,
) -> History {
    let reference = case.reference(thresholds);
    let tags = case.spec.tags.len();
    let mut run = Run {
        case,
        reference,
        user,
        live: Vec::new(),
        values: (0..tags).map(|tag| reference.before_any(tag)).collect(),
        members: vec![Membership::default(); case.segments.len()],
        ahead: instants(case, events, thresholds),
        history: History::default(),
    };
    while let Some(now) = run.ahead.pop_first().filter(|now| *now <= until) {
        run.step(now, events);
    }
    run.history
}

impl Run<'_> {
    fn step(&mut self, now: i64, events: &[Event]) {
        self.end_holds(now);
        let state_ttl = self.case.spec.state_ttl.map(micros);
        let newest = self.live.last().map(|it| it.time);
        if newest
            .zip(state_ttl)
            .is_some_and(|(newest, ttl)| newest + ttl <= now)
        {
            self.forget(now);
        } else if newest.is_some() {
            let falls: Vec<Vec<i64>> = (0..self.values.len())
                .map(|tag| self.reference.expires_at(tag, &self.live))
                .collect();
            let cause = |tag: usize| {
                if falls[tag].contains(&now) {
                    "ttl"
                } else {
                    "expiry"
                }
            };
            self.proceed(now, Phase::Before, None, cause);
        }
        for event in events.iter().filter(|it| it.time == now) {
            self.live.push(event.clone());
            self.proceed(now, Phase::Before, Some(now), |_| "event");
        }
        if self.live.is_empty() {
            return;
        }
        for tag in 0..self.values.len() {
            let kind = &self.case.spec.tags[tag].kind;
            if matches!(kind, TagKind::Absence(_)) {
                let mut old = self.values[tag].clone();
                let ended = firings(kind, &self.live)
                    .into_iter()
                    .filter(|at| *at == now);
                for _ in ended {
                    let new = Value::Bool(true);
                    if old == new {
                        continue;
                    }
                    self.change(tag, "set", &old, &new, None, now, "absence");
                    old = new;
                }
                self.values[tag] = old;
            }
        }
        self.proceed(now, Phase::End, None, |_| "nothing changes here");
        self.proceed(now, Phase::Rescore, None, |_| "quantiles");
    }

    /// Computes all values again.
    fn proceed(
        &mut self,
        now: i64,
        phase: Phase,
        event_time: Option<i64>,
        cause: impl Fn(usize) -> &'static str,
    ) {
        for tag in 0..self.values.len() {
            let new = self.reference.value(tag, &self.live, now, phase);
            let old = std::mem::replace(&mut self.values[tag], new.clone());
            let is_told = !matches!(self.case.spec.tags[tag].kind, TagKind::TimeSince(_));
            if old != new && is_told {
                self.change(tag, "set", &old, &new, event_time, now, cause(tag));
            }
        }
        self.check(now, true);
    }

    fn forget(&mut self, now: i64) {
        self.live.clear();
        for tag in 0..self.values.len() {
            let none = self.reference.before_any(tag);
            let old = std::mem::replace(&mut self.values[tag], none.clone());
            let is_told = !matches!(self.case.spec.tags[tag].kind, TagKind::TimeSince(_));
            if old != none && is_told {
                self.change(tag, "forget", &old, &Value::Null, None, now, "state_ttl");
            }
        }
        self.check(now, false);
    }

    #[expect(clippy::too_many_arguments, reason = "the columns of a row")]
    fn change(
        &mut self,
        tag: usize,
        op: &str,
        old: &Value,
        new: &Value,
        event_time: Option<i64>,
        effective_at: i64,
        cause: &str,
    ) {
        if !self.case.is_exact(tag) {
            return;
        }
        let data_type = &self.case.types[tag];
        let columns = [
            Some(self.user.to_owned()),
            Some(self.case.spec.tags[tag].name.clone()),
            Some(op.into()),
            old.text(data_type),
            new.text(data_type),
            event_time.map(|it| EventTime::from_micros(it).to_string()),
            Some(EventTime::from_micros(effective_at).to_string()),
            Some(cause.into()),
        ];
        self.history.changes.push(row(&columns));
    }

    /// Keys that wait for the end of the shortest membership leave first.
    fn end_holds(&mut self, now: i64) {
        for place in 0..self.members.len() {
            let member = &self.members[place];
            let hold = self.case.segments[place].hold_us;
            if let (Some(since), Some(why)) = (member.since, member.leaving.clone())
                && since + hold <= now
            {
                self.members[place] = Membership::default();
                self.tell(place, "left", now, &why);
            }
        }
    }

    fn check(&mut self, now: i64, is_known: bool) {
        for place in 0..self.members.len() {
            let segment = &self.case.segments[place];
            let enter = segment.enter.holds(self) == Some(true);
            let exit = match &segment.exit {
                Some(exit) => exit.holds(self) == Some(true),
                None => !enter,
            };
            let why_left = match &segment.exit {
                _ if !is_known => "all is forgotten, no event for so long".into(),
                Some(exit) => self.why("exit", exit),
                None => format!("no longer: {}", self.why("enter", &segment.enter)),
            };
            let member = &mut self.members[place];
            match member.since {
                Some(since) if !is_known || (exit && since + segment.hold_us <= now) => {
                    *member = Membership::default();
                    self.tell(place, "left", now, &why_left);
                }
                Some(since) if exit => {
                    member.leaving.get_or_insert(why_left);
                    self.ahead.insert(since + segment.hold_us);
                }
                Some(_) => member.leaving = None,
                None if enter && !exit && is_known => {
                    member.since = Some(now);
                    let why = self.why("enter", &segment.enter);
                    self.tell(place, "entered", now, &why);
                }
                None => {}
            }
        }
    }

    fn tell(&mut self, segment: usize, op: &str, at: i64, why: &str) {
        let columns = [
            Some(format!("segment_{segment}")),
            Some(self.user.to_owned()),
            Some(op.into()),
            Some(EventTime::from_micros(at).to_string()),
            Some(why.into()),
        ];
        self.history.moves.push(row(&columns));
    }

    fn why(&self, text: &str, condition: &Condition) -> String {
        let columns: BTreeSet<usize> = condition.columns();
        let values = columns.into_iter().map(|column| {
            let tag = self.case.spec.segments.tags[column];
            let value = self.values[tag].text(&self.case.types[tag]);
            let name = &self.case.spec.tags[tag].name;
            format!("{name} = {}", value.as_deref().unwrap_or("null"))
        });
        format!("{text} ({})", values.collect::<Vec<_>>().join(", "))
    }
}

impl Condition {
    fn holds(&self, run: &Run<'_>) -> Option<bool> {
        self.eval(&|column| run.values[run.case.spec.segments.tags[column]].clone())
    }
}

/// A row as a line.
pub(super) fn row(columns: &[Option<String>]) -> String {
    let columns = columns.iter().map(|it| it.as_deref().unwrap_or("null"));
    columns.collect::<Vec<_>>().join(" | ")
}

/// A superset of the instants at which a tag or a condition may change.
fn instants(case: &Case, events: &[Event], thresholds: &Thresholds) -> BTreeSet<i64> {
    let mut instants: BTreeSet<i64> = events.iter().map(|it| it.time).collect();
    instants.extend(thresholds.values().flat_map(BTreeMap::keys));
    let mut after = |length: i64| instants.extend(events.iter().map(|it| it.time + length));
    for tag in &case.spec.tags {
        let ttl = tag.ttl.map(micros);
        ttl.into_iter().for_each(&mut after);
        match &tag.kind {
            TagKind::Funnel(Funnel { within, .. }) => after(micros(*within)),
            TagKind::Absence(Absence { within, .. }) => {
                after(micros(*within));
                if let Some(ttl) = ttl {
                    after(micros(*within) + ttl);
                }
            }
            _ => {}
        }
    }
    case.spec.state_ttl.map(micros).into_iter().for_each(after);
    for tag in &case.spec.tags {
        match &tag.kind {
            TagKind::Aggregate(Aggregate {
                over: Over::Rolling { window, tile },
                ..
            }) => {
                let tile = micros(*tile);
                let ends = events
                    .iter()
                    .map(|it| (it.time.div_euclid(tile) + 1) * tile - 1);
                instants.extend(ends.map(|end| end + micros(*window)));
            }
            TagKind::TimeSince(TimeSince { tag, unit }) => {
                let TagKind::Aggregate(Aggregate {
                    argument: Some(argument),
                    ..
                }) = case.spec.tags[*tag].kind
                else {
                    unreachable!("no time");
                };
                for event in events {
                    let Value::Int(since) = event.value(argument) else {
                        continue;
                    };
                    let looks = case
                        .looks(thresholds)
                        .into_iter()
                        .flat_map(|it| [it, it + 1]);
                    instants.extend(looks.map(|units| since + units * micros(*unit)));
                }
            }
            _ => {}
        }
    }
    let first = events.first().map_or(i64::MAX, |it| it.time);
    instants.retain(|at| *at >= first);
    instants
}

/// Whether two values of a tag are equal, up to rounding.
pub(super) fn is_same(data_type: &DataType, one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Float(one), Value::Float(other)) => {
            (one - other).abs() <= 1e-9 * (1.0 + one.abs().max(other.abs()))
        }
        _ => one.text(data_type) == other.text(data_type),
    }
}
