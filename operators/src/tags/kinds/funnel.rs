//! The number of completed steps of a funnel.

use std::{collections::VecDeque, fmt::Write, time::Duration};

use arrow::datatypes::{DataType, Schema};
use tagflow_engine::time::micros;

use super::{
    aggregate::Read,
    context::Context,
    stateful::{CompiledState, Outcome, StatePlan, StatefulKind},
};
use crate::tags::{
    codec::codec,
    event::{self, Timing},
    value::Value,
};

/// The most events in a funnel's window; beyond, the oldest are dropped.
const MAX_EVENTS: usize = 1000;

/// The most events that are examined to find when the stage changes.
const MAX_LOOKS: usize = 64;

/// The furthest step of the funnel that the events of the last `within` reach; null if they do not
/// reach the first one.
#[derive(Debug, Clone, PartialEq)]
pub struct Funnel {
    /// The longest time for all steps.
    pub within: Duration,
    /// The events that are allowed between the steps.
    pub mode: FunnelMode,
    /// Names of the steps, and the columns with their conditions; at most 32.
    pub steps: Vec<(String, usize)>,
}

/// The events that are allowed between the steps of a funnel: the modes of `ClickHouse`'s
/// `windowFunnel`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FunnelMode {
    /// Any.
    Default,
    /// Only reached steps: the search ends at an event that is no step, or at a step whose
    /// predecessor was not reached.
    StrictOrder,
    /// No step a second time except the first one: the search ends there.
    StrictDeduplication,
    /// Any, but a step's event time is above that of the step before it.
    StrictIncrease,
}

/// A compiled [`Funnel`].
#[derive(Debug, Clone)]
pub(crate) struct FunnelPlan {
    within_us: i64,
    mode: FunnelMode,
    /// The names of the steps, and the columns of their conditions.
    steps: Vec<(String, usize)>,
}

/// The events of the last `within`: all events that match a step, and in strict order all
/// events. Expired events may remain until time advances.
#[derive(Debug, Clone, Default)]
pub(crate) struct FunnelState {
    /// In the order of time and tie.
    events: VecDeque<Event>,
}

#[derive(Debug, Clone)]
pub(crate) struct Event {
    time: i64,
    tiebreak: u64,
    /// A bit for each step that the event matches.
    steps: u32,
}

codec! {
    FunnelState { events }
    Event { time, tiebreak, steps }
}

impl StatefulKind for Funnel {
    type Plan = FunnelPlan;

    fn columns_mut(&mut self) -> Vec<&mut usize> {
        self.steps.iter_mut().map(|(_, column)| column).collect()
    }

    fn data_type(&self, _: &Schema) -> Result<(DataType, bool), String> {
        Ok((DataType::Utf8, true))
    }

    fn compile(&self, context: &Context<'_>) -> CompiledState<FunnelPlan> {
        let plan = FunnelPlan {
            within_us: micros(self.within),
            mode: self.mode,
            steps: self.steps.clone(),
        };
        let mut fingerprint = format!("{:?} funnel in {}us", self.mode, plan.within_us);
        for (step, column) in &self.steps {
            let _ = write!(fingerprint, "; {step}: {}", context.name(*column));
        }
        CompiledState::alone(plan, fingerprint)
    }
}

impl StatePlan for FunnelPlan {
    type State = FunnelState;
    type Input = Event;

    fn covers_us(&self, _: Option<&Read>) -> Option<i64> {
        Some(self.within_us)
    }

    fn new_state(&self) -> FunnelState {
        FunnelState::default()
    }

    fn input(&self, event: &event::Event<'_>) -> Option<Event> {
        let steps = self.steps.iter().enumerate();
        let steps = steps.filter(|(_, (_, column))| event.passes(Some(*column)));
        let steps = steps.fold(0, |steps, (step, _)| steps | (1 << step));
        let counts = steps != 0 || self.mode == FunnelMode::StrictOrder;
        counts.then_some(Event {
            time: event.time,
            tiebreak: event.tiebreak,
            steps,
        })
    }

    fn add(&self, state: &mut FunnelState, event: Event, _: Timing, clock: i64) -> Outcome {
        if event.time.saturating_add(self.within_us) > clock {
            self.advance(state, clock, clock);
            let place = (event.time, event.tiebreak);
            let before = |event: &Event| (event.time, event.tiebreak) <= place;
            let place = state.events.partition_point(before);
            state.events.insert(place, event);
            if state.events.len() > MAX_EVENTS {
                state.events.pop_front();
            }
        }
        Outcome::New
    }

