//! The owner's side of the log: the I/O of the protocol.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use object_store::{ObjectStore, path::Path};
use tracing::warn;

use super::{
    attempt::Attempt,
    claim::{Template, claim, look},
    decide::{self, CommitStep},
    delivery::Delivery,
    identity::LogId,
    outbox::{Committers, Outbox},
    owner::Owner,
    paths::Paths,
    presence::{self, Heartbeat, ProcessId},
    probe::probe,
    reader::LogReader,
    record::{ByPartition, Checkpoint, Kind, Reason, Record, StateRef},
    retained::Retained,
    slot::SlotWriter,
    state::{Loaded, StateStore},
    store::{LogStore, PutOutcome},
};
use crate::{
    Clock, Epoch, Error, ErrorKind, EventTime, Ids, Priority, Result,
    committer::Committable,
    ledger::Counts,
    source::{Positions, Systems},
    state::NewPart,
};

/// The location of a log, and the process that opens it.
#[derive(Clone)]
pub struct LogConfig {
    /// The store of the log. Its client must not retry: the protocol does, because only the
    /// protocol can distinguish its own write from another's.
    pub store: Arc<dyn ObjectStore>,
    /// The pipeline's folder: `<state>/<pipeline>`.
    pub root: Path,
    /// The task: `main` for a pipeline on one machine.
    pub task: String,
    /// This process.
    pub owner: Owner,
    /// The plan that it runs.
    pub plan: Plan,
    /// The number of commits to keep with their state, including the last one.
    pub keep_commits: usize,
    /// The generator of unique names.
    pub ids: Arc<dyn Ids>,
}

/// A resolved pipeline, without secrets.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Its name: a hash of `json`.
    pub hash: String,
    /// The stored bytes.
    pub json: Bytes,
}

/// The result of a claim.
#[derive(Debug, Clone)]
pub struct Recovered {
    /// The last checkpoint; `None` before the first commit.
    pub last: Option<Checkpoint>,
    /// The slot of this owner's claim.
    pub seq: u64,
    /// The previous owner of the task.
    pub predecessor: Option<Owner>,
}

/// The effects of an epoch, to be committed together.
#[derive(Debug, Clone)]
pub struct CommitRequest {
    /// The epoch that ends.
    pub epoch: Epoch,
    /// The reason of the commit.
    pub reason: Reason,
    /// The number of lanes that wrote the state.
    pub lanes: usize,
    /// The next offset to read, for every partition ever read.
    pub positions: BTreeMap<Arc<str>, Positions>,
    /// The systems that the positions belong to, by source.
    pub systems: BTreeMap<Arc<str>, Systems>,
    /// The watermarks by partition.
    pub watermarks: ByPartition<EventTime>,
    /// The bounded partitions that were read to their end, by source.
    pub finished: BTreeMap<Arc<str>, BTreeSet<Arc<str>>>,
    /// Every current state part, old and new.
    pub state: Vec<StateRef>,
    /// The fingerprint of each node with state.
    pub fingerprints: BTreeMap<String, String>,
    /// The output of the sinks: target → committables.
    pub outbox: BTreeMap<Arc<str>, Vec<Committable>>,
    /// The sources whose positions were dropped since the last commit.
    pub reset: BTreeSet<Arc<str>>,
    /// The outcomes of the rows of this epoch.
    pub counters: ByPartition<Counts>,
    /// The outcomes of all rows since the first commit, including this epoch.
    pub totals: Counts,
}

/// A durable commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// Its slot.
    pub seq: u64,
    /// The time of the decision.
    pub at: EventTime,
    /// The number of staged objects that it delivers.
    pub files: usize,
    /// The size of these objects in bytes.
    pub file_bytes: u64,
    /// Bytes of all state that it refers to.
    pub state_bytes: u64,
}

/// The log of a task, open for its owner.
///
/// **Failure.** After an error the log must be dropped and opened again: only the next read shows
/// whether a failed commit took effect.
pub struct CommitLog {
    /// The identity of the log.
    pub(super) id: LogId,
    pub(super) log: LogReader,
    outbox: Outbox,
    pub(super) states: StateStore,
    clock: Arc<dyn Clock>,
    template: Template,
    keep_commits: usize,
    /// This owner's last record.
    pub(super) tail: Record,
    /// Every commit up to here was delivered at the last look.
    published_upto: u64,
    /// The last commit, if it is that of a stop and its delivery is not marked.
    stop: Option<u64>,
    /// The commits in the log, oldest first.
    pub(super) retained: VecDeque<Retained>,
}

