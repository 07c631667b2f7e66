//! Every decision of the protocol: a pure function of what was observed.
//!
//! Nothing here does I/O. The driver asks these functions what to do, and so
//! does the model checker, which runs them through every order of events.

use std::collections::BTreeSet;

use super::record::Kind;

#[cfg(test)]
mod tests;

/// What the store answered to a put-if-absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Answer {
    /// The object is there, and it is this put's.
    Created,
    /// Something is there, it says. Do not trust it: a retry inside the client
    /// meets its own write, and a conflict is reported the same way although
    /// nothing landed.
    Exists,
    /// Nobody knows: the put may have landed, land later, or never.
    Failed,
}

/// What a read of a slot showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Slot {
    /// No object.
    Empty,
    /// The record of this very attempt.
    Mine,
    /// Another record.
    Other,
}

/// The next step towards owning the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ClaimStep {
    /// S2: list the log and read its last record.
    List,
    /// S3: put the claim into this slot, the same bytes each time.
    Put {
        /// The slot.
        seq: u64,
    },
    /// See what is in the slot.
    ReadBack {
        /// The slot.
        seq: u64,
    },
    /// S4: the claim is in the slot; list again, to see if anything is later.
    Relist {
        /// The slot.
        seq: u64,
    },
    /// The log is owned.
    Own {
        /// The slot of the claim.
        seq: u64,
    },
}

/// After S2: `tail` is the last slot in use, 0 in an empty log.
pub fn after_listing(tail: u64) -> ClaimStep {
    ClaimStep::Put { seq: tail + 1 }
}

/// After S3.
pub fn after_claim_put(seq: u64, answer: Answer) -> ClaimStep {
    match answer {
        Answer::Created => ClaimStep::Relist { seq },
        Answer::Exists | Answer::Failed => ClaimStep::ReadBack { seq },
    }
}

/// After reading the claim's slot.
pub fn after_claim_read_back(seq: u64, slot: Slot) -> ClaimStep {
    match slot {
        Slot::Mine => ClaimStep::Relist { seq },
        Slot::Other => ClaimStep::List,
        Slot::Empty => ClaimStep::Put { seq },
    }
}

/// After S4. A claim can land late, in a slot whose commit was collected: then
/// the log goes on after it, and the positions it repeats are old. This listing
/// must begin after the claim is known to have landed.
pub fn after_relist(seq: u64, tail: u64) -> ClaimStep {
    if tail == seq {
        ClaimStep::Own { seq }
    } else {
        ClaimStep::List
    }
}

/// The next step of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CommitStep {
    /// Put the record into the slot, the same bytes each time.
    Put,
    /// See what is in the slot.
    ReadBack,
    /// The epoch has taken effect.
    Committed,
    /// Another owner has the slot: the epoch is void, and so is this owner.
    Fenced,
}

/// After S8.
pub fn after_commit_put(answer: Answer) -> CommitStep {
    match answer {
        Answer::Created => CommitStep::Committed,
        Answer::Exists | Answer::Failed => CommitStep::ReadBack,
    }
}

/// After reading the commit's slot.
pub fn after_commit_read_back(slot: Slot) -> CommitStep {
    match slot {
        Slot::Mine => CommitStep::Committed,
        Slot::Other => CommitStep::Fenced,
        Slot::Empty => CommitStep::Put,
    }
}

/// Whether a log was there and is not any more: plans are stored only after the
/// first claim. The plans must be listed before the log. Where a listing may lag
/// behind, the first claim, if it can be read, tells otherwise.
pub fn log_is_missing(plans: usize, tail: u64) -> bool {
    plans > 0 && tail == 0
}

/// The first slot that ought to be in use and is not.
pub fn first_hole(slots: &BTreeSet<u64>, collected_upto: u64) -> Option<u64> {
    let expected = collected_upto + 1..;
    expected
        .clone()
        .zip(slots.range(expected))
        .find(|(expected, slot)| expected != *slot)
        .map(|(expected, _)| expected)
}

/// S5 and S9: of all `commits`, those still to publish, oldest first.
pub fn to_publish(commits: impl IntoIterator<Item = u64>, published_upto: u64) -> Vec<u64> {
    let mut due: Vec<u64> = commits
        .into_iter()
        .filter(|&seq| seq > published_upto)
        .collect();
    due.sort_unstable();
    due
}

