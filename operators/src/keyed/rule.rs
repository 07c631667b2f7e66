//! Decisions about the rows of a key.

use tagflow_engine::{
    Result,
    state::{KeyHash, Restore, Snapshot, StatePart},
};

/// Decides about rows, one key at a time, with its own state. Times are in microseconds.
pub(super) trait KeyedRule: Send {
    /// Judges a row in order: the times of these calls never decrease.
    fn on_time(&mut self, key: KeyHash, time: i64) -> RowOutcome;

    /// Judges a row that arrives behind `watermark`.
    fn behind(&mut self, key: KeyHash, time: i64, watermark: i64) -> RowOutcome;

    /// No further row from before `watermark` is on time.
    fn advance(&mut self, watermark: i64);

    /// How far behind the watermark a row is not yet late.
    fn reach_us(&self) -> i64 {
        0
    }

    /// Adds the changes since the last call.
    fn snapshot(&mut self, snapshot: &mut Snapshot) -> Result<()>;

    /// Restores the state from snapshots; parts arrive in the order in which they were
    /// stored.
    fn restore(&mut self, parts: Vec<StatePart>, lanes: Restore) -> Result<()>;

    /// Bytes in memory, an estimate.
    fn bytes(&self) -> usize;
}

/// The decision about a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RowOutcome {
    /// The row is emitted, with the result: the start of its session, or 1 where its key
    /// exceeds the rate.
    Pass(Option<i64>),
    /// The row is a duplicate.
    Duplicate,
    /// The row is late: the state needed to judge it may be forgotten.
    Late,
}