/// A log that was read and not claimed: its owner continues undisturbed.
pub struct Unclaimed {
    log: LogReader,
    outbox: Outbox,
    config: LogConfig,
    clock: Arc<dyn Clock>,
    last: Option<Record>,
}

impl Unclaimed {
    /// The last checkpoint; `None` before the first commit.
    pub fn checkpoint(&self) -> Option<&Checkpoint> {
        self.last.as_ref()?.checkpoint.as_ref()
    }

    /// The owner of the log; `None` if the log does not exist.
    pub fn owner(&self) -> Option<&Owner> {
        self.last.as_ref().map(|last| &last.owner)
    }

    /// Waits until the owner of the log is known to have ended; returns at once if there is none.
    /// Calls `say` if it must watch for signs of life.
    ///
    /// # Errors
    /// `Fenced` if the owner lives; `External` if the store fails.
    pub async fn wait_for_end(&self, me: &ProcessId, say: impl FnOnce(&Owner)) -> Result<()> {
        match &self.last {
            Some(last) => {
                presence::wait_for_end(&self.log, last, me, self.clock.as_ref(), say).await
            }
            None => Ok(()),
        }
    }

    /// The error that another process owns the log.
    pub fn fenced(&self) -> Option<Error> {
        self.last.as_ref().map(fenced)
    }

    /// Takes the task over: claims the log, delivers the commits of earlier owners and deletes their
    /// orphans.
    ///
    /// # Errors
    /// `Data` if the log or committed output is damaged; `Config` if a target belongs to another log
    /// by now; `External` if a store fails.
    pub async fn claim(self) -> Result<(CommitLog, Recovered)> {
        let Self {
            log,
            outbox,
            config,
            clock,
            ..
        } = self;
        let template = Template {
            owner: config.owner,
            plan_hash: config.plan.hash.clone(),
            ids: Arc::clone(&config.ids),
        };
        let (claim, predecessor) = claim(&log, &template, clock.as_ref()).await?;
        let id = log.identity(&claim).await?;
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
        outbox
            .open(&log, id, &claim, &commits, published_upto)
            .await?;
        let due = decide::to_deliver(commits.iter().map(|commit| commit.seq), published_upto);
        for commit in commits.iter().filter(|commit| due.contains(&commit.seq)) {
            outbox.push(commit)?;
        }
        let last = commits.last().filter(|commit| due.contains(&commit.seq));
        let mut opened = CommitLog {
            id,
            outbox,
            states: StateStore::new(log.store.clone(), log.paths.clone(), claim.seq, config.ids),
            log,
            clock,
            template,
            keep_commits: config.keep_commits.max(1),
            tail: claim,
            published_upto,
            stop: last.and_then(stop_of),
            retained: commits.iter().map(Retained::of).collect(),
        };
        match opened.deliver().await {
            Err(error) if error.is_retryable() => {
                warn!(
                    error = error.chain(),
                    "the delivery of earlier commits goes on later"
                );
            }
            delivered => delivered?,
        }
        let cleanings = [
            opened.collect().await,
            opened.delete_orphans().await,
            opened.outbox.sweep().await,
        ];
        for cleaned in cleanings {
            if let Err(error) = cleaned {
                warn!(error = error.chain(), "what earlier runs left behind stays");
            }
        }
        Ok((opened, recovered))
    }
}

