//! How far a key has come through steps.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::{definition::FunnelMode, value::Value};

/// With more events than this in its window, a funnel goes by the newest.
const MAX_EVENTS: usize = 1000;

/// How funnels of one kind are kept.
#[derive(Debug, Clone)]
pub(super) struct FunnelPlan {
    pub(super) within_us: i64,
    pub(super) mode: FunnelMode,
    /// Names and columns of the conditions.
    pub(super) steps: Vec<(String, usize)>,
}

/// The events of the last `within`: all that are a step, and where the mode asks for
/// strict order, all.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Funnel {
    /// In the order of time and tie.
    events: VecDeque<Event>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Event {
    time: i64,
    tie: u64,
    /// A bit for each step that it is.
    steps: u32,
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
        let before = |event: &Event| (event.time, event.tie) <= (time, tie);
        let place = self.events.partition_point(before);
        self.events.insert(place, Event { time, tie, steps });
        if self.events.len() > MAX_EVENTS {
            self.events.pop_front();
        }
    }

    /// When the next event leaves.
    pub(super) fn next(&self, plan: &FunnelPlan) -> Option<i64> {
        let first = self.events.front()?;
        Some(first.time.saturating_add(plan.within_us))
    }

    /// Lets events leave that do so not after `to`.
    pub(super) fn advance(&mut self, plan: &FunnelPlan, to: i64) {
        let gone = |event: &Event| event.time.saturating_add(plan.within_us) <= to;
        self.events.drain(..self.events.partition_point(gone));
    }

    /// The name of the furthest step that a passage has come to.
    pub(super) fn stage(&self, plan: &FunnelPlan) -> Value {
        match self.level(plan) {
            0 => Value::Null,
            level => Value::Text(plan.steps[level - 1].0.as_str().into()),
        }
    }

    /// How many steps there are in the longest passage: `ClickHouse`'s
    /// `windowFunnel` over these events. An event that is several steps counts as
    /// the earlier one first.
    fn level(&self, plan: &FunnelPlan) -> usize {
        let last = plan.steps.len() - 1;
        // The time at which a passage last came to each step.
        let mut reached: Vec<Option<i64>> = vec![None; plan.steps.len()];
        let furthest = |reached: &[Option<i64>]| {
            let passed = reached.iter().rposition(Option::is_some);
            passed.map_or(0, |step| step + 1)
        };
        for event in &self.events {
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
                                return last + 1;
                            }
                        }
                    }
                }
            }
        }
        furthest(&reached)
    }
}
