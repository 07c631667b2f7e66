//! The membership of a key in a segment.

use super::codec::codec;

/// The membership of a key in a segment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Member {
    /// The time of entry, if it is a member.
    pub(super) since: Option<i64>,
    /// The reason to leave at the end of the shortest membership, if it will leave.
    pub(super) leaving: Option<Box<str>>,
}

codec! {
    Member { since, leaving }
}

impl Member {
    /// When it leaves, if it will.
    pub(super) fn may_leave(&self, hold_us: i64) -> Option<i64> {
        let since = self.since.filter(|_| self.leaving.is_some())?;
        Some(since.saturating_add(hold_us))
    }

    /// Leaves if that is due at `at`, before all other changes. Returns the time and the reason.
    pub(super) fn leave(&mut self, hold_us: i64, at: i64) -> Option<(i64, Box<str>)> {
        let may_leave = self.may_leave(hold_us).filter(|it| *it <= at)?;
        std::mem::take(self).leaving.map(|why| (may_leave, why))
    }
}
