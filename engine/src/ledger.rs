//! The conservation law: every input row is accounted for, once.
//!
//! Per source partition and per commit:
//! in + copied + released = contributed + filtered + late + dead letters +
//! duplicates + held,
//! where `copied` is zero unless several nodes read the same rows, and `held` and
//! `released` unless an operator makes rows wait for others. Sources count
//! what they read, operators declare what they keep or drop, the runtime counts
//! the copies, and at each barrier it adds all of them up: a commit that does
//! not balance is not written.

use std::{collections::BTreeMap, fmt, ops::AddAssign, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::source::PartitionId;

/// What became of the rows of one partition at one node, since the last cut.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Rows that came in.
    #[serde(rename = "in")]
    pub rows_in: u64,
    /// Copies made where more than one node reads the same rows.
    #[serde(default)]
    pub copied: u64,
    /// Rows that had been held back and went on.
    #[serde(default)]
    pub released: u64,
    /// Rows that had their effect: in an aggregate's state, or in a sink.
    pub contributed: u64,
    /// Rows that a `where` dropped.
    pub filtered: u64,
    /// Rows whose window had closed.
    pub late: u64,
    /// Rows that could not be read.
    pub dead_letter: u64,
    /// Rows that were seen before.
    pub duplicate: u64,
    /// Rows that an operator holds back in its state, to be released later.
    #[serde(default)]
    pub held: u64,
}

impl Counts {
    /// The rows whose fate is known, or in an operator's hands.
    pub fn settled(&self) -> u64 {
        self.contributed + self.filtered + self.late + self.dead_letter + self.duplicate + self.held
    }

    /// Whether every row that came in is accounted for.
    pub fn balances(&self) -> bool {
        self.rows_in + self.copied + self.released == self.settled()
    }
}

/// Both sides of the law, which may not be equal.
impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} in + {} copied + {} released, {} contributed + {} filtered + {} late + {} dead \
             letters + {} duplicates + {} held",
            self.rows_in,
            self.copied,
            self.released,
            self.contributed,
            self.filtered,
            self.late,
            self.dead_letter,
            self.duplicate,
            self.held
        )
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.rows_in += other.rows_in;
        self.copied += other.copied;
        self.released += other.released;
        self.contributed += other.contributed;
        self.filtered += other.filtered;
        self.late += other.late;
        self.dead_letter += other.dead_letter;
        self.duplicate += other.duplicate;
        self.held += other.held;
    }
}

/// Counts by source partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ledger {
    partitions: BTreeMap<Arc<PartitionId>, Counts>,
}

impl Ledger {
    /// The counts of `partition`, to add to.
    pub fn of(&mut self, partition: &Arc<PartitionId>) -> &mut Counts {
        if !self.partitions.contains_key(partition) {
            self.partitions
                .insert(Arc::clone(partition), Counts::default());
        }
        self.partitions.get_mut(partition).expect("inserted above")
    }

    /// The counts by partition.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<PartitionId>, &Counts)> {
        self.partitions.iter()
    }

    /// The counts of `partition`, zero if it was never seen.
    pub fn get(&self, partition: &PartitionId) -> Counts {
        self.partitions.get(partition).copied().unwrap_or_default()
    }

    /// Adds every count of `other`.
    pub fn merge(&mut self, other: &Self) {
        for (partition, counts) in other.iter() {
            *self.of(partition) += *counts;
        }
    }

    /// Takes the counts and leaves zeros.
    #[must_use]
    pub fn take(&mut self) -> Self {
        std::mem::take(self)
    }
}
