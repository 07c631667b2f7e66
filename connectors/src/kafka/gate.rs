//! The offset gate: which messages are rows that were not read before.
//! Decisions only; no I/O.

use tagflow_engine::source::Offset;

/// The gate of one partition.
///
/// Messages of a partition come in the order of their offsets, but not without
/// gaps: compaction removes messages, and the markers of transactions and the
/// messages of aborted ones take offsets that are never delivered. So a gap is
/// a loss only if the log has meanwhile been cut off beyond the offset that
/// was expected. (A fetch from before the log's start fails at the broker
/// already, see [`judge`]; the gate does not take the broker's word for it.)
#[derive(Debug, Clone, Copy)]
pub(super) struct Gate {
    next: Offset,
    log_start: Offset,
}

/// What the gate says of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    /// A new row.
    Pass,
    /// It was read before.
    Drop,
    /// A new row, but the rows from the first offset to before the second,
    /// which were there, are gone.
    PassAfterLoss(Offset, Offset),
}

impl Gate {
    /// A gate that expects `next`.
    pub(super) fn new(next: Offset) -> Self {
        Self {
            next,
            log_start: Offset::MIN,
        }
    }

    /// The offset expected next.
    pub(super) fn next(&self) -> Offset {
        self.next
    }

    /// Takes note of where the log begins now.
    pub(super) fn log_starts_at(&mut self, offset: Offset) {
        self.log_start = self.log_start.max(offset);
    }

    /// Goes on at `offset`, after a loss.
    pub(super) fn skip_to(&mut self, offset: Offset) {
        self.next = self.next.max(offset);
    }

    /// Judges the message at `offset`, and expects the one after it.
    pub(super) fn admit(&mut self, offset: Offset) -> Admission {
        if offset < self.next {
            return Admission::Drop;
        }
        let expected = self.next;
        self.next = offset + 1;
        if offset > expected && self.log_start > expected {
            Admission::PassAfterLoss(expected, offset.min(self.log_start))
        } else {
            Admission::Pass
        }
    }
}

/// What has become of a position that the broker will not serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// The rows from it up to this offset have been deleted.
    Lost(Offset),
    /// It lies after this offset, the log's end: the log is not the one that
    /// was read.
    BeyondEnd(Offset),
    /// It can be read: the refusal has passed.
    Readable,
}

/// Judges position `next` of a log that spans `low..high`.
pub(super) fn judge(next: Offset, low: Offset, high: Offset) -> Fate {
    if next < low {
        Fate::Lost(low)
    } else if next > high {
        Fate::BeyondEnd(high)
    } else {
        Fate::Readable
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_pass_once() {
        let mut gate = Gate::new(5);
        assert_eq!(gate.admit(4), Admission::Drop);
        assert_eq!(gate.admit(5), Admission::Pass);
        assert_eq!(gate.admit(5), Admission::Drop);
        assert_eq!(gate.next(), 6);
    }

    #[test]
    fn a_gap_in_the_log_passes() {
        let mut gate = Gate::new(5);
        gate.log_starts_at(5);
        assert_eq!(gate.admit(9), Admission::Pass);
        assert_eq!(gate.next(), 10);
    }

    #[test]
    fn a_gap_that_the_log_was_cut_off_in_is_a_loss() {
        let mut gate = Gate::new(5);
        gate.log_starts_at(8);
        assert_eq!(gate.admit(9), Admission::PassAfterLoss(5, 8));
        assert_eq!(gate.admit(10), Admission::Pass);

        let mut gate = Gate::new(5);
        gate.log_starts_at(20);
        assert_eq!(
            gate.admit(5),
            Admission::Pass,
            "it was fetched before the cut"
        );
        assert_eq!(gate.admit(9), Admission::PassAfterLoss(6, 9));
    }

    #[test]
    fn after_a_loss_it_goes_on_at_the_log_start() {
        let mut gate = Gate::new(5);
        gate.skip_to(8);
        gate.log_starts_at(8);
        assert_eq!(gate.admit(7), Admission::Drop);
        assert_eq!(gate.admit(8), Admission::Pass);
    }

    #[test]
    fn positions_are_judged_by_the_log() {
        assert_eq!(judge(3, 4, 9), Fate::Lost(4));
        assert_eq!(judge(4, 4, 9), Fate::Readable);
        assert_eq!(judge(9, 4, 9), Fate::Readable);
        assert_eq!(judge(10, 4, 9), Fate::BeyondEnd(9));
    }
}
