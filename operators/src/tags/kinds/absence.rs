//! Events that did not happen in time.

use std::{fmt::Write, time::Duration};

use arrow::datatypes::{DataType, Schema};
use tagflow_engine::time::micros;

use super::{
    aggregate::Read,
    context::Context,
    stateful::{CompiledState, Outcome, StatePlan, StatefulKind},
};
use crate::tags::{
    change::Cause,
    codec::codec,
    event::{self, Timing},
    value::Value,
};

/// Whether an expected event did not happen in time: true from `within` after an `after` event, if
/// no `expect` event with the same `same` followed, at that time at the latest.
#[derive(Debug, Clone, PartialEq)]
pub struct Absence {
    /// The column with the condition that begins a wait.
    pub after: usize,
    /// The column with the condition that ends it.
    pub expect: usize,
    /// Columns that must be equal in both events; nulls are equal.
    pub same: Vec<usize>,
    /// The length of a wait.
    pub within: Duration,
    /// The effect of an `after` event on a current wait.
    pub again: Again,
}

/// The effect of an event that would begin a wait during another wait with the same values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// It begins a wait of its own.
    Each,
    /// None.
    First,
    /// The wait restarts.
    Restart,
}

/// A compiled [`Absence`].
#[derive(Debug, Clone)]
pub(crate) struct AbsencePlan {
    after: usize,
    expect: usize,
    same: Vec<usize>,
    within_us: i64,
    again: Again,
    /// How long a firing is active.
    ttl_us: Option<i64>,
    /// How late an event may be.
    lateness_us: i64,
}

/// Open waits, and active firings.
///
/// Late events may change how waits ended. So the events since the oldest time that a
/// late event may have are kept, with the waits as of that time. A late event is inserted
/// in order, and all events from that time on are replayed.
#[derive(Debug, Clone)]
pub(crate) struct AbsenceState {
    waits: Waits,
    /// In the order of their waits' ends.
    firings: Vec<Firing>,
    /// No late event is from before this time, so earlier ends are final.
    horizon: i64,
    /// The waits as of the horizon.
    before: Waits,
    /// The events from the horizon on, in the order of time and tie.
    events: Vec<Event>,
}

/// A wait that ended without the expected event.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Firing {
    /// When the wait ended.
    at: i64,
    same: u64,
}

/// An event of a wait.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    time: i64,
    tiebreak: u64,
    /// A hash of the values that both events must share.
    same: u64,
    is_after: bool,
    is_expected: bool,
}

/// The open waits.
#[derive(Debug, Clone, Default)]
struct Waits {
    /// In the order of their ends.
    open: Vec<Firing>,
    /// The expected events of the latest instant with one. They end waits that begin
    /// later within the same instant.
    expected: Vec<u64>,
    expected_at: i64,
}

codec! {
    AbsenceState { waits, firings, horizon, before, events }
    Firing { at, same }
    Event { time, tiebreak, same, is_after, is_expected }
    Waits { open, expected, expected_at }
}

impl StatefulKind for Absence {
    type Plan = AbsencePlan;

    fn columns_mut(&mut self) -> Vec<&mut usize> {
        let conditions = [&mut self.after, &mut self.expect];
        conditions.into_iter().chain(&mut self.same).collect()
    }

    fn data_type(&self, _: &Schema) -> Result<(DataType, bool), String> {
        Ok((DataType::Boolean, false))
    }

    fn compile(&self, context: &Context<'_>) -> CompiledState<AbsencePlan> {
        let plan = AbsencePlan {
            after: self.after,
            expect: self.expect,
            same: self.same.clone(),
            within_us: micros(self.within),
            again: self.again,
            ttl_us: context.ttl.map(micros),
            lateness_us: micros(context.lateness),
        };
        let mut fingerprint = format!(
            "no {} after {} in {}us; again {:?}; for {:?}",
            context.name(self.expect),
            context.name(self.after),
            plan.within_us,
            self.again,
            context.ttl
        );
        for column in &self.same {
            let _ = write!(fingerprint, "; same {}", context.name(*column));
        }
        CompiledState {
            default: Value::Bool(false),
            ..CompiledState::alone(plan, fingerprint)
        }
    }
}

impl StatePlan for AbsencePlan {
    type State = AbsenceState;
    type Input = Event;

    const FIRES: bool = true;

    fn covers_us(&self, _: Option<&Read>) -> Option<i64> {
        Some(self.within_us.saturating_add(self.ttl_us?))
    }

    fn new_state(&self) -> AbsenceState {
        AbsenceState {
            waits: Waits::default(),
            firings: Vec::new(),
            horizon: i64::MIN,
            before: Waits::default(),
            events: Vec::new(),
        }
    }

    fn input(&self, event: &event::Event<'_>) -> Option<Event> {
        let is_after = event.passes(Some(self.after));
        let is_expected = event.passes(Some(self.expect));
        if !is_after && !is_expected {
            return None;
        }
        let same = self.same.iter().map(|column| event.value(*column));
        Some(Event {
            time: event.time,
            tiebreak: event.tiebreak,
            same: Value::List(same.collect()).hash(),
            is_after,
            is_expected,
        })
    }

    fn add(&self, state: &mut AbsenceState, event: Event, timing: Timing, clock: i64) -> Outcome {
        match timing {
            Timing::InOrder => {
                state.waits.add(self, &event);
                state.events.push(event);
                state.forget(self, clock);
                Outcome::Same
            }
            Timing::Late => Outcome::Revised(state.add_late(self, event, clock)),
        }
    }

