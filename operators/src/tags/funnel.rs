//! The number of completed steps of a funnel.

use std::collections::VecDeque;

use super::{codec::codec, definition::FunnelMode, value::Value};

/// The most events in a funnel's window; beyond, the oldest are dropped.
const MAX_EVENTS: usize = 1000;

/// The most events that are examined to find when the stage changes.
const MAX_LOOKS: usize = 64;

/// The compiled definition of a funnel kind.
#[derive(Debug, Clone)]
pub(super) struct FunnelPlan {
    pub(super) within_us: i64,
    pub(super) mode: FunnelMode,
    /// The names of the steps, and the columns of their conditions.
    pub(super) steps: Vec<(String, usize)>,
}

/// The events of the last `within`: all events that match a step, and in strict order all
/// events. Expired events may remain until time advances.
#[derive(Debug, Clone, Default)]
pub(super) struct Funnel {
    /// In the order of time and tie.
    events: VecDeque<Event>,
}

#[derive(Debug, Clone)]
struct Event {
    time: i64,
    tiebreak: u64,
    /// A bit for each step that the event matches.
    steps: u32,
}

codec! {
    Funnel { events }
    Event { time, tiebreak, steps }
}

impl FunnelPlan {
    /// Whether an event that matches these steps affects the funnel.
    pub(super) fn counts(&self, steps: u32) -> bool {
        steps != 0 || self.mode == FunnelMode::StrictOrder
    }
}

impl Funnel {
    /// Adds an event that is not after `clock`.
    pub(super) fn add(
        &mut self,
        plan: &FunnelPlan,
        (time, tiebreak): (i64, u64),
        steps: u32,
        clock: i64,
    ) {
        if time.saturating_add(plan.within_us) <= clock {
            return;
        }
        self.advance(plan, clock);
        let before = |event: &Event| (event.time, event.tiebreak) <= (time, tiebreak);
        let place = self.events.partition_point(before);
        self.events.insert(
            place,
            Event {
                time,
                tiebreak,
                steps,
            },
        );
        if self.events.len() > MAX_EVENTS {
            self.events.pop_front();
        }
    }

    /// The time of the newest step.
    pub(super) fn newest(&self) -> Option<i64> {
        let steps = self.events.iter().rfind(|event| event.steps != 0);
        steps.map(|event| event.time)
    }

    /// When, after `clock`, the expiry of events may change the stage. Events with the same time
    /// expire together.
    pub(super) fn next(&self, plan: &FunnelPlan, clock: i64) -> Option<i64> {
        // A passage starts only at a first step.
        let rest = self.events.range(self.left(plan, clock)..);
        let firsts = rest.filter(|event| event.steps & 1 != 0);
        let mut times = firsts.map(|event| event.time).peekable();
        let mut looks = MAX_LOOKS;
        let mut level_from = |time: i64| {
            let first = self.events.partition_point(|event| event.time < time);
            self.level(plan, first, &mut looks)
        };
        let level = level_from(*times.peek()?);
        loop {
            let first = times.next()?;
            while times.next_if_eq(&first).is_some() {}
            let behind = times.peek().copied().unwrap_or(i64::MAX);
            if level.is_none() || level_from(behind) != level {
                return Some(first.saturating_add(plan.within_us));
            }
        }
    }

    /// Drops events that have expired at `to`.
    pub(super) fn advance(&mut self, plan: &FunnelPlan, to: i64) {
        self.events.drain(..self.left(plan, to));
    }

    /// The name of the furthest step that a passage has reached as of `clock`.
    pub(super) fn stage(&self, plan: &FunnelPlan, clock: i64) -> Value {
        let mut looks = usize::MAX;
        match self.level(plan, self.left(plan, clock), &mut looks) {
            None | Some(0) => Value::Null,
            Some(level) => Value::Text(plan.steps[level - 1].0.as_str().into()),
        }
    }

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
