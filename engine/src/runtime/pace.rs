//! How often operators say all that they know.

use crate::EventTime;

/// To say it takes no more than about one part of so many of the time.
const SHARE: i64 = 10;

/// The pace at which barriers let operators say all that they know: while that takes long,
/// because they know much, rows go on through the next barriers without it.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// When it is time again.
    next: Option<EventTime>,
}

impl Pace {
    /// Whether it is time.
    pub(super) fn is_due(&self, now: EventTime) -> bool {
        self.next.is_none_or(|next| now >= next)
    }

    /// A barrier that let them say it was on its way from `begun` until `now`.
    pub(super) fn said(&mut self, begun: EventTime, now: EventTime) {
        let pause = (now.as_micros() - begun.as_micros()).saturating_mul(SHARE);
        let next = now.as_micros().saturating_add(pause);
        self.next = Some(EventTime::from_micros(next));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_long_is_said_seldom() {
        let at = |second: i64| EventTime::from_micros(second * 1_000_000);
        let mut pace = Pace::default();
        assert!(pace.is_due(at(0)));
        pace.said(at(0), at(6));
        assert!(!pace.is_due(at(65)));
        assert!(pace.is_due(at(66)));
        pace.said(at(70), at(70));
        assert!(pace.is_due(at(70)));
    }
}
