//! Sinks: where results go.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use object_store::{ObjectStore, path::Path};

use crate::{
    Batch, Clock, Result,
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

    /// Ends an epoch: finishes the files that are due (all of them at a
    /// [`BarrierKind::Stop`]) and hands over, as state, rows that stay in open
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

/// What a sink may know of its place.
#[derive(Clone)]
pub struct SinkContext {
    /// The node's name.
    pub node: Arc<str>,
    /// Which lane this is, from 0.
    pub lane: usize,
    /// `_staging/<task>/<claim_seq>` under the table's root: where staged files
    /// go. Recovery deletes those that no commit names.
    pub staging: Path,
    /// Processing time, for the age of open files.
    pub clock: Arc<dyn Clock>,
}

/// What a sink hands over at a barrier.
#[derive(Debug, Default)]
pub struct SinkCut {
    /// Finished, uploaded, not yet visible files.
    pub files: Vec<StagedFile>,
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
    /// Its rows.
    pub rows: u64,
    /// Its size in bytes.
    pub bytes: u64,
    /// SHA-256 of its bytes, in hex.
    pub sha256: String,
}
