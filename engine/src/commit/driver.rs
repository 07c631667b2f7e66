//! The owner's side of the log: the protocol's I/O.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use object_store::{ObjectStore, path::Path};
use tracing::warn;

use super::{
    claim::{Template, claim},
    decide::{self, CommitStep},
    gc::Retained,
    paths::Paths,
    probe::probe,
    publish::Publisher,
    reader::LogReader,
    record::{
        Attempt, ByPartition, Checkpoint, FileRef, Kind, Owner, Reason, Record, StateRef,
        TableTotals,
    },
    slot::SlotWriter,
    state::{Loaded, StateStore},
    store::{LogStore, PutOutcome},
};
use crate::{
    Clock, Epoch, Error, ErrorKind, EventTime, Ids, Result, Urgency,
    ledger::Counts,
    sink::{RemovedFile, StagedFile, Table},
    source::Positions,
    state::NewPart,
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
    /// How many commits to keep with their state, the last one among them.
    pub keep_commits: usize,
    /// Where unique names come from.
    pub ids: Arc<dyn Ids>,
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
    /// The files of earlier commits that go then.
    pub removed: Vec<RemovedFile>,
    /// The sources whose positions were dropped since the last commit.
    pub reset: BTreeSet<Arc<str>>,
    /// What became of the rows of this epoch.
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
///
/// **Failure.** After an error the log is to be dropped and opened anew: what
/// became of a commit that failed is known only to the next reading.
pub struct CommitLog {
    pub(super) log: LogReader,
    pub(super) tables: Publisher,
    pub(super) states: StateStore,
    clock: Arc<dyn Clock>,
    template: Template,
    keep_commits: usize,
    /// This owner's last record.
    pub(super) tail: Record,
    /// Every commit up to here has been published.
    published_upto: u64,
    /// The commits after that, oldest first.
    pub(super) unpublished: VecDeque<Record>,
    /// The commits in the log, oldest first.
    pub(super) retained: VecDeque<Retained>,
}

impl CommitLog {
    /// Takes the task over: probes the store, claims the log, publishes what
    /// earlier owners committed, deletes what they left behind.
    ///
    /// # Errors
    /// `Config` where the store cannot hold a log, or a newer Tagflow wrote it;
    /// `Data` where the log, or a committed file, is damaged; `External` where
    /// the store fails.
    pub async fn open(
        config: LogConfig,
        tables: Vec<Table>,
        clock: Arc<dyn Clock>,
    ) -> Result<(Self, Recovered)> {
        let log = LogReader {
            store: LogStore::new(Arc::clone(&config.store), Arc::clone(&clock)),
            paths: Paths::new(config.root, config.task),
        };
        probe(&log.store, &log.paths, config.ids.as_ref()).await?;
        let template = Template {
            owner: config.owner,
            plan_hash: config.plan.hash.clone(),
            ids: Arc::clone(&config.ids),
        };
        let (claim, predecessor) = claim(&log, &template, clock.as_ref()).await?;
        ensure_plan(&log, &config.plan).await?;
        let recovered = Recovered {
            last: claim.checkpoint.clone(),
            seq: claim.seq,
            predecessor,
        };
        let commits = match log.commits(&claim).await {
            Ok(commits) => commits,
            Err(error) => return Err(superseded(&log, &claim).await?.unwrap_or(error)),
        };
        let published_upto = published_upto(&log, &claim).await?;
        let due = decide::to_publish(commits.iter().map(|commit| commit.seq), published_upto);
        let replaced: Vec<RemovedFile> = commits
            .iter()
            .flat_map(|commit| commit.removed.clone())
            .collect();
        let mut opened = Self {
            tables: Publisher::new(tables, &log.paths, &clock),
            states: StateStore::new(log.store.clone(), log.paths.clone(), claim.seq, config.ids),
            log,
            clock,
            template,
            keep_commits: config.keep_commits.max(1),
            tail: claim,
            published_upto,
            retained: commits.iter().map(Retained::of).collect(),
            unpublished: commits
                .into_iter()
                .filter(|commit| due.contains(&commit.seq))
                .collect(),
        };
        opened.publish().await?;
        let cleanings = [
            opened.collect().await,
            opened.delete_orphans().await,
            opened.tables.remove(&replaced).await,
        ];
        for cleaned in cleanings {
            if let Err(error) = cleaned {
                warn!(error = error.chain(), "what earlier runs left behind stays");
            }
        }
        Ok((opened, recovered))
    }

    /// Where this owner's sinks stage files, from a table's folder.
    pub fn staging(&self) -> Path {
        self.tables.staging(self.tail.claim_seq)
    }

    /// Where this owner's unique names come from.
    pub fn ids(&self) -> Arc<dyn Ids> {
        Arc::clone(&self.template.ids)
    }

    /// Reads a state part back, verified by its length and SHA-256.
    ///
    /// # Errors
    /// `Data` where the part is damaged or missing; `Fenced` where it is
    /// missing because another owner has gone on.
    pub async fn load(&self, part: &StateRef) -> Result<RecordBatch> {
        match self.states.load(part).await? {
            Loaded::Rows(rows) => Ok(rows),
            Loaded::Missing => {
                let superseded = superseded(&self.log, &self.tail).await?;
                Err(superseded.unwrap_or_else(|| Error::data(format!(
                    "state part `{}` of `{}`, which the last commit names, is missing; restore it from a backup of the state folder",
                    self.log.paths.absolute(&part.path),
                    part.node
                ))))
            }
        }
    }

    /// Stores a state part; it counts once a commit names it. `urgency` is asked for when
    /// its turn has come to be encoded.
    pub async fn put_state(
        &self,
        node: &str,
        lane: usize,
        part: NewPart,
        urgency: impl Fn() -> Urgency,
    ) -> Result<StateRef> {
        self.states.put(node, lane, part, urgency).await
    }

    /// Sees whether another process has taken the log over: for an owner that has
    /// nothing to commit, and would not learn it otherwise. One request; where it
    /// fails, nothing is known, and the next look will tell.
    ///
    /// # Errors
    /// `Fenced` where another process owns the log.
    pub async fn ensure_owned(&self) -> Result<()> {
        let next = self.tail.seq + 1;
        // A claim is written to the slot after the last, and claims stay for ever.
        if !self
            .log
            .store
            .seems_to_have(&self.log.paths.record(next))
            .await
        {
            return Ok(());
        }
        match self.log.read(next).await? {
            Some(other) => Err(self.refused(Some(other))),
            None => Ok(()),
        }
    }

    /// Makes an epoch take effect: its positions, its state, its files, its
    /// counts, all or none.
    ///
    /// # Errors
    /// `Fenced` where another process owns the log; `External` where the store
    /// fails for long: then only the next owner will know if it took effect.
    pub async fn commit(&mut self, cut: Cut) -> Result<Committed> {
        let record = self.draft(cut)?;
        let bytes = record.encode()?;
        let mut writing = SlotWriter::new(&self.log, &record, bytes);
        let mut step = CommitStep::Put;
        loop {
            step = match step {
                CommitStep::Put => decide::after_commit_put(writing.put().await),
                CommitStep::ReadBack => decide::after_commit_read_back(writing.read_back().await?),
                CommitStep::Committed => break,
                CommitStep::Fenced => return Err(self.refused(writing.found)),
            };
        }
        let committed = Committed {
            seq: record.seq,
            at: record.at,
            files: record.files.len(),
            file_bytes: record.files.iter().map(|file| file.bytes).sum(),
            state_bytes: record
                .checkpoint
                .iter()
                .flat_map(|checkpoint| &checkpoint.state)
                .map(|part| part.bytes)
                .sum(),
        };
        self.retained.push_back(Retained::of(&record));
        self.unpublished.push_back(record.clone());
        self.tail = record;
        Ok(committed)
    }

    /// Makes the files of every commit visible that are not yet, and deletes
    /// those that they replace. May be repeated.
    pub async fn publish(&mut self) -> Result<()> {
        let Some(last) = self.unpublished.back() else {
            return Ok(());
        };
        match self.tables.publish(&self.unpublished).await {
            // A newer owner may have published and replaced a file.
            Err(error) if error.kind() == ErrorKind::Data => {
                return Err(superseded(&self.log, &self.tail).await?.unwrap_or(error));
            }
            published => published?,
        }
        self.published_upto = last.seq;
        let stopped = last
            .checkpoint
            .as_ref()
            .is_some_and(|checkpoint| checkpoint.reason == Reason::Stop);
        if stopped {
            // Without it the next owner would need these tables again, and it
            // may run a pipeline that does not have them any more.
            let mark = self.log.paths.published(last.seq);
            if let Err(error) = self.log.store.put(&mark, Bytes::new()).await {
                warn!(error = error.chain(), "the next run will publish again");
            }
        }
        self.unpublished.clear();
        Ok(())
    }

    /// The record that commits `cut`.
    fn draft(&self, cut: Cut) -> Result<Record> {
        let seq = self.tail.seq + 1;
        let attempt = Attempt::unique(self.template.ids.as_ref());
        let at = self.clock.now();
        let mut commits: Vec<u64> = self.retained.iter().map(|commit| commit.seq).collect();
        commits.push(seq);
        let files = self.tables.name(cut.files, seq, attempt)?;
        let tables = table_totals(self.tail.checkpoint.as_ref(), &files, &cut.removed);
        Ok(Record {
            kind: Kind::Commit,
            attempt,
            claim_seq: self.tail.claim_seq,
            checkpoint: Some(Checkpoint {
                seq,
                at,
                epoch: cut.epoch,
                reason: cut.reason,
                lanes: cut.lanes,
                positions: cut.positions,
                watermarks: cut.watermarks,
                finished: cut.finished,
                state: cut.state,
                fingerprints: cut.fingerprints,
                totals: cut.totals,
                tables,
            }),
            files,
            removed: cut.removed,
            reset: cut.reset,
            counters: cut.counters,
            published_upto: self.published_upto,
            collected_upto: decide::collect_bound(
                &commits,
                self.published_upto,
                self.tail.collected_upto,
                self.keep_commits,
            ),
            ..self.template.claim(seq, Some(&self.tail), at)
        })
    }

    /// Why a commit met another record in its slot.
    fn refused(&self, by: Option<Record>) -> Error {
        match by {
            Some(other) if other.claim_seq == self.tail.claim_seq => Error::external(format!(
                "an earlier try of commit #{} took effect after it had failed; the last commit must be read again",
                other.seq
            )),
            Some(other) => fenced(&other),
            None => Error::internal("a commit was refused by an empty slot"),
        }
    }
}

/// What is in each table after a commit that follows `last`.
pub(super) fn table_totals(
    last: Option<&Checkpoint>,
    files: &[FileRef],
    removed: &[RemovedFile],
) -> Option<BTreeMap<Arc<str>, TableTotals>> {
    let mut tables = match last {
        Some(last) => last.tables.clone()?,
        None => BTreeMap::new(),
    };
    for file in files {
        let table = tables.entry(Arc::clone(&file.table)).or_default();
        table.files += 1;
        table.rows += file.rows;
        table.bytes += file.bytes;
        if let Some(sets) = &mut table.sets {
            sets.add(file);
        }
    }
    for file in removed {
        let table = tables.entry(Arc::clone(&file.table)).or_default();
        table.removed += 1;
        table.sets = None;
    }
    Some(tables)
}

/// Up to where commits are published, as the log or a stop's mark says. `claim`
/// is the last record, or repeats its checkpoint.
pub(super) async fn published_upto(log: &LogReader, claim: &Record) -> Result<u64> {
    if let Some(last) = &claim.checkpoint
        && last.reason == Reason::Stop
        && last.seq > claim.published_upto
        && log
            .store
            .size(&log.paths.published(last.seq))
            .await?
            .is_some()
    {
        return Ok(last.seq);
    }
    Ok(claim.published_upto)
}

/// Stores the plan, if it is new.
async fn ensure_plan(log: &LogReader, plan: &Plan) -> Result<()> {
    let path = log.paths.plan(&plan.hash);
    let mut backoff = log.store.backoff();
    while log.store.size(&path).await?.is_none() {
        match log.store.put_if_absent(&path, plan.json.clone()).await {
            PutOutcome::Created => break,
            PutOutcome::Exists => backoff.after_nothing("create", &path).await?,
            PutOutcome::Ambiguous(error) => backoff.after("create", &path, error).await?,
        }
    }
    Ok(())
}

/// Why what `tail` rests on may be gone: another owner has gone on and collected
/// it. None where nobody has.
async fn superseded(log: &LogReader, tail: &Record) -> Result<Option<Error>> {
    let (_, last) = log.last().await?;
    Ok(last
        .filter(|last| last.seq > tail.seq)
        .map(|last| fenced(&last)))
}

fn fenced(by: &Record) -> Error {
    Error::fenced(format!(
        "another process (host `{}`, pid {}) took the pipeline over at #{}; this one stops, and nothing is lost or doubled",
        by.owner.host, by.owner.pid, by.claim_seq
    ))
}
