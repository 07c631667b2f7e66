//! The offset gate: it decides which messages are new rows. Pure decisions, no I/O.

use tagflow_engine::source::Offset;

/// The gate of a partition.
///
/// Messages of a partition arrive in offset order, but with gaps: compaction removes messages, and
/// transaction markers and aborted messages have offsets that are never delivered. So a gap is a
/// loss only if the log now begins after the expected offset. (A fetch from before the log's start
/// fails at the broker already, see [`judge`]; the gate does not rely on that.)
#[derive(Debug, Clone, Copy)]
pub(super) struct OffsetTracker {
    next: Offset,
    log_start: Offset,
}

/// The gate's decision on a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admit {
    /// A new row.
    Pass,
    /// It was read before.
    Drop,
    /// A new row, but the rows from the first offset to before the second existed and are lost.
    PassAfterLoss(Offset, Offset),
}

impl OffsetTracker {
    /// A gate that expects `next`.
    pub(super) fn new(next: Offset) -> Self {
        Self {
            next,
            log_start: Offset::MIN,
        }
    }

    /// The expected next offset.
    pub(super) fn next(&self) -> Offset {
        self.next
    }

    /// Records where the log begins now.
    pub(super) fn log_starts_at(&mut self, offset: Offset) {
        self.log_start = self.log_start.max(offset);
    }

    /// Continues at `offset`, after a loss.
    pub(super) fn skip_to(&mut self, offset: Offset) {
        self.next = self.next.max(offset);
    }

    /// Decides on the message at `offset`, and expects the one after it.
    pub(super) fn admit(&mut self, offset: Offset) -> Admit {
        if offset < self.next {
            return Admit::Drop;
        }
        let expected = self.next;
        self.next = offset + 1;
        if offset > expected && self.log_start > expected {
            Admit::PassAfterLoss(expected, offset.min(self.log_start))
        } else {
            Admit::Pass
        }
    }
}

/// Why the broker refuses a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OffsetCheck {
    /// The rows from it up to this offset have been deleted.
    Lost(Offset),
    /// It is after this offset, the log's end: this is not the log that was read.
    BeyondEnd(Offset),
    /// It can be read: the refusal was temporary.
    Readable,
}

/// Classifies position `next` of a log that spans `low..high`.
pub(super) fn judge(next: Offset, low: Offset, high: Offset) -> OffsetCheck {
    if next < low {
        OffsetCheck::Lost(low)
    } else if next > high {
        OffsetCheck::BeyondEnd(high)
    } else {
        OffsetCheck::Readable
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_pass_once() {
        let mut gate = OffsetTracker::new(5);
        assert_eq!(gate.admit(4), Admit::Drop);
        assert_eq!(gate.admit(5), Admit::Pass);
        assert_eq!(gate.admit(5), Admit::Drop);
        assert_eq!(gate.next(), 6);
    }

    #[test]
    fn a_gap_in_the_log_passes() {
        let mut gate = OffsetTracker::new(5);
        gate.log_starts_at(5);
        assert_eq!(gate.admit(9), Admit::Pass);
        assert_eq!(gate.next(), 10);
    }

    #[test]
    fn a_gap_that_the_log_was_cut_off_in_is_a_loss() {
        let mut gate = OffsetTracker::new(5);
        gate.log_starts_at(8);
        assert_eq!(gate.admit(9), Admit::PassAfterLoss(5, 8));
        assert_eq!(gate.admit(10), Admit::Pass);

        let mut gate = OffsetTracker::new(5);
        gate.log_starts_at(20);
        assert_eq!(gate.admit(5), Admit::Pass, "it was fetched before the cut");
        assert_eq!(gate.admit(9), Admit::PassAfterLoss(6, 9));
    }

    #[test]
    fn after_a_loss_it_goes_on_at_the_log_start() {
        let mut gate = OffsetTracker::new(5);
        gate.skip_to(8);
        gate.log_starts_at(8);
        assert_eq!(gate.admit(7), Admit::Drop);
        assert_eq!(gate.admit(8), Admit::Pass);
    }

    #[test]
    fn positions_are_judged_by_the_log() {
        assert_eq!(judge(3, 4, 9), OffsetCheck::Lost(4));
        assert_eq!(judge(4, 4, 9), OffsetCheck::Readable);
        assert_eq!(judge(9, 4, 9), OffsetCheck::Readable);
        assert_eq!(judge(10, 4, 9), OffsetCheck::BeyondEnd(9));
    }
}
