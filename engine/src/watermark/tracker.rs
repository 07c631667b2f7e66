//! The watermark of a node with several inputs.

use std::ops::Range;

use crate::{EventTime, Watermark};

/// Stores the last promise of each input and derives the watermark for downstream: the minimum over
/// the active inputs, never decreasing. While no input is active the watermark does not change.
#[derive(Debug, Clone)]
pub struct WatermarkTracker {
    inputs: Vec<Watermark>,
    /// The last promise of each input, even if it is idle now.
    promised: Vec<EventTime>,
    /// Inputs that become idle and active together.
    together: Vec<Range<usize>>,
    current: EventTime,
    /// The forwarded watermark while no input is active.
    asleep: Option<Watermark>,
}

impl WatermarkTracker {
    /// A tracker of `inputs` inputs without promises. Each holds back the watermark until its first
    /// promise.
    pub fn new(inputs: usize) -> Self {
        Self {
            inputs: vec![Watermark::At(EventTime::MIN); inputs],
            promised: vec![EventTime::MIN; inputs],
            together: Vec::new(),
            current: EventTime::MIN,
            asleep: None,
        }
    }

    /// Declares that `inputs` become idle and active for the same reason, but not at the same
    /// moment. While one input is active, the idle ones count with their last promise, because they
    /// have not received their activity yet.
    #[must_use]
    pub fn with_together(mut self, inputs: Range<usize>) -> Self {
        self.together.push(inputs);
        self
    }

    /// Records the promise of `input`. Returns the watermark to forward, if it has changed.
    pub fn update(&mut self, input: usize, watermark: Watermark) -> Option<Watermark> {
        self.inputs[input] = match (self.inputs[input], watermark) {
            (Watermark::At(old), Watermark::At(new)) => Watermark::At(old.max(new)),
            _ => watermark,
        };
        if let Watermark::At(time) = self.inputs[input] {
            self.promised[input] = time.max(self.promised[input]);
        }
        match self.agreed() {
            None => {
                let asleep = self.without_active_inputs();
                (self.asleep.replace(asleep) != Some(asleep)).then_some(asleep)
            }
            Some(minimum) => {
                let awake = self.asleep.take().is_some();
                let advanced = minimum > self.current;
                self.current = self.current.max(minimum);
                (awake || advanced).then_some(Watermark::At(self.current))
            }
        }
    }

    /// The watermark to forward if no input is active: idle if each group of inputs that are idle
    /// together has an idle one. An absent input alone can never become active.
    fn without_active_inputs(&self) -> Watermark {
        let in_group = |input: &usize| self.together.iter().any(|group| group.contains(input));
        let alone = (0..self.inputs.len()).filter(|input| !in_group(input));
        let alone = alone.map(|input| input..input + 1);
        let mut groups = self.together.iter().cloned().chain(alone);
        if groups.all(|group| self.inputs[group].contains(&Watermark::Idle)) {
            Watermark::Idle
        } else {
            Watermark::Absent
        }
    }

    /// The minimum over the active inputs, if there is an active one. Inputs become idle and
    /// active, so it may be less than [`current`](Self::current), which depends on the order of the
    /// messages. This value does not, so at a barrier all lanes with the same inputs agree on it.
    pub fn agreed(&self) -> Option<EventTime> {
        let live = self.inputs.iter().filter_map(|input| match input {
            Watermark::At(time) => Some(*time),
            Watermark::Idle | Watermark::Absent => None,
        });
        let is_awake = |input: &Watermark| matches!(input, Watermark::At(_));
        let awake = self.together.iter().filter(|range| {
            let mut inputs = self.inputs[(*range).clone()].iter();
            inputs.any(is_awake)
        });
        let idle = |input: &usize| self.inputs[*input] == Watermark::Idle;
        let held = awake.flat_map(|range| range.clone().filter(idle));
        live.chain(held.map(|input| self.promised[input])).min()
    }

    /// Whether no input is active.
    pub fn is_idle(&self) -> bool {
        self.asleep.is_some()
    }

