//! Sinks: where results go.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use object_store::{ObjectStore, path::Path};
use serde::{Deserialize, Serialize};

use crate::{
    Batch, Clock, Ids, Result,
    element::BarrierKind,
    state::{Snapshot, StatePart},
};

/// An open sink, one per lane that writes.
///
/// **Calls.** `restore` at most once and first; then `write`; at each barrier
/// `cut`. **Guarantee.** What `write` took before a `cut` is in that cut's
/// files or its snapshot; it becomes visible only when the commit log publishes
/// the files. Closing a file is not publishing it. **Failure.** An error stops
/// the job; whatever was staged and is named by no commit is deleted later.
#[async_trait]
pub trait Sink: Send {
    /// Takes rows. May wait for I/O: that is the back-pressure.
    async fn write(&mut self, batch: Batch) -> Result<()>;

    /// Ends an epoch: finishes the files that are due (all of them unless it is a
    /// [`BarrierKind::Checkpoint`]) and hands over, as state, rows that stay in open
    /// ones.
    async fn cut(&mut self, kind: BarrierKind) -> Result<SinkCut>;

    /// Takes back the rows that a snapshot held.
    async fn restore(&mut self, _parts: Vec<StatePart>) -> Result<()> {
        Ok(())
    }
}

/// A configured sink.
pub trait SinkFactory: Send + Sync + 'static {
    /// Opens the sink of one lane.
    fn open(&self, context: SinkContext) -> Result<Box<dyn Sink>>;

    /// The table that it writes files to, if it writes files.
    fn table(&self) -> Option<Table>;

    /// What determines the meaning of its state, if it has some: by default
    /// its table and the columns.
    fn fingerprint(&self) -> Option<String> {
        Some(self.table()?.fingerprint())
    }
}

/// A folder of Parquet files on an object store.
#[derive(Debug, Clone)]
pub struct Table {
    /// The name under which it can be queried: the sink's name.
    pub name: Arc<str>,
    /// The URL as configured, with no credentials; commit records name tables
    /// by it.
    pub url: Arc<str>,
    /// The store.
    pub store: Arc<dyn ObjectStore>,
    /// The table's folder in it.
    pub root: Path,
    /// The shape of the rows, with the partition columns.
    pub schema: SchemaRef,
}

impl Table {
    /// Where it lies, and its columns.
    pub fn fingerprint(&self) -> String {
        let fields = self.schema.fields().iter();
        let fields = fields.map(|field| format!("{} {}", field.name(), field.data_type()));
        format!("{}: {}", self.url, fields.collect::<Vec<_>>().join(", "))
    }
}

/// What a sink may know of its place.
#[derive(Clone)]
pub struct SinkContext {
    /// The node's name.
    pub node: Arc<str>,
    /// Which lane this is, from 0.
    pub lane: usize,
    /// How many lanes of this sink there are.
    pub lanes: usize,
    /// `_staging/<task>/<claim_seq>` under the table's root: where staged files
    /// go. Recovery deletes those that no commit names.
    pub staging: Path,
    /// Processing time, for the age of open files.
    pub clock: Arc<dyn Clock>,
    /// Where the names of files come from.
    pub ids: Arc<dyn Ids>,
}

/// What a sink hands over at a barrier.
#[derive(Debug, Default)]
pub struct SinkCut {
    /// Finished, uploaded, not yet visible files.
    pub files: Vec<StagedFile>,
    /// Files of earlier cuts that those replace: they go as soon as the new
    /// ones are visible.
    pub removed: Vec<RemovedFile>,
    /// Rows that stay in open files.
    pub snapshot: Snapshot,
}

/// A finished Parquet file in the staging folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StagedFile {
    /// The table's URL.
    pub table: Arc<str>,
    /// Where it lies, from the store's root.
    pub staged: Path,
    /// The Hive folder that it will be published in, from the table's root:
    /// `dt=2026-01-05`; empty for an unpartitioned table.
    pub folder: Path,
    /// What it will be called, without the suffix, where a later cut may have
    /// to remove it: unique. Else it is named after its commit.
    pub name: Option<String>,
    /// Its rows.
    pub rows: u64,
    /// Its size in bytes.
    pub bytes: u64,
    /// SHA-256 of its bytes, in hex.
    pub sha256: String,
}

/// A file that readers are to see no more. Its name is never used again, so
/// that to delete it twice, or late, does no harm.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemovedFile {
    /// The table's URL.
    pub table: Arc<str>,
    /// Where readers find it, from the table's folder.
    #[serde(rename = "final")]
    pub published: String,
}
