//! Operator state between two runs.
//!
//! State is snapshotted as Arrow batches in *parts*. A part is immutable once written. A snapshot
//! names the new and the removed parts, so a commit writes only the changes.
//!
//! An operator keeps its state in one of these, and need not know which parts are stored:
//!
//! | state | type |
//! | --- | --- |
//! | large: only the changes are stored | [`Parts`] |
//! | small: stored as a whole after a change | [`WholePart`] |
//! | the watermark | [`StoredWatermark`] |
//!
//! Each has `snapshot` and `restore`, for the methods of these names of an operator.

mod key_column;
mod key_group;
mod part;
mod parts;
mod snapshot;
mod spill;
mod watermark;
mod whole_part;

pub use key_column::{canonical, key_column};
pub use key_group::{
    KEY_GROUP_COLUMN, KEY_GROUPS, KeyGroup, KeyHash, KeyHasher, lane_of, rows_for_all,
    with_key_groups,
};
pub use part::{NewPart, NewRows, StatePart, part_number};
pub use parts::Parts;
pub use snapshot::{LaneState, Restore, Snapshot};
pub use spill::{DiskStore, SpillReader, SpillStore};
pub use watermark::StoredWatermark;
pub use whole_part::WholePart;
