//! How often operators emit full profiles.

use crate::Uptime;

/// Profiles may take at most a tenth of the time.
const SHARE: u32 = 10;

/// Limits the barriers with full profiles. While profiles take long, because there are many keys,
/// rows pass the next barriers without them.
#[derive(Debug, Default)]
pub(super) struct ProfileThrottle {
    /// The time of the next full profiles.
    next: Option<Uptime>,
}

impl ProfileThrottle {
    /// Whether full profiles are due.
    pub(super) fn is_due(&self, now: Uptime) -> bool {
        self.next.is_none_or(|next| now >= next)
    }

    /// Records that a barrier with full profiles took from `begun` until `now`.
    pub(super) fn said(&mut self, begun: Uptime, now: Uptime) {
        let pause = now.since(begun).saturating_mul(SHARE);
        self.next = Some(now.saturating_add(pause));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_takes_long_is_said_seldom() {
        let at = |second| Uptime::after(Duration::from_secs(second));
        let mut pace = ProfileThrottle::default();
        assert!(pace.is_due(at(0)));
        pace.said(at(0), at(6));
        assert!(!pace.is_due(at(65)));
        assert!(pace.is_due(at(66)));
        pace.said(at(70), at(70));
        assert!(pace.is_due(at(70)));
    }
}