/// Of the files of all commits that are to be published, those to make visible:
/// not the ones that another of these commits removes. An earlier owner may have
/// got that far, and then they are nowhere any more.
pub fn to_copy<F, T: Ord>(
    files: impl IntoIterator<Item = (T, F)>,
    removed: &BTreeSet<T>,
) -> Vec<F> {
    files
        .into_iter()
        .filter(|(name, _)| !removed.contains(name))
        .map(|(_, file)| file)
        .collect()
}

/// The next step of publishing all commits that are to be published; each may be
/// repeated, by anyone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PublishStep {
    /// Copy their files to where readers look.
    Copy,
    /// Delete what was staged: whoever lags behind can copy it no more.
    Unstage,
    /// Delete the published files that they replace. After all copies, so that
    /// no row is missing at any time, and after what was staged, so that nobody
    /// copies a replaced file back.
    Remove,
    /// They are published.
    Done,
}

/// After a step of publishing.
pub fn after_publish_step(done: PublishStep) -> PublishStep {
    match done {
        PublishStep::Copy => PublishStep::Unstage,
        PublishStep::Unstage => PublishStep::Remove,
        PublishStep::Remove | PublishStep::Done => PublishStep::Done,
    }
}

/// What the store answered to a copy from the staging folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Copied {
    /// It is copied.
    Done,
    /// There is a published file already.
    Exists,
    /// There is nothing to copy.
    SourceMissing,
}

/// The next step of publishing one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FileStep {
    /// Copy it out of the staging folder.
    Copy,
    /// See how large the published file is, if it is there.
    Measure,
    /// Readers see it.
    Published,
    /// It is not published as the commit says, and cannot be.
    Lost,
}

/// After a copy. A staged file goes only after it was copied, so where it is
/// missing, as where the published one exists, someone was here before: this
/// owner, or another.
pub fn after_copy(answer: Copied) -> FileStep {
    match answer {
        Copied::Done => FileStep::Published,
        Copied::Exists | Copied::SourceMissing => FileStep::Measure,
    }
}

/// After measuring the published file, which the commit says has `bytes`.
pub fn after_measure(answer: Copied, found: Option<u64>, bytes: u64) -> FileStep {
    match found {
        Some(found) if found == bytes => FileStep::Published,
        // A conflict, reported like an existing file.
        None if answer == Copied::Exists => FileStep::Copy,
        _ => FileStep::Lost,
    }
}

/// S11: up to where commits may go: all that are published, but the last `keep`;
/// never back behind `collected_upto`. `commits` ascends and ends with the one
/// that will say so.
pub fn collect_bound(
    commits: &[u64],
    published_upto: u64,
    collected_upto: u64,
    keep: usize,
) -> u64 {
    let old = commits.len().saturating_sub(keep);
    commits
        .iter()
        .take(old)
        .copied()
        .filter(|&seq| seq <= published_upto)
        .max()
        .unwrap_or(0)
        .max(collected_upto)
}

/// S11: whether a record may go, once the log's last record says
/// `collected_upto`. A claim never may: it is what keeps a stale owner, whose
/// next slot it fills, from committing.
pub fn collectable(kind: Kind, seq: u64, collected_upto: u64) -> bool {
    kind == Kind::Commit && seq <= collected_upto
}

/// S11: the state parts that go with a collected commit: those that the next
/// one does not name. A part that was dropped is never named again.
pub fn dead_parts<'a, T: Ord>(
    collected: &'a BTreeSet<T>,
    next: &'a BTreeSet<T>,
) -> impl Iterator<Item = &'a T> {
    collected.difference(next)
}

/// S5: what earlier owners uploaded and no commit names. `found` are objects
/// with the claim that wrote them; those of this claim, or of later ones, may
/// still be named.
pub fn orphans<T: Ord>(
    claim_seq: u64,
    found: impl IntoIterator<Item = (u64, T)>,
    named: &BTreeSet<T>,
) -> Vec<T> {
    found
        .into_iter()
        .filter(|(claim, object)| *claim < claim_seq && !named.contains(object))
        .map(|(_, object)| object)
        .collect()
}
