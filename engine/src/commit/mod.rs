//! The commit log.

mod driver;
mod record;

pub use driver::{CommitLog, Committed, Cut, LogConfig, Plan, Recovered};
pub use record::{
    Attempt, ByPartition, Checkpoint, FileRef, Kind, Owner, Reason, Record, StateRef, VERSION,
    counts,
};

use std::sync::Arc;

use object_store::{ObjectStore, path::Path};

use crate::Result;

/// The last record of a task's log; none where there is no log. Takes nothing
/// over: for `status` and `query`.
pub async fn read_last(
    _store: &Arc<dyn ObjectStore>,
    _root: &Path,
    _task: &str,
) -> Result<Option<Record>> {
    todo!()
}

/// The pipelines whose folders lie under `root`, the state URL's.
pub async fn pipelines(_store: &Arc<dyn ObjectStore>, _root: &Path) -> Result<Vec<String>> {
    todo!()
}
