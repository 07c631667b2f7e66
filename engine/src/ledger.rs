//! The conservation law: every input row is accounted for exactly once.
//!
//! For each source partition and each commit: in + copied + released = contributed + filtered +
//! late + dead letters + duplicates + held. `copied` is zero unless several nodes read the same
//! rows. `held` and `released` are zero unless an operator buffers rows. Sources count the rows
//! that they read, operators declare the rows that they keep or drop, and the runtime counts the
//! copies. At each barrier the runtime adds up all counts. A commit that does not balance is not
//! written.

use std::{collections::BTreeMap, fmt, ops::AddAssign, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::source::PartitionId;

/// The outcomes of the rows of a partition at a node, since the last barrier.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Rows read.
    #[serde(rename = "in")]
    pub rows_in: u64,
    /// Copies made where more than one node reads the same rows.
    #[serde(default)]
    pub copied: u64,
    /// Buffered rows that the operator emitted or dropped.
    #[serde(default)]
    pub released: u64,
    /// Rows that took effect, in an aggregate's state or in a sink.
    pub contributed: u64,
    /// Rows that a `where` dropped.
    pub filtered: u64,
    /// Rows whose window had closed.
    pub late: u64,
    /// Rows that could not be decoded, or on which an expression failed.
    pub dead_letter: u64,
    /// Duplicates of earlier rows.
    pub duplicate: u64,
    /// Rows that an operator buffers in its state, to release them later.
    #[serde(default)]
    pub held: u64,
    /// Derived rows (results of windows, pairs, states of keys) on which an expression failed. They
    /// are not input rows, so the balance does not contain them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub derived_dead_letter: u64,
}

// serde passes a reference.
#[expect(clippy::trivially_copy_pass_by_ref)]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl Counts {
    /// The rows that have an outcome or that an operator buffers.
    pub fn settled(&self) -> u64 {
        self.contributed + self.filtered + self.late + self.dead_letter + self.duplicate + self.held
    }

    /// Whether every row read is accounted for.
    pub fn balances(&self) -> bool {
        self.rows_in + self.copied + self.released == self.settled()
    }
}

/// Both sides of the law, which can differ.
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
        self.derived_dead_letter += other.derived_dead_letter;
    }
}

/// Counts by source partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ledger {
    partitions: BTreeMap<Arc<PartitionId>, Counts>,
    derived_dead_letters: u64,
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

    /// Adds derived rows on which an expression failed.
    pub fn add_derived_dead_letters(&mut self, rows: u64) {
        self.derived_dead_letters += rows;
    }

    /// The total of all partitions and of the derived rows.
    pub fn total(&self) -> Counts {
        let mut total = Counts {
            derived_dead_letter: self.derived_dead_letters,
            ..Counts::default()
        };
        self.partitions.values().for_each(|counts| total += *counts);
        total
    }

    /// Whether all counts are zero.
    pub fn is_empty(&self) -> bool {
        self.partitions.is_empty() && self.derived_dead_letters == 0
    }

    /// The counts by partition.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<PartitionId>, &Counts)> {
        self.partitions.iter()
    }

    /// The counts of `partition`, zero if it has none.
    pub fn get(&self, partition: &PartitionId) -> Counts {
        self.partitions.get(partition).copied().unwrap_or_default()
    }

    /// Adds every count of `other`.
    pub fn merge(&mut self, other: &Self) {
        for (partition, counts) in other.iter() {
            *self.of(partition) += *counts;
        }
        self.derived_dead_letters += other.derived_dead_letters;
    }

    /// Returns the counts and resets them to zero.
    #[must_use]
    pub fn take(&mut self) -> Self {
        std::mem::take(self)
    }
}