    /// The name of the furthest step that a passage has reached.
    fn value(&self, state: &FunnelState, _: Option<&Read>, clock: i64) -> Value {
        let mut looks = usize::MAX;
        match state.level(self, state.left(self, clock), &mut looks) {
            None | Some(0) => Value::Null,
            Some(level) => Value::Text(self.steps[level - 1].0.as_str().into()),
        }
    }

    /// The time of the newest step.
    fn newest(&self, state: &FunnelState) -> Option<i64> {
        let steps = state.events.iter().rfind(|event| event.steps != 0);
        steps.map(|event| event.time)
    }

    /// When the expiry of events may change the stage. Events with the same time expire together.
    fn next(&self, state: &FunnelState, clock: i64) -> Option<i64> {
        // A passage starts only at a first step.
        let rest = state.events.range(state.left(self, clock)..);
        let firsts = rest.filter(|event| event.steps & 1 != 0);
        let mut times = firsts.map(|event| event.time).peekable();
        let mut looks = MAX_LOOKS;
        let mut level_from = |time: i64| {
            let first = state.events.partition_point(|event| event.time < time);
            state.level(self, first, &mut looks)
        };
        let level = level_from(*times.peek()?);
        loop {
            let first = times.next()?;
            while times.next_if_eq(&first).is_some() {}
            let behind = times.peek().copied().unwrap_or(i64::MAX);
            if level.is_none() || level_from(behind) != level {
                return Some(first.saturating_add(self.within_us));
            }
        }
    }

    fn advance(&self, state: &mut FunnelState, _: i64, to: i64) {
        state.events.drain(..state.left(self, to));
    }
}

impl FunnelState {
    /// The number of expired events at `clock`.
    fn left(&self, plan: &FunnelPlan, clock: i64) -> usize {
        let has_left = |event: &Event| event.time.saturating_add(plan.within_us) <= clock;
        self.events.partition_point(has_left)
    }

    /// The number of steps in the longest passage over the events from `first` on, as in
    /// `ClickHouse`'s `windowFunnel`. Where each step must be later than the one before,
    /// it is as with `strict_once`, which forgets no passage. None if more than `looks`
    /// events must be examined.
    fn level(&self, plan: &FunnelPlan, first: usize, looks: &mut usize) -> Option<usize> {
        let mut level = 0;
        let mut events = self.events.range(first..).peekable();
        while let Some(event) = events.next() {
            *looks = looks.checked_sub(1)?;
            let mut instant = Instant::default();
            instant.add(event);
            while let Some(event) = events.next_if(|next| next.time == event.time) {
                *looks = looks.checked_sub(1)?;
                instant.add(event);
            }
            let goes_on = instant.pass(plan, &mut level);
            if !goes_on || level == plan.steps.len() {
                break;
            }
        }
        Some(level)
    }
}

/// Events with the same time. Only their steps order them.
#[derive(Debug, Default)]
struct Instant {
    /// A bit for each step that an event matches.
    steps: u32,
    /// A bit for each step that several events match.
    repeated: u32,
    /// Whether an event matches no step.
    is_other: bool,
}

impl Instant {
    fn add(&mut self, event: &Event) {
        self.repeated |= self.steps & event.steps;
        self.steps |= event.steps;
        self.is_other |= event.steps == 0;
    }

    /// Advances a passage that has reached `level` steps. Returns whether the search
    /// continues.
    fn pass(&self, plan: &FunnelPlan, level: &mut usize) -> bool {
        let is_in = |steps: u32, step: usize| steps & (1 << step) != 0;
        let mode = plan.mode;
        if mode == FunnelMode::StrictIncrease {
            // At most one step: the next must be later.
            *level += usize::from(is_in(self.steps, *level));
            return true;
        }
        if mode == FunnelMode::StrictOrder && self.is_other && *level > 0 {
            return false;
        }
        for step in (0..plan.steps.len()).filter(|step| is_in(self.steps, *step)) {
            if step > *level {
                if mode == FunnelMode::StrictOrder && *level > 0 {
                    return false;
                }
                continue;
            }
            let is_again = step < *level || is_in(self.repeated, step);
            if step == *level {
                *level += 1;
                if *level == plan.steps.len() {
                    break;
                }
            }
            if is_again && step > 0 && mode == FunnelMode::StrictDeduplication {
                return false;
            }
        }
        true
    }
}
