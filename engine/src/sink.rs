//! Sinks write the results.
//!
//! A sink takes part in the commit: it prepares its output before, the record decides, and its
//! [committer](crate::committer) delivers the output after.

use std::sync::Arc;

use async_trait::async_trait;
use object_store::path::Path;

use crate::{
    Batch, Clock, Ids, Result,
    committer::{Committable, Committer, CommitterContext},
    element::BarrierKind,
    files::Table,
    state::{Snapshot, StatePart},
};

/// An open sink; each lane that writes has one.
///
/// **Calls.** `restore` first, at most once. Then `write`, and `prepare_commit` at each barrier.
///
/// **Guarantee.** The rows that `write` received before a `prepare_commit` are in its committables or
/// in its snapshot. They become visible only when the committer delivers the commit.
///
/// **Failure.** An error stops the job. Staged objects that no commit names are deleted later.
#[async_trait]
pub trait Sink: Send {
    /// Writes rows. May wait for I/O, which gives back-pressure.
    async fn write(&mut self, batch: Batch) -> Result<()>;

    /// Ends an epoch. Stages the output that is due, or all output unless it is a
    /// [`BarrierKind::Checkpoint`]. Returns the other rows as state.
    async fn prepare_commit(&mut self, kind: BarrierKind) -> Result<PreparedCommit>;

    /// Restores the rows of a snapshot.
    async fn restore(&mut self, _parts: Vec<StatePart>) -> Result<()> {
        Ok(())
    }
}

/// A configured sink.
pub trait SinkFactory: Send + Sync + 'static {
    /// Opens the sink of a lane.
    fn open(&self, context: SinkContext) -> Result<Box<dyn Sink>>;

    /// The name of its target in commit records, without a secret; `None` if it delivers nothing.
    fn target(&self) -> Option<Arc<str>> {
        None
    }

    /// The committer of its target.
    fn committer(&self, _context: CommitterContext) -> Option<Box<dyn Committer>> {
        None
    }

    /// The table of its files, if it writes files.
    fn table(&self) -> Option<Table> {
        None
    }

    /// Whether its later rows replace delivered ones. The state names the output that contains them,
    /// so a sink that loses its state alone leaves old rows beside the new ones.
    fn replaces(&self) -> bool {
        false
    }

    /// The fingerprint of its state, if it has state. By default it covers the table and the
    /// columns.
    fn fingerprint(&self) -> Option<String> {
        Some(self.table()?.fingerprint())
    }
}

/// The place of a sink in the job.
#[derive(Clone)]
pub struct SinkContext {
    /// The node's name.
    pub node: Arc<str>,
    /// The number of this lane, from 0.
    pub lane: usize,
    /// The number of lanes of this sink.
    pub lanes: usize,
    /// The folder of this owner for staged objects, relative to the target's folder. Recovery deletes
    /// the objects there that no commit names.
    pub staging: Path,
    /// The first part of the commit log's identity. A file name that a sink chooses itself begins
    /// with it.
    pub log: Arc<str>,
    /// Processing time, for the age of open files.
    pub clock: Arc<dyn Clock>,
    /// The generator of file names.
    pub ids: Arc<dyn Ids>,
}

/// The result of a sink at a barrier.
#[derive(Debug, Default)]
pub struct PreparedCommit {
    /// The output that takes effect with the commit, in order. Its objects are staged.
    pub committables: Vec<Committable>,
    /// Rows that stay in the sink.
    pub snapshot: Snapshot,
}
