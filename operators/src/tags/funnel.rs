//! How far a key has come through steps.

use std::collections::VecDeque;

use smallvec::{SmallVec, smallvec};

use super::{coding::coded, definition::FunnelMode, value::Value};

/// With more events than this in its window, a funnel goes by the newest.
const MAX_EVENTS: usize = 1000;

/// So many events are looked at to find out when the stage changes.
const MAX_LOOKS: usize = 64;

/// How funnels of one kind are kept.
#[derive(Debug, Clone)]
pub(super) struct FunnelPlan {
    pub(super) within_us: i64,
    pub(super) mode: FunnelMode,
    /// Names and columns of the conditions.
    pub(super) steps: Vec<(String, usize)>,
}

/// The events of the last `within`: all that are a step, and where the mode asks for
/// strict order, all. Some that have left may be there until time is looked at.
#[derive(Debug, Clone, Default)]
pub(super) struct Funnel {
    /// In the order of time and tie.
    events: VecDeque<Event>,
}

#[derive(Debug, Clone)]
struct Event {
    time: i64,
    tie: u64,
    /// A bit for each step that it is.
    steps: u32,
}

coded! {
    Funnel { events }
    Event { time, tie, steps }
}

impl FunnelPlan {
    /// Whether an event that is these steps means anything.
    pub(super) fn counts(&self, steps: u32) -> bool {
        steps != 0 || self.mode == FunnelMode::StrictOrder
    }
}

impl Funnel {
    /// Adds an event that is not after `clock`.
    pub(super) fn add(
        &mut self,
        plan: &FunnelPlan,
        (time, tie): (i64, u64),
        steps: u32,
        clock: i64,
    ) {
        if time.saturating_add(plan.within_us) <= clock {
            return;
        }
        self.advance(plan, clock);
        let before = |event: &Event| (event.time, event.tie) <= (time, tie);
        let place = self.events.partition_point(before);
        self.events.insert(place, Event { time, tie, steps });
        if self.events.len() > MAX_EVENTS {
            self.events.pop_front();
        }
    }

    /// The time of the newest step.
    pub(super) fn newest(&self) -> Option<i64> {
        let steps = self.events.iter().rfind(|event| event.steps != 0);
        steps.map(|event| event.time)
    }

    /// When events that leave may change the stage, after `clock`.
    pub(super) fn next(&self, plan: &FunnelPlan, clock: i64) -> Option<i64> {
        // Nothing is a passage but from a first step on.
        let firsts = (self.left(plan, clock)..self.events.len())
            .filter(|place| self.events[*place].steps & 1 != 0);
        let mut firsts = firsts.peekable();
        let mut looks = MAX_LOOKS;
        let level = self.level(plan, *firsts.peek()?, &mut looks);
        loop {
            let first = firsts.next()?;
            let behind = firsts.peek().copied().unwrap_or(self.events.len());
            if level.is_none() || self.level(plan, behind, &mut looks) != level {
                return Some(self.events[first].time.saturating_add(plan.within_us));
            }
        }
    }

    /// Lets events leave that do so not after `to`.
    pub(super) fn advance(&mut self, plan: &FunnelPlan, to: i64) {
        self.events.drain(..self.left(plan, to));
    }

    /// The name of the furthest step that a passage has come to as of `clock`.
    pub(super) fn stage(&self, plan: &FunnelPlan, clock: i64) -> Value {
        let mut looks = usize::MAX;
        match self.level(plan, self.left(plan, clock), &mut looks) {
            None | Some(0) => Value::Null,
            Some(level) => Value::Text(plan.steps[level - 1].0.as_str().into()),
        }
    }

    /// How many events have left as of `clock`.
    fn left(&self, plan: &FunnelPlan, clock: i64) -> usize {
        let has_left = |event: &Event| event.time.saturating_add(plan.within_us) <= clock;
        self.events.partition_point(has_left)
    }

    /// How many steps there are in the longest passage: `ClickHouse`'s
    /// `windowFunnel` over the events from `first` on. An event that is several steps
    /// counts as the earlier one first. None where that takes more `looks` at events
    /// than there are left.
    fn level(&self, plan: &FunnelPlan, first: usize, looks: &mut usize) -> Option<usize> {
        let last = plan.steps.len() - 1;
        // The time at which a passage last came to each step.
        let mut reached: SmallVec<[Option<i64>; 8]> = smallvec![None; plan.steps.len()];
        let furthest = |reached: &[Option<i64>]| {
            let passed = reached.iter().rposition(Option::is_some);
            Some(passed.map_or(0, |step| step + 1))
        };
        for event in self.events.range(first..) {
            *looks = looks.checked_sub(1)?;
            if event.steps == 0 {
                // Kept for strict order alone.
                if reached[0].is_some() {
                    return furthest(&reached);
                }
                continue;
            }
            for step in (0..=last).filter(|step| event.steps & (1 << step) != 0) {
                if step == 0 {
                    reached[0] = Some(event.time);
                    continue;
                }
                if plan.mode == FunnelMode::StrictDeduplication && reached[step].is_some() {
                    return furthest(&reached);
                }
                match reached[step - 1] {
                    None => {
                        if plan.mode == FunnelMode::StrictOrder && reached[0].is_some() {
                            return furthest(&reached);
                        }
                    }
                    Some(before) => {
                        if plan.mode != FunnelMode::StrictIncrease || before < event.time {
                            reached[step] = Some(event.time);
                            if step == last {
                                return Some(last + 1);
                            }
                        }
                    }
                }
            }
        }
        furthest(&reached)
    }
}
