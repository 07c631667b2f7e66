//! Every decision of the protocol, as a pure function of observations.
//!
//! Nothing here does I/O. The driver calls these functions for the next step, and so does the model
//! checker, which runs them through every order of events.

use std::collections::BTreeSet;

use super::record::Kind;

#[cfg(test)]
mod tests;

/// The store's answer to a put-if-absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Answer {
    /// The object exists, and this put wrote it.
    Created,
    /// The store reports an existing object. This is not reliable: a retry inside the client meets
    /// its own write, and a conflict has the same answer although nothing was written.
    Exists,
    /// Unknown: the put may have been written, may be written later, or never.
    Failed,
}

/// The result of a read of a slot.
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
    /// Read the slot.
    ReadBack {
        /// The slot.
        seq: u64,
    },
    /// S4: the claim is in the slot. List again for later records.
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

/// After S4. A claim can be written late, into a slot whose commit was collected. Later records
/// then exist, and the commit that the claim follows is old. This listing must begin after the claim
/// is known to be written.
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
    /// Read the slot.
    ReadBack,
    /// The epoch has taken effect.
    Committed,
    /// Another owner wrote the slot: the epoch has no effect, and this owner must stop.
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

/// Whether a log existed and is missing: plans are stored only after the first claim. The plans
/// must be listed before the log. A listing may lag behind, so a readable first claim proves the
/// opposite.
pub fn log_is_missing(plans: usize, tail: u64) -> bool {
    plans > 0 && tail == 0
}

/// The first slot that should be in use but is empty.
pub fn first_hole(slots: &BTreeSet<u64>, collected_upto: u64) -> Option<u64> {
    let expected = collected_upto + 1..;
    expected
        .clone()
        .zip(slots.range(expected))
        .find(|(expected, slot)| expected != *slot)
        .map(|(expected, _)| expected)
}

/// S5 and S9: the undelivered ones among `commits`, in the order of their delivery.
pub fn to_deliver(commits: impl IntoIterator<Item = u64>, delivered_upto: u64) -> Vec<u64> {
    let mut due: Vec<u64> = commits
        .into_iter()
        .filter(|&seq| seq > delivered_upto)
        .collect();
    due.sort_unstable();
    due
}

/// The next step of delivering the files of a commit. Any process may repeat each step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DeliveryStep {
    /// Copy its files into the table.
    Copy,
    /// Delete the staged files, so that a slower process cannot copy them again.
    Unstage,
    /// Delete the published files that it replaces. After all copies, so that no row is missing at
    /// any time. After the staged files, so that no process copies a replaced file back.
    Remove,
    /// The commit is delivered.
    Done,
}

/// After a step of delivering a commit.
pub fn after_delivery_step(done: DeliveryStep) -> DeliveryStep {
    match done {
        DeliveryStep::Copy => DeliveryStep::Unstage,
        DeliveryStep::Unstage => DeliveryStep::Remove,
        DeliveryStep::Remove | DeliveryStep::Done => DeliveryStep::Done,
    }
}

/// The store's answer to a copy from the staging folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Copied {
    /// It is copied.
    Done,
    /// The published file exists.
    Exists,
    /// The staged file does not exist.
    SourceMissing,
}

/// The next step of publishing one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FileStep {
    /// Copy it out of the staging folder.
    Copy,
    /// Read the size of the published file, if it exists.
    Measure,
    /// It is visible to readers.
    Published,
    /// It was visible, and an owner has delivered the later commit that removes it.
    Superseded,
    /// It is not published as the commit describes, and cannot be.
    Lost,
}

/// After a copy. A staged file is deleted only after it was copied. If it is missing, or if the
/// published one exists, an owner has copied it before: this one or another.
pub fn after_copy(answer: Copied) -> FileStep {
    match answer {
        Copied::Done => FileStep::Published,
        Copied::Exists | Copied::SourceMissing => FileStep::Measure,
    }
}

/// After the size of the published file is known. It has `bytes` in the commit. If it is missing,
/// `removed_later` explains that: a later commit removes it, and an owner may have delivered both.
pub fn after_measure(
    answer: Copied,
    found: Option<u64>,
    bytes: u64,
    removed_later: bool,
) -> FileStep {
    match found {
        Some(found) if found == bytes => FileStep::Published,
        // A conflict, reported as an existing file.
        None if answer == Copied::Exists => FileStep::Copy,
        None if removed_later => FileStep::Superseded,
        _ => FileStep::Lost,
    }
}

/// S11: the last commit to collect: all that are published, without the last `keep`, and never
/// below `collected_upto`. `commits` ascends and ends with the one that will record the bound.
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

/// S11: whether a record may be deleted, given `collected_upto` in the log's last record. A claim
/// is never deleted: it fills the next slot of a stale owner, which therefore cannot commit.
pub fn collectable(kind: Kind, seq: u64, collected_upto: u64) -> bool {
    kind == Kind::Commit && seq <= collected_upto
}

/// S11: the state parts to delete with a collected commit: those that the next commit does not
/// name. A dropped part is never named again.
pub fn dead_parts<'a, T: Ord>(
    collected: &'a BTreeSet<T>,
    next: &'a BTreeSet<T>,
) -> impl Iterator<Item = &'a T> {
    collected.difference(next)
}

/// S5: uploads of earlier owners that no commit names. `found` are objects with the claim that
/// wrote them. Objects of this claim, or of later ones, may still be named.
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
