//! Checks that records form a single history. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    super::record::{Checkpoint, Kind, Record},
    finding::{Finding, Subject, name},
};

/// The advice for a log that no crash explains.
const RESTORE: &str = "restore the state folder from a backup";

/// The findings in the `records` of a log with these `slots`. Unreadable records are missing in
/// `records`.
pub(super) fn check(slots: &BTreeSet<u64>, records: &BTreeMap<u64, Record>) -> Vec<Finding> {
    let collected_upto = records
        .values()
        .next_back()
        .map_or(0, |tail| tail.collected_upto);
    let mut findings = holes(slots, collected_upto);
    for record in records.values() {
        findings.extend(rows(record));
        findings.extend(claimed(record, slots, records));
    }
    for (older, newer) in records.values().zip(records.values().skip(1)) {
        if newer.seq == older.seq + 1 && !landed_late(older, newer, collected_upto) {
            findings.extend(follows(older, newer, records));
        }
        findings.extend(never_back(older, newer, records));
    }
    findings
}

/// The current checkpoint after a record. `None` before the first commit, and if the commit that a
/// claim follows was collected or is unreadable.
pub(super) fn checkpoint<'a>(
    record: &'a Record,
    records: &'a BTreeMap<u64, Record>,
) -> Option<&'a Checkpoint> {
    let own = record.checkpoint.as_ref();
    own.or_else(|| records.get(&record.follows?)?.checkpoint.as_ref())
}

/// Slots that should be in use but are empty.
fn holes(slots: &BTreeSet<u64>, collected_upto: u64) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !slots.contains(&1) {
        let message = format!("claim #1 is missing, and claims are never deleted; {RESTORE}");
        findings.push(Finding::wrong(Subject::Log, message));
    }
    let mut before = collected_upto;
    for &slot in slots.range(collected_upto + 1..) {
        let missing = match slot - before {
            0 | 1 => None,
            2 => Some(format!("record #{} is", before + 1)),
            _ => Some(format!("records #{} to #{} are", before + 1, slot - 1)),
        };
        if let Some(missing) = missing {
            let message = format!("{missing} missing from the log; {RESTORE}");
            findings.push(Finding::wrong(Subject::Log, message));
        }
        before = slot;
    }
    findings
}

/// Rows that a record does not account for.
fn rows(record: &Record) -> Vec<Finding> {
    let mut findings = Vec::new();
    let this = name(record);
    let mut wrong = |what: String| {
        let message = format!("{this} does not account for each row {what}; {RESTORE}");
        findings.push(Finding::wrong(Subject::Rows, message));
    };
    for (source, partitions) in &record.counters {
        for (partition, counts) in partitions {
            if !counts.balances() {
                wrong(format!("of `{source}:{partition}`: {counts}"));
            }
        }
    }
    if let Some(totals) = record.checkpoint.as_ref().map(|last| last.totals)
        && !totals.balances()
    {
        wrong(format!("since the first commit: {totals}"));
    }
    findings
}

/// Checks the claim under which a record was written.
fn claimed(
    record: &Record,
    slots: &BTreeSet<u64>,
    records: &BTreeMap<u64, Record>,
) -> Option<Finding> {
    let claim_seq = record.claim_seq;
    let what = match records.get(&claim_seq) {
        Some(claim) if claim.kind == Kind::Claim => return None,
        Some(_) => "is no claim",
        // It is unreadable, which another finding reports.
        None if slots.contains(&claim_seq) => return None,
        None => "is missing",
    };
    let message = format!(
        "record #{claim_seq}, the claim of {}, {what}; {RESTORE}",
        name(record)
    );
    Some(Finding::wrong(Subject::Log, message))
}

/// Whether a claim is in the slot of a commit that was collected before the claim was written. No
/// process owned the log by it.
fn landed_late(claim: &Record, next: &Record, collected_upto: u64) -> bool {
    claim.kind == Kind::Claim && claim.seq <= collected_upto && next.previous != Some(claim.attempt)
}

