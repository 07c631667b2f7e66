//! What decides about the rows of a key.

use tagflow_engine::{
    Result,
    state::{KeyHash, Lanes, Snapshot, StatePart},
};

/// Decides about rows, one key at a time, with a state of its own. Times are in
/// microseconds.
pub(super) trait Judge: Send {
    /// A row whose turn has come: the times of these calls never go back.
    fn on_time(&mut self, key: KeyHash, time: i64) -> Verdict;

    /// A row that comes behind `watermark`.
    fn behind(&mut self, key: KeyHash, time: i64, watermark: i64) -> Verdict;

    /// No row from before `watermark` will be on time any more.
    fn advance(&mut self, watermark: i64);

    /// For how long behind the watermark a row is not late.
    fn reach_us(&self) -> i64 {
        0
    }

    /// Adds what changed since the last call.
    fn snapshot(&mut self, snapshot: &mut Snapshot) -> Result<()>;

    /// Takes back what snapshots held, parts in the order in which they were put.
    fn restore(&mut self, parts: Vec<StatePart>, lanes: Lanes) -> Result<()>;

    /// Bytes in memory, an estimate.
    fn bytes(&self) -> usize;
}

/// What becomes of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It goes on, with what was found: the start of its session; 1 where its key
    /// is over the rate.
    Pass(Option<i64>),
    /// It was seen before.
    Duplicate,
    /// Too much is forgotten to say.
    Late,
}
