//! Reading a log: its slots, its records, its commits.

use std::{collections::BTreeSet, sync::Arc};

use object_store::{ObjectStore, path::Path};

use super::{
    paths::{self, Paths},
    record::{Kind, Record, StateRef},
    state::{Loaded, StateStore},
    store::LogStore,
};
use crate::{Error, RandomIds, Result, SystemClock, state::StatePart};

/// How often a listing is repeated when its last record is gone by the time it
/// is read, because the log has moved on.
const ROUNDS: usize = 16;

/// The records of a task.
#[derive(Clone)]
pub(super) struct LogReader {
    pub(super) store: LogStore,
    pub(super) paths: Paths,
}

impl LogReader {
    /// The slots in use.
    pub(super) async fn slots(&self) -> Result<BTreeSet<u64>> {
        let listed = self.store.list(&self.paths.log()).await?;
        Ok(listed
            .iter()
            .filter_map(|object| paths::seq_of(&object.location))
            .collect())
    }

    /// The record in a slot.
    pub(super) async fn read(&self, seq: u64) -> Result<Option<Record>> {
        let path = self.paths.record(seq);
        match self.store.get(&path).await? {
            Some(bytes) => Record::decode(&bytes, path.as_ref(), seq).map(Some),
            None => Ok(None),
        }
    }

    /// The slots in use, and the record in the last one.
    pub(super) async fn last(&self) -> Result<(BTreeSet<u64>, Option<Record>)> {
        for _ in 0..ROUNDS {
            let slots = self.slots().await?;
            let Some(&tail) = slots.last() else {
                return Ok((slots, None));
            };
            if let Some(record) = self.read(tail).await? {
                return Ok((slots, Some(record)));
            }
        }
        Err(Error::external(format!(
            "the last record in `{}` is listed and cannot be read",
            self.paths.log()
        )))
    }

    /// Every commit that is in the log up to `tail`, oldest first.
    ///
    /// They are found from the last to the first without reading the claims of
    /// owners that never committed: a claim's checkpoint names the commit
    /// before it, and an owner's commits follow its claim without a gap.
    pub(super) async fn commits(&self, tail: &Record) -> Result<Vec<Record>> {
        let mut commits = Vec::new();
        let mut newer = tail.clone();
        let mut cursor = last_commit(tail);
        while cursor > 0 {
            let record = if cursor == tail.seq {
                Some(tail.clone())
            } else {
                self.read(cursor).await?
            };
            let collected = cursor <= tail.collected_upto;
            let commit = match record {
                Some(record) if record.kind == Kind::Commit => record,
                // Whoever collected began with the oldest.
                _ if collected => break,
                Some(_) => return Err(self.broken(cursor, "is not the commit it should be")),
                None => return Err(self.broken(cursor, "is missing")),
            };
            self.check_link(&newer, &commit)?;
            cursor = if commit.seq == commit.claim_seq + 1 {
                let claim = self
                    .read(commit.claim_seq)
                    .await?
                    .ok_or_else(|| self.broken(commit.claim_seq, "is missing"))?;
                self.check_link(&commit, &claim)?;
                let before = last_commit(&claim);
                newer = claim;
                commits.push(commit);
                before
            } else {
                newer = commit.clone();
                commits.push(commit);
                newer.seq - 1
            };
        }
        commits.reverse();
        Ok(commits)
    }

    /// Neighbours must have been written one after the other.
    fn check_link(&self, newer: &Record, older: &Record) -> Result<()> {
        if newer.seq == older.seq + 1 && newer.previous != Some(older.attempt) {
            return Err(self.broken(
                older.seq,
                "is not the one that its successor was written to",
            ));
        }
        Ok(())
    }

    /// What cannot be, whatever crashed when.
    pub(super) fn broken(&self, seq: u64, what: &str) -> Error {
        Error::data(format!(
            "the commit log is damaged: record `{}` {what}; restore the state folder from a backup, or move it away together with the output to start anew",
            self.paths.record(seq)
        ))
    }
}

/// The slot of the last commit up to `record`, 0 if there is none.
fn last_commit(record: &Record) -> u64 {
    record.checkpoint.as_ref().map_or(0, |last| last.seq)
}

/// The last record of a task's log; none where there is no log. Takes nothing
/// over: for `status` and `query`.
pub async fn read_last(
    store: &Arc<dyn ObjectStore>,
    root: &Path,
    task: &str,
) -> Result<Option<Record>> {
    let reader = LogReader {
        store: LogStore::new(Arc::clone(store), Arc::new(SystemClock)),
        paths: Paths::new(root.clone(), task),
    };
    Ok(reader.last().await?.1)
}

/// The state that `node` had at a task's last commit; none where there is no commit.
/// Only parts that `is_wanted`, which is told on how many lanes the job ran, are read.
/// Takes nothing over: a running owner may collect a part while it is read, and then
/// there is a newer commit to read.
pub async fn read_state(
    store: &Arc<dyn ObjectStore>,
    root: &Path,
    task: &str,
    node: &str,
    is_wanted: impl Fn(&StateRef, usize) -> bool,
) -> Result<Option<Vec<StatePart>>> {
    let reader = LogReader {
        store: LogStore::new(Arc::clone(store), Arc::new(SystemClock)),
        paths: Paths::new(root.clone(), task),
    };
    'rounds: for _ in 0..ROUNDS {
        let (_, last) = reader.last().await?;
        let Some(checkpoint) = last.as_ref().and_then(|last| last.checkpoint.as_ref()) else {
            return Ok(None);
        };
        let (store, paths) = (reader.store.clone(), reader.paths.clone());
        let state = StateStore::new(store, paths, 0, Arc::new(RandomIds));
        let mut parts = Vec::new();
        let lanes = checkpoint.lanes;
        let is_part = |part: &&StateRef| part.node == node && is_wanted(part, lanes);
        for part in checkpoint.state.iter().filter(is_part) {
            match state.load(part).await? {
                Loaded::Rows(rows) => parts.push(StatePart {
                    key: part.key.clone(),
                    rows,
                }),
                Loaded::Missing => continue 'rounds,
            }
        }
        return Ok(Some(parts));
    }
    Err(Error::external(format!(
        "the state of `{node}` is gone whenever it is to be read; commits come too fast"
    )))
}

/// The pipelines that have a log in a folder under `root`, the state URL's, in
/// the order of their names.
pub async fn pipelines(store: &Arc<dyn ObjectStore>, root: &Path) -> Result<Vec<String>> {
    let store = LogStore::new(Arc::clone(store), Arc::new(SystemClock));
    let mut found = Vec::new();
    for name in store.folders(root).await? {
        let folders = store.folders(&root.clone().join(name.as_str())).await?;
        if folders.iter().any(|folder| folder == paths::LOG) {
            found.push(name);
        }
    }
    found.sort();
    Ok(found)
}