impl CommitLog {
    /// Inspects the log: probes the store, reads the last record, and checks that the targets belong
    /// to this log. Does not claim it.
    ///
    /// # Errors
    /// `Config` if the store cannot hold a log, a newer Tagflow wrote the log, or a target belongs
    /// to another log; `Data` if the log is damaged; `External` if a store fails.
    pub async fn look(
        config: LogConfig,
        committers: Committers,
        clock: Arc<dyn Clock>,
    ) -> Result<Unclaimed> {
        let log = LogReader {
            store: LogStore::new(Arc::clone(&config.store), Arc::clone(&clock)),
            paths: Paths::new(config.root.clone(), config.task.clone()),
        };
        let outbox = Outbox::new(committers);
        probe(&log.store, &log.paths, config.ids.as_ref()).await?;
        let mut last = look(&log).await?;
        loop {
            let id = match &last {
                Some(last) => Some(log.identity(last).await?),
                None => None,
            };
            let checkpoint = last.as_ref().and_then(|last| last.checkpoint.as_ref());
            let checked = outbox.check(id, checkpoint, &log.location()).await;
            let Err(error) = checked else { break };
            // Another process may have created this log since it was read.
            let newer = look(&log).await?;
            let seq = |record: &Option<Record>| record.as_ref().map(|record| record.seq);
            if seq(&newer) == seq(&last) {
                return Err(error);
            }
            last = newer;
        }
        Ok(Unclaimed {
            log,
            outbox,
            config,
            clock,
            last,
        })
    }

    /// [Inspects](Self::look) and [claims](Unclaimed::claim) the log.
    ///
    /// # Errors
    /// Those of both.
    pub async fn open(
        config: LogConfig,
        committers: Committers,
        clock: Arc<dyn Clock>,
    ) -> Result<(Self, Recovered)> {
        Self::look(config, committers, clock).await?.claim().await
    }

    /// The first part of the log's identity, for file names.
    pub fn short_id(&self) -> Arc<str> {
        self.id.short().into()
    }

    /// Committables that withdraw everything that this log has delivered to a target. Delivers the
    /// rest before.
    ///
    /// # Errors
    /// `External` if the target fails.
    pub async fn withdraw(&self, target: &str) -> Result<Vec<Committable>> {
        self.outbox.withdraw(target).await
    }

    /// Writes signs of life for this owner.
    pub fn heartbeat(&self, process: ProcessId) -> Heartbeat {
        Heartbeat::new(self.log.clone(), self.tail.claim_seq, process)
    }

    /// Checks whether another process owns the log, for a job that failed.
    pub fn ownership(&self) -> Ownership {
        Ownership {
            log: self.log.clone(),
            claim_seq: self.tail.claim_seq,
        }
    }

    /// The staging folder of this owner's sinks, relative to a target's folder.
    pub fn staging(&self) -> Path {
        let staging = self.log.paths.staging(self.id);
        staging.join(self.tail.claim_seq.to_string())
    }

    /// The generator of this owner's unique names.
    pub fn ids(&self) -> Arc<dyn Ids> {
        Arc::clone(&self.template.ids)
    }

    /// Reads a state part, verified by its length and SHA-256.
    ///
    /// # Errors
    /// `Data` if the part is damaged or missing; `Fenced` if it is missing because another owner
    /// has committed.
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

    /// Stores a state part. It takes effect once a commit names it. `urgency` is called when the
    /// part is about to be encoded.
    pub async fn put_state(
        &self,
        node: &str,
        lane: usize,
        part: NewPart,
        urgency: impl Fn() -> Priority,
    ) -> Result<StateRef> {
        self.states.put(node, lane, part, urgency).await
    }