    /// The current watermark.
    pub fn current(&self) -> EventTime {
        self.current
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(micros: i64) -> Watermark {
        Watermark::At(EventTime::from_micros(micros))
    }

    #[test]
    fn an_absent_input_of_a_group_leaves_the_group_idle() {
        let mut tracker = WatermarkTracker::new(2).with_together(0..2);
        assert_eq!(tracker.update(1, Watermark::Absent), None);
        assert_eq!(tracker.update(0, at(5)), Some(at(5)));
        let idle = Some(Watermark::Idle);
        assert_eq!(tracker.update(0, Watermark::Idle), idle);
        // The absent input does not hold back the active one.
        assert_eq!(tracker.update(0, at(9)), Some(at(9)));
    }

    #[test]
    fn silent_inputs_hold_back() {
        let mut tracker = WatermarkTracker::new(2);
        assert_eq!(tracker.update(0, at(10)), None);
        assert_eq!(tracker.update(1, at(5)), Some(at(5)));
        assert_eq!(tracker.update(1, at(20)), Some(at(10)));
    }

    #[test]
    fn whoever_hears_the_same_agrees_in_whatever_order() {
        let heard = [(0, at(10)), (1, at(3)), (1, Watermark::Idle), (1, at(4))];
        let after = |order: [usize; 4]| {
            let mut tracker = WatermarkTracker::new(2);
            for place in order {
                let (input, watermark) = heard[place];
                tracker.update(input, watermark);
            }
            let micros = |time: EventTime| time.as_micros();
            (micros(tracker.current()), tracker.agreed().map(micros))
        };
        // One continues without the idle input, and one has already received its activity.
        assert_eq!(after([0, 1, 2, 3]), (10, Some(4)));
        assert_eq!(after([1, 2, 3, 0]), (4, Some(4)));
    }

    #[test]
    fn idle_inputs_are_left_out_and_come_back() {
        let mut tracker = WatermarkTracker::new(2);
        assert_eq!(tracker.update(0, at(10)), None);
        assert_eq!(tracker.update(1, Watermark::Idle), Some(at(10)));
        assert!(!tracker.is_idle());
        assert_eq!(tracker.update(0, Watermark::Idle), Some(Watermark::Idle));
        assert!(tracker.is_idle());
        assert_eq!(tracker.update(0, Watermark::Idle), None);
        // The activity of a slow input is forwarded downstream, although the watermark does not
        // decrease.
        assert_eq!(tracker.update(1, at(3)), Some(at(10)));
        assert!(!tracker.is_idle());
        assert_eq!(tracker.update(0, at(50)), None);
        assert_eq!(tracker.update(1, at(12)), Some(at(12)));
    }

    #[test]
    fn inputs_that_wake_together_wait_for_each_other() {
        let mut tracker = WatermarkTracker::new(3).with_together(0..2);
        for (input, time) in [(0, 10), (1, 10), (2, 10)] {
            tracker.update(input, at(time));
        }
        for input in 0..3 {
            tracker.update(input, Watermark::Idle);
        }
        assert!(tracker.is_idle());
        // Input 1 has not received its activity yet; input 2 need not.
        assert_eq!(tracker.update(0, at(30)), Some(at(10)));
        assert_eq!(tracker.update(1, at(20)), Some(at(20)));
        assert_eq!(tracker.update(1, at(30)), Some(at(30)));
    }

    #[test]
    fn an_input_without_partitions_holds_nobody_back() {
        let mut tracker = WatermarkTracker::new(2).with_together(0..2);
        assert_eq!(tracker.update(1, at(5)), None);
        assert_eq!(tracker.update(1, Watermark::Absent), None);
        assert_eq!(tracker.update(0, at(30)), Some(at(30)));
        // It has a partition again, with older rows.
        assert_eq!(tracker.update(1, at(7)), None);
        assert_eq!(tracker.agreed(), Some(EventTime::from_micros(7)));
        assert_eq!(tracker.update(0, Watermark::Absent), None);
        assert_eq!(
            tracker.update(1, Watermark::Absent),
            Some(Watermark::Absent)
        );
        assert_eq!(tracker.update(0, Watermark::Idle), Some(Watermark::Idle));
        assert_eq!(tracker.update(1, Watermark::Idle), None);
        assert!(tracker.is_idle());
    }

    proptest! {
        /// The forwarded watermark is monotone. It is the running maximum of the minimum over the
        /// active inputs.
        #[test]
        fn agrees_with_a_naive_model(
            updates in prop::collection::vec((0..3usize, prop::option::of(0..100i64)), 0..60)
        ) {
            let mut tracker = WatermarkTracker::new(3);
            let mut inputs = [Some(i64::MIN); 3];
            let mut expected = i64::MIN;
            for (input, time) in updates {
                tracker.update(input, time.map_or(Watermark::Idle, at));
                inputs[input] = match (inputs[input], time) {
                    (Some(old), Some(new)) => Some(old.max(new)),
                    (_, time) => time,
                };
                if let Some(minimum) = inputs.iter().flatten().min() {
                    expected = expected.max(*minimum);
                }
                prop_assert_eq!(tracker.current().as_micros(), expected);
            }
        }
    }
}