    /// Whether a firing is active.
    fn value(&self, state: &AbsenceState, _: Option<&Read>, clock: i64) -> Value {
        Value::Bool(state.firings.iter().any(|it| self.is_active(it, clock)))
    }

    /// When the next wait ends, or the last active firing expires.
    fn next(&self, state: &AbsenceState, clock: i64) -> Option<i64> {
        let next_end = state.waits.open.first().map(|wait| wait.at);
        let times = [next_end, self.expires_at(state, None, clock)];
        times.into_iter().flatten().min()
    }

    /// When the last active firing expires.
    fn expires_at(&self, state: &AbsenceState, _: Option<&Read>, clock: i64) -> Option<i64> {
        let ttl = self.ttl_us?;
        let last = state.firings.last()?;
        let expiry = last.at.saturating_add(ttl);
        (expiry > clock).then_some(expiry)
    }

    fn expiry(&self, _: &AbsenceState, _: i64, _: i64) -> Option<Cause> {
        Some(Cause::Ttl)
    }

    fn advance(&self, state: &mut AbsenceState, _: i64, to: i64) {
        state.forget(self, to);
    }

    fn end_waits(&self, state: &mut AbsenceState, to: i64) -> Option<i64> {
        let fired = state.waits.end_before(to.saturating_add(1));
        let first = fired.first().map(|it| it.at);
        state.firings.extend(fired);
        first
    }
}

impl AbsencePlan {
    fn is_active(&self, firing: &Firing, clock: i64) -> bool {
        self.ttl_us.is_none_or(|ttl| firing.at + ttl > clock)
    }
}

impl AbsenceState {
    /// Adds an event from before `clock`; waits have ended up to `clock`. Returns the first active
    /// firing that is new.
    fn add_late(&mut self, plan: &AbsencePlan, event: Event, clock: i64) -> Option<i64> {
        let place = (event.time, event.tiebreak);
        let before = |event: &Event| (event.time, event.tiebreak) <= place;
        let place = self.events.partition_point(before);
        self.events.insert(place, event);

        let mut waits = self.before.clone();
        let mut fired = Vec::new();
        for event in &self.events {
            fired.extend(waits.end_before(event.time));
            waits.add(plan, event);
        }
        fired.extend(waits.end_before(clock.saturating_add(1)));
        self.waits = waits;
        let is_settled = |it: &Firing| it.at < self.horizon;
        let (mut settled, known): (Vec<_>, Vec<_>) = self.firings.drain(..).partition(is_settled);
        let mut new = missing(&fired, &known).filter(|it| plan.is_active(it, clock));
        let first = new.next().map(|it| it.at);
        drop(new);
        settled.extend(fired);
        self.firings = settled;
        first
    }

    /// Drops everything that neither the value as of `clock` nor a late event needs.
    pub(super) fn forget(&mut self, plan: &AbsencePlan, clock: i64) {
        // The horizon never decreases, even if the lateness has been raised.
        let horizon = clock.saturating_sub(plan.lateness_us).max(self.horizon);
        self.horizon = horizon;
        let old = self.events.partition_point(|event| event.time < horizon);
        for event in self.events.drain(..old) {
            self.before.end_before(event.time);
            self.before.add(plan, &event);
        }
        self.before.end_before(horizon);
        let settled = self.firings.partition_point(|it| it.at < horizon);
        let last_settled = settled.checked_sub(1).map(|last| self.firings[last].at);
        self.firings.retain(|it| match plan.ttl_us {
            _ if it.at >= horizon => true,
            Some(ttl) => it.at.saturating_add(ttl) > clock,
            None => Some(it.at) == last_settled,
        });
    }
}

impl Waits {
    fn add(&mut self, plan: &AbsencePlan, event: &Event) {
        let Event { time, same, .. } = *event;
        if event.is_expected {
            if self.expected_at != time {
                self.expected.clear();
                self.expected_at = time;
            }
            self.expected.push(same);
            self.open.retain(|wait| wait.same != same || wait.at < time);
        }
        let ends_at_once = self.expected_at == time && self.expected.contains(&same);
        if event.is_after && !ends_at_once {
            let goes_on = self.open.iter().position(|wait| wait.same == same);
            match (plan.again, goes_on) {
                (Again::First, Some(_)) => return,
                (Again::Restart, Some(wait)) => drop(self.open.remove(wait)),
                _ => {}
            }
            let at = time.saturating_add(plan.within_us);
            let place = self.open.partition_point(|wait| wait.at <= at);
            self.open.insert(place, Firing { at, same });
        }
    }

    /// Removes and returns the waits that end before `time`.
    fn end_before(&mut self, time: i64) -> Vec<Firing> {
        let ended = self.open.partition_point(|wait| wait.at < time);
        self.open.drain(..ended).collect()
    }
}

/// The firings that are missing from `others`, each as often as it is missing.
fn missing<'a>(firings: &'a [Firing], others: &[Firing]) -> impl Iterator<Item = &'a Firing> {
    let mut others = others.to_vec();
    firings.iter().filter(move |firing| {
        let found = others.iter().position(|other| other == *firing);
        found.map(|place| others.swap_remove(place)).is_none()
    })
}
