//! The owner's side of the log: the protocol's I/O.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use object_store::{ObjectStore, path::Path};

use super::record::{ByPartition, Checkpoint, Owner, Reason, StateRef};
use crate::{
    Clock, Epoch, EventTime, Result,
    ledger::Counts,
    sink::{StagedFile, Table},
    source::Positions,
    state::StatePart,
};

/// Where a log lies, and who opens it.
#[derive(Clone)]
pub struct LogConfig {
    /// The store of the log. Its client must not retry on its own: the protocol
    /// does, because only it can tell its own write from another's.
    pub store: Arc<dyn ObjectStore>,
    /// The pipeline's folder: `<state>/<pipeline>`.
    pub root: Path,
    /// The task: `main` for a pipeline on one machine.
    pub task: String,
    /// This process.
    pub owner: Owner,
    /// What it runs.
    pub plan: Plan,
    /// How many commits to keep with their state; at least 1.
    pub keep_commits: usize,
}

/// A resolved pipeline, without secrets.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Names it: a hash of `json`.
    pub hash: String,
    /// What is stored.
    pub json: Bytes,
}

/// What the owner takes over.
#[derive(Debug, Clone)]
pub struct Recovered {
    /// Where the stream stands; none before the first commit.
    pub last: Option<Checkpoint>,
    /// The slot of this owner's claim.
    pub seq: u64,
    /// Who had the task before.
    pub predecessor: Option<Owner>,
}

/// An epoch's effects, to be committed as one.
#[derive(Debug, Clone)]
pub struct Cut {
    /// The epoch that ends.
    pub epoch: Epoch,
    /// Why.
    pub reason: Reason,
    /// How many lanes wrote the state.
    pub lanes: usize,
    /// The next offset to read, of every partition ever read.
    pub positions: BTreeMap<Arc<str>, Positions>,
    /// The watermarks.
    pub watermarks: ByPartition<EventTime>,
    /// The bounded partitions that were read to their end, by source.
    pub finished: BTreeMap<Arc<str>, BTreeSet<Arc<str>>>,
    /// Every state part in force, old and new.
    pub state: Vec<StateRef>,
    /// The fingerprint of each node with state.
    pub fingerprints: BTreeMap<String, String>,
    /// The files that become visible with this commit.
    pub files: Vec<StagedFile>,
    /// What became of the rows of this epoch, by the node where they ended.
    pub counters: ByPartition<Counts>,
    /// What became of all rows since the first commit, this epoch included.
    pub totals: Counts,
}

/// A commit that is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// Its slot.
    pub seq: u64,
    /// When it was decided.
    pub at: EventTime,
    /// How many files it publishes.
    pub files: usize,
    /// Their bytes.
    pub file_bytes: u64,
    /// Bytes of all state that it names.
    pub state_bytes: u64,
}

/// The log of a task, open for its owner.
pub struct CommitLog {}

impl CommitLog {
    /// Takes the task over: probes the store, claims the log, publishes what
    /// earlier owners committed, deletes what they left behind.
    pub async fn open(
        _config: LogConfig,
        _tables: Vec<Table>,
        _clock: Arc<dyn Clock>,
    ) -> Result<(Self, Recovered)> {
        todo!()
    }

    /// Where this owner's sinks stage files, from a table's folder:
    /// `_staging/<task>/<claim_seq>`.
    pub fn staging(&self) -> Path {
        todo!()
    }

    /// Reads a state part back, verified by its length and SHA-256.
    pub async fn load(&self, _part: &StateRef) -> Result<RecordBatch> {
        todo!()
    }

    /// Stores a state part; it counts once a commit names it.
    pub async fn put_state(
        &self,
        _node: &str,
        _lane: usize,
        _part: &StatePart,
    ) -> Result<StateRef> {
        todo!()
    }

    /// Makes an epoch take effect.
    pub async fn commit(&mut self, _cut: Cut) -> Result<Committed> {
        todo!()
    }

    /// Makes the files of every commit visible that are not yet.
    pub async fn publish(&mut self) -> Result<()> {
        todo!()
    }

    /// Deletes old published commits and the state that only they name.
    pub async fn collect(&mut self) -> Result<()> {
        todo!()
    }
}
