//! The watermark of a place where several streams meet.

use std::ops::Range;

use crate::{EventTime, Watermark};

/// Holds what each input promised last and derives what can be promised
/// downstream: the minimum over the inputs that are not idle, never going back.
/// When all inputs are idle the watermark stands still.
#[derive(Debug, Clone)]
pub struct WatermarkTracker {
    inputs: Vec<Watermark>,
    /// What each input promised last, though it be idle now.
    promised: Vec<EventTime>,
    /// Inputs that fall idle and wake together.
    together: Vec<Range<usize>>,
    current: EventTime,
    idle: bool,
}

impl WatermarkTracker {
    /// For `inputs` inputs, none of which has promised anything: each holds the
    /// watermark back until it speaks.
    pub fn new(inputs: usize) -> Self {
        Self {
            inputs: vec![Watermark::At(EventTime::MIN); inputs],
            promised: vec![EventTime::MIN; inputs],
            together: Vec::new(),
            current: EventTime::MIN,
            idle: false,
        }
    }

    /// Says that `inputs` fall idle and wake for the same reason, if not at the
    /// same moment: while one of them is awake the others hold back by what they
    /// promised last, for they have yet to hear that they are awake.
    #[must_use]
    pub fn with_together(mut self, inputs: Range<usize>) -> Self {
        self.together.push(inputs);
        self
    }

    /// Takes what `input` promises and returns what is to be passed on, if that
    /// has changed.
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
                let newly = !self.idle;
                self.idle = true;
                newly.then_some(Watermark::Idle)
            }
            Some(minimum) => {
                let awake = std::mem::take(&mut self.idle);
                let advanced = minimum > self.current;
                self.current = self.current.max(minimum);
                (awake || advanced).then_some(Watermark::At(self.current))
            }
        }
    }

    /// What the inputs that are not idle promise together, if one is awake. Because
    /// inputs fall idle and wake, it may be less than [`current`](Self::current), which
    /// depends on the order in which it was heard; this does not, so at a barrier all
    /// lanes that hear the same inputs agree on it.
    pub fn agreed(&self) -> Option<EventTime> {
        let live = self.inputs.iter().filter_map(|input| match input {
            Watermark::At(time) => Some(*time),
            Watermark::Idle => None,
        });
        let is_awake = |input: &Watermark| matches!(input, Watermark::At(_));
        let awake = self.together.iter().filter(|range| {
            let mut inputs = self.inputs[(*range).clone()].iter();
            inputs.any(is_awake)
        });
        let held = awake.flat_map(|range| &self.promised[range.clone()]);
        live.chain(held.copied()).min()
    }

    /// Whether all inputs are idle.
    pub fn is_idle(&self) -> bool {
        self.idle
    }

    /// The watermark here.
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
        // One goes on without the idle input, and one has heard already that it woke.
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
        // A slow input that wakes up must be heard of downstream, though the
        // watermark does not go back for it.
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
        // Input 1 has not heard yet that rows flow again; input 2 need not.
        assert_eq!(tracker.update(0, at(30)), Some(at(10)));
        assert_eq!(tracker.update(1, at(20)), Some(at(20)));
        assert_eq!(tracker.update(1, at(30)), Some(at(30)));
    }

    proptest! {
        /// What is passed on is monotone, and is the running maximum of the
        /// minimum over live inputs.
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