    /// Checks whether another process has claimed the log, for an owner that has nothing to commit.
    /// One request. If it fails, the result is unknown until the next check.
    ///
    /// # Errors
    /// `Fenced` if another process owns the log.
    pub async fn ensure_owned(&self) -> Result<()> {
        let next = self.tail.seq + 1;
        // A claim is written to the slot after the last one, and is never deleted.
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

    /// Commits an epoch: its positions, state, output and counts, all or none.
    ///
    /// # Errors
    /// `Fenced` if another process owns the log. `External` if the store keeps failing: then only
    /// the next owner will know whether the epoch took effect.
    pub async fn commit(&mut self, cut: CommitRequest) -> Result<Committed> {
        self.settle().await;
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
        let output = record.outbox.values().flatten();
        let staged = || output.clone().filter(|it| it.bytes > 0);
        let committed = Committed {
            seq: record.seq,
            at: record.at,
            files: staged().count(),
            file_bytes: staged().map(|it| it.bytes).sum(),
            state_bytes: record
                .checkpoint
                .iter()
                .flat_map(|checkpoint| &checkpoint.state)
                .map(|part| part.bytes)
                .sum(),
        };
        self.retained.push_back(Retained::of(&record));
        self.outbox.push(&record)?;
        self.stop = stop_of(&record);
        self.tail = record;
        Ok(committed)
    }

    /// Tries to deliver every undelivered commit, in order. May be repeated.
    ///
    /// # Errors
    /// Those of a committer; `Fenced` if another owner has delivered a commit and replaced its
    /// output.
    pub async fn deliver(&mut self) -> Result<()> {
        let delivered = self.outbox.deliver().await;
        self.settle().await;
        match delivered {
            Err(error) => Err(self.ownership().explain(error).await),
            Ok(()) => Ok(()),
        }
    }

    /// The deliveries of all targets. A caller that does not call [`deliver`](Self::deliver) runs
    /// each of them itself.
    pub fn deliveries(&self) -> Vec<Arc<Delivery>> {
        self.outbox.deliveries().map(Arc::clone).collect()
    }

    /// Notes which commits are delivered by now, for the next record.
    pub async fn settle(&mut self) {
        let pending = self.outbox.first_pending();
        let commits = self.retained.iter().map(|commit| commit.seq);
        let delivered = commits.filter(|seq| pending.is_none_or(|pending| *seq < pending));
        self.published_upto = self.published_upto.max(delivered.max().unwrap_or(0));
        if let Some(stop) = self.stop.take_if(|stop| *stop <= self.published_upto) {
            self.mark_stop(stop).await;
        }
    }

    /// Marks that a stop is delivered. Without the mark, the next owner would need these targets
    /// again, but its pipeline may no longer have them.
    async fn mark_stop(&self, seq: u64) {
        let mark = self.log.paths.published(seq);
        if let Err(error) = self.log.store.put(&mark, Bytes::new()).await {
            warn!(error = error.chain(), "the next run will deliver again");
        }
    }

    /// The record that commits `cut`.
    fn draft(&self, cut: CommitRequest) -> Result<Record> {
        let seq = self.tail.seq + 1;
        let attempt = Attempt::unique(self.template.ids.as_ref());
        let at = self.clock.now();
        let mut commits: Vec<u64> = self.retained.iter().map(|commit| commit.seq).collect();
        commits.push(seq);
        let last = self.tail.checkpoint.as_ref();
        let draft = self.outbox.seal(seq, attempt, at, last, cut.outbox)?;
        let checkpoint = Some(Checkpoint {
            seq,
            at,
            epoch: cut.epoch,
            reason: cut.reason,
            lanes: cut.lanes,
            positions: cut.positions,
            systems: cut.systems,
            watermarks: cut.watermarks,
            finished: cut.finished,
            state: cut.state,
            fingerprints: cut.fingerprints,
            totals: cut.totals,
            notes: draft.notes,
        });
        Ok(Record {
            kind: Kind::Commit,
            attempt,
            claim_seq: self.tail.claim_seq,
            checkpoint,
            follows: None,
            outbox: draft.outbox,
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

    /// The reason why a commit found another record in its slot.
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

/// The slot of a commit if it is that of a stop.
fn stop_of(commit: &Record) -> Option<u64> {
    let reason = commit.checkpoint.as_ref().map(|it| it.reason);
    (reason == Some(Reason::Stop)).then_some(commit.seq)
}

/// The last delivered commit, according to the log or to a stop's mark. `claim` is the last record,
/// with the current checkpoint.
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

/// Checks whether a claim is still the last one.
pub struct Ownership {
    log: LogReader,
    claim_seq: u64,
}

impl Ownership {
    /// The error that names the current owner of the log; `None` if the claim holds or if the store
    /// does not answer.
    pub async fn lost(&self) -> Option<Error> {
        let (_, last) = self.log.tail().await.ok()?;
        last.filter(|last| last.claim_seq > self.claim_seq)
            .map(|last| fenced(&last))
    }

    /// The cause of a failed delivery. A newer owner may have published and replaced a file, which
    /// is then missing.
    pub async fn explain(&self, error: Error) -> Error {
        if error.kind() != ErrorKind::Data {
            return error;
        }
        match self.log.tail().await {
            Ok((_, Some(last))) if last.claim_seq > self.claim_seq => fenced(&last),
            Ok(_) => error,
            Err(unknown) => unknown,
        }
    }
}

/// The reason why objects that `tail` refers to may be missing: another owner has committed and
/// collected them. `None` if there is no other owner.
async fn superseded(log: &LogReader, tail: &Record) -> Result<Option<Error>> {
    let (_, last) = log.tail().await?;
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
