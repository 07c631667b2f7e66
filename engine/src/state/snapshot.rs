//! The state of an operator in a commit.

use super::{NewPart, NewRows, StatePart};

/// The changes since the last snapshot.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// New parts. A key may be used again only after it was removed, or in the snapshot that
    /// removes it: then these rows replace the old ones.
    pub put: Vec<NewPart>,
    /// Parts that are no longer needed.
    pub removed: Vec<String>,
}

impl Snapshot {
    /// Whether there are no changes.
    pub fn is_empty(&self) -> bool {
        self.put.is_empty() && self.removed.is_empty()
    }

    /// Adds a part with its rows.
    pub fn put_rows(&mut self, key: impl Into<String>, rows: impl Into<NewRows>) {
        self.put.push(NewPart::new(key, rows));
    }
}

/// The restored state of an operator on a lane.
#[derive(Debug, Clone)]
pub struct LaneState {
    /// The parts, without the rows of other lanes.
    pub parts: Vec<StatePart>,
    /// Whether the operator must write its whole state again.
    pub lanes: Restore,
}

/// Whether the number of lanes has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restore {
    /// This lane wrote the parts, and they stay in the state.
    InPlace,
    /// The parts were divided among other lanes, and the old ones are dropped: the next snapshot's
    /// `put` must contain everything restored. Keys may repeat.
    Rescaled,
}
