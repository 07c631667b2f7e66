//! Reads a log: its slots, its records, its commits.

use std::{collections::BTreeSet, sync::Arc};

use object_store::{ObjectStore, path::Path};

use super::{
    identity::LogId,
    paths::{self, Paths},
    record::{Kind, Record, StateRef},
    state::{Loaded, StateStore},
    store::LogStore,
};
use crate::{Error, RandomIds, Result, SystemClock, state::StatePart};

/// How often a listing is repeated if its last record was collected before it is read.
const ROUNDS: usize = 16;

/// The records of a task.
#[derive(Clone)]
pub(crate) struct LogReader {
    pub(crate) store: LogStore,
    pub(crate) paths: Paths,
}

impl LogReader {
    /// The pipeline's folder, for messages.
    pub(super) fn location(&self) -> String {
        self.store.location(self.paths.root())
    }

    /// The identity of the log whose last record is `last`.
    pub(super) async fn identity(&self, last: &Record) -> Result<LogId> {
        if last.seq == 1 {
            return Ok(LogId::of(last.attempt));
        }
        match self.read(1).await? {
            Some(first) => Ok(LogId::of(first.attempt)),
            None => Err(self.broken(1, "is missing, and claims are never deleted")),
        }
    }

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

    /// The slots in use, and the last record with the current checkpoint.
    pub(super) async fn last(&self) -> Result<(BTreeSet<u64>, Option<Record>)> {
        let mut wrong = Error::internal("a log is read at least once");
        for _ in 0..ROUNDS {
            let (slots, tail) = self.tail().await?;
            let unresolved = |tail: &Record| tail.follows.filter(|_| tail.checkpoint.is_none());
            let Some(seq) = tail.as_ref().and_then(unresolved) else {
                return Ok((slots, tail));
            };
            // The owner may have collected this commit since the log was listed.
            wrong = match self.read(seq).await? {
                Some(commit) if commit.kind == Kind::Commit => {
                    let resolve = |tail| Record {
                        checkpoint: commit.checkpoint,
                        ..tail
                    };
                    return Ok((slots, tail.map(resolve)));
                }
                Some(_) => self.broken(seq, "is not the commit it should be"),
                None => self.broken(seq, "is missing"),
            };
        }
        Err(wrong)
    }

    /// The slots in use, and the record in the last one as it is stored.
    pub(super) async fn tail(&self) -> Result<(BTreeSet<u64>, Option<Record>)> {
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

    /// Every commit in the log up to `tail`, oldest first.
    ///
    /// The search runs from the last to the first, and skips the claims of owners that never
    /// committed: a claim names the commit before it, and an owner's commits follow
    /// its claim without a gap.
    pub(super) async fn commits(&self, tail: &Record) -> Result<Vec<Record>> {
        let mut commits = Vec::new();
        let mut newer = tail.clone();
        let mut cursor = tail.last_commit().unwrap_or(0);
        while cursor > 0 {
            let record = if cursor == tail.seq {
                Some(tail.clone())
            } else {
                self.read(cursor).await?
            };
            let collected = cursor <= tail.collected_upto;
            let commit = match record {
                Some(record) if record.kind == Kind::Commit => record,
                // Collection begins with the oldest.
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
                let before = claim.last_commit().unwrap_or(0);
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

    /// Checks that two neighbours were written one after the other.
    fn check_link(&self, newer: &Record, older: &Record) -> Result<()> {
        if newer.seq == older.seq + 1 && newer.previous != Some(older.attempt) {
            return Err(self.broken(
                older.seq,
                "is not the one that its successor was written to",
            ));
        }
        Ok(())
    }

    /// The error for a log that no crash can cause.
    pub(super) fn broken(&self, seq: u64, what: &str) -> Error {
        Error::data(format!(
            "the commit log is damaged: record `{}` {what}; restore the state folder from a backup, or move it away together with the output to start anew",
            self.paths.record(seq)
        ))
    }
}

/// The last record of a task's log, with the current checkpoint; `None` if there is no log.
/// Read-only, for `status` and `query`.
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

/// The state of `node` at a task's last commit; `None` if there is no commit. Reads only the parts
/// that `is_wanted` selects; its argument is the number of lanes of the job. Read-only: a running
/// owner may collect a part meanwhile, and then there is a newer commit to read.
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

/// The pipelines that have a log in a folder under `root`, the state URL's, sorted by name.
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