/// Checks a record against the next one.
fn follows(older: &Record, newer: &Record, records: &BTreeMap<u64, Record>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let (this, last) = (name(newer), name(older));
    let mut wrong = |subject, what: &str| {
        findings.push(Finding::wrong(subject, format!("{this} {what}; {RESTORE}")));
    };
    if newer.previous != Some(older.attempt) {
        wrong(Subject::Log, &format!("was not written to {last} as it is"));
    }
    let before = checkpoint(older, records);
    match (newer.kind, &newer.checkpoint) {
        (Kind::Claim, repeated) => {
            let differs = repeated.is_some() && repeated.as_ref() != before;
            if differs || newer.last_commit() != older.last_commit() {
                wrong(
                    Subject::Log,
                    &format!("does not name the last commit as of {last}"),
                );
            }
        }
        (Kind::Commit, Some(after)) => {
            if newer.claim_seq != older.claim_seq {
                wrong(
                    Subject::Log,
                    &format!("follows {last}, which another owner wrote"),
                );
            }
            if before.is_none() && older.last_commit().is_some() {
                // The commit to compare with was collected, or does not read.
                return findings;
            }
            for what in offsets(before, after, newer) {
                wrong(Subject::Offsets, &what);
            }
            let mut totals = before.map(|before| before.totals).unwrap_or_default();
            for counts in newer.counters.values().flat_map(BTreeMap::values) {
                totals += *counts;
            }
            if totals != after.totals {
                wrong(
                    Subject::Rows,
                    &format!(
                        "adds up to {}, with those before it to {totals}",
                        after.totals
                    ),
                );
            }
        }
        // There is no such readable record.
        (Kind::Commit, None) => {}
    }
    findings
}

/// The positions of a commit that do not follow from those before it.
fn offsets(before: Option<&Checkpoint>, after: &Checkpoint, commit: &Record) -> Vec<String> {
    let mut findings = Vec::new();
    let old = before.map(|before| &before.positions);
    for (source, partitions) in old.into_iter().flatten() {
        for (partition, &from) in partitions {
            if commit.reset.contains(source) {
                continue;
            }
            match after.position(source, partition) {
                Some(to) if to >= from => {}
                Some(to) => findings.push(format!(
                    "goes back from offset {from} to {to} of `{source}:{partition}`, so that \
                     rows count twice"
                )),
                None => findings.push(format!(
                    "forgets where `{source}:{partition}` stood, so that rows count \
                     twice"
                )),
            }
        }
    }
    for (source, partitions) in &commit.counters {
        for (partition, counts) in partitions {
            let from = before.and_then(|before| before.position(source, partition));
            let from = from.filter(|_| !commit.reset.contains(source)).unwrap_or(0);
            let to = after.position(source, partition).unwrap_or(from);
            let passed = u64::try_from(to.saturating_sub(from)).unwrap_or(0);
            if counts.rows_in > passed {
                findings.push(format!(
                    "counts {} rows of `{source}:{partition}`, and goes on by {passed} offsets \
                     only, from {from} to {to}",
                    counts.rows_in
                ));
            }
        }
    }
    findings
}

/// Checks the values that never decrease, whether or not there were records between.
fn never_back(older: &Record, newer: &Record, records: &BTreeMap<u64, Record>) -> Option<Finding> {
    let (before, after) = (checkpoint(older, records), checkpoint(newer, records));
    let is_known = after.is_some() || newer.last_commit().is_none();
    let grows =
        |of: fn(&Checkpoint) -> u64| !is_known || before.map_or(0, of) <= after.map_or(0, of);
    let holds = older.published_upto <= newer.published_upto
        && older.collected_upto <= newer.collected_upto
        && older.last_commit() <= newer.last_commit()
        && grows(|checkpoint| checkpoint.epoch.0)
        && grows(|checkpoint| checkpoint.totals.rows_in)
        && grows(|checkpoint| checkpoint.totals.settled());
    (!holds).then(|| {
        let (this, last) = (name(newer), name(older));
        Finding::wrong(
            Subject::Log,
            format!("{this} says less than {last}; {RESTORE}"),
        )
    })
}
