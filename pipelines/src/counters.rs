//! The counters that tests can check.

use tagflow_engine::ledger::Counts;

/// The counter `name`, as in records of the commit log.
pub fn counter(counts: &Counts, name: &str) -> Option<u64> {
    COUNTERS
        .iter()
        .find(|(found, _)| *found == name)
        .map(|(_, of)| of(counts))
}

/// A name, and its counter in [`Counts`].
pub type Counter = (&'static str, fn(&Counts) -> u64);

/// The counters that tests can check. Contributed rows are missing, because inspecting rows
/// contributes them once more.
pub const COUNTERS: [Counter; 5] = [
    ("in", |counts| counts.rows_in),
    ("filtered", |counts| counts.filtered),
    ("late", |counts| counts.late),
    ("dead_letter", |counts| counts.dead_letter),
    ("duplicate", |counts| counts.duplicate),
];
