//! From the parts of a cut to a commit.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use futures::{StreamExt, TryStreamExt, stream};
use tokio::task::JoinHandle;

use super::{balance, report::Cut};
use crate::{
    Clock, Epoch, Error, EventTime, Result, Urgency,
    commit::{self, Checkpoint, CommitLog, Committed, Reason, StateRef},
    element::{Barrier, BarrierKind},
    ledger::{Counts, Ledger},
    sink::{RemovedFile, StagedFile},
    source::{PartitionId, Positions},
    state::{NewPart, Snapshot},
};

/// How many state parts are written at once; each is in memory, encoded.
const CONCURRENT_PUTS: usize = 4;

/// An epoch whose barrier is on its way.
pub(super) struct Pending {
    barrier: Barrier,
    missing: usize,
    cuts: Vec<Cut>,
    pub(super) begun: EventTime,
}

impl Pending {
    /// Of a job with `parts` tasks that hand something over.
    pub(super) fn new(barrier: Barrier, parts: usize, begun: EventTime) -> Self {
        Self {
            barrier,
            missing: parts,
            cuts: Vec::with_capacity(parts),
            begun,
        }
    }

    /// Which epoch ends, and how.
    pub(super) fn barrier(&self) -> Barrier {
        self.barrier
    }

    /// Takes one task's part.
    pub(super) fn add(&mut self, cut: Cut) {
        self.missing = self.missing.saturating_sub(1);
        self.cuts.push(cut);
    }

    /// Whether every task has handed over its part.
    pub(super) fn is_complete(&self) -> bool {
        self.missing == 0
    }
}

/// A state part's identity.
type PartKey = (String, usize, String);

/// Writes commits, one after another, beside the running job.
pub(super) struct Checkpointer {
    log: Option<CommitLog>,
    work: Work,
    clock: Arc<dyn Clock>,
    lanes: usize,
    epoch: Epoch,
    fingerprints: BTreeMap<String, String>,
    state: BTreeMap<PartKey, StateRef>,
    positions: BTreeMap<Arc<str>, Positions>,
    watermarks: commit::ByPartition<EventTime>,
    totals: Counts,
    /// The sources whose positions were dropped, until a commit says so.
    reset: BTreeSet<Arc<str>>,
    last: Option<Committed>,
}

/// What it is doing.
enum Work {
    Nothing,
    /// A commit, or a look at the log where the epoch changed nothing.
    Writing(JoinHandle<(CommitLog, Result<Option<Written>>)>),
}

/// What a commit changed.
struct Written {
    committed: Done,
    state: BTreeMap<PartKey, StateRef>,
}

/// A commit with its cost.
#[derive(Debug, Clone)]
pub(super) struct Done {
    pub(super) committed: Committed,
    /// Bytes in memory of the state that it wrote.
    pub(super) state_put_bytes: u64,
    /// Bytes of state that it wrote.
    pub(super) state_written_bytes: u64,
    /// Milliseconds from the barrier to here.
    pub(super) took_ms: u64,
}

/// The parts of all tasks, put together.
#[derive(Default)]
struct Epilogue {
    positions: BTreeMap<Arc<str>, Positions>,
    watermarks: commit::ByPartition<EventTime>,
    read: BTreeMap<Arc<PartitionId>, u64>,
    ledger: Ledger,
    files: Vec<StagedFile>,
    removed: Vec<RemovedFile>,
    snapshots: Vec<(Arc<str>, usize, Snapshot)>,
}

impl Checkpointer {
    /// Goes on after `last`, with `state` in force.
    pub(super) fn new(
        log: CommitLog,
        clock: Arc<dyn Clock>,
        lanes: usize,
        fingerprints: BTreeMap<String, String>,
        last: Option<&Checkpoint>,
        reset: &BTreeSet<String>,
        state: Vec<StateRef>,
    ) -> Self {
        let keep = |source: &Arc<str>| !reset.contains(source.as_ref());
        let mut positions = last.map(|last| last.positions.clone()).unwrap_or_default();
        let dropped = positions.extract_if(.., |source, _| !keep(source));
        let dropped = dropped.map(|(source, _)| source).collect();
        let mut watermarks = last.map(|last| last.watermarks.clone()).unwrap_or_default();
        watermarks.retain(|source, _| keep(source));
        Self {
            log: Some(log),
            work: Work::Nothing,
            clock,
            lanes,
            epoch: last.map_or(Epoch(0), |last| last.epoch),
            fingerprints,
            state: state.into_iter().map(|part| (key(&part), part)).collect(),
            positions,
            watermarks,
            totals: last.map(|last| last.totals).unwrap_or_default(),
            reset: dropped,
            last: None,
        }
    }

    /// The epoch that the next barrier ends.
    pub(super) fn next_epoch(&mut self) -> Epoch {
        self.epoch = self.epoch.next();
        self.epoch
    }

    /// Whether a commit is under way or its end has not been looked at.
    pub(super) fn is_busy(&self) -> bool {
        !matches!(self.work, Work::Nothing)
    }

    /// The rows' fates since the first commit.
    pub(super) fn totals(&self) -> Counts {
        self.totals
    }

    /// The last commit of this run.
    pub(super) fn last(&self) -> Option<&Committed> {
        self.last.as_ref()
    }

    /// The committed positions, by source.
    pub(super) fn positions(&self) -> &BTreeMap<Arc<str>, Positions> {
        &self.positions
    }

    /// Begins to commit a complete cut.
    ///
    /// # Errors
    /// `Internal` where its rows do not balance.
    pub(super) fn begin(&mut self, pending: Pending) -> Result<()> {
        let Pending {
            barrier: Barrier { epoch, kind, .. },
            cuts,
            begun,
            ..
        } = pending;
        let epilogue = Epilogue::of(cuts);
        balance::check(&epilogue.read, &epilogue.ledger)?;
        let mut watermarks = self.watermarks.clone();
        merge(&mut watermarks, epilogue.watermarks);
        let mut positions = self.positions.clone();
        merge(&mut positions, epilogue.positions);
        let unchanged = epilogue.files.is_empty()
            && epilogue.removed.is_empty()
            && epilogue.snapshots.is_empty()
            && positions == self.positions
            && epilogue.ledger.iter().next().is_none();
        let log = self
            .log
            .take()
            .ok_or_else(|| Error::internal("two commits at once"))?;
        if unchanged && kind != BarrierKind::Stop {
            self.work = Work::Writing(tokio::spawn(look(log)));
            return Ok(());
        }

        let mut totals = self.totals;
        epilogue
            .ledger
            .iter()
            .for_each(|(_, counts)| totals += *counts);
        let mut state = self.state.clone();
        let mut put = Vec::new();
        for (node, lane, snapshot) in epilogue.snapshots {
            for removed in snapshot.removed {
                state.remove(&(node.to_string(), lane, removed));
            }
            put.extend(
                snapshot
                    .put
                    .into_iter()
                    .map(|part| (Arc::clone(&node), lane, part)),
            );
        }
        let cut = commit::Cut {
            epoch,
            reason: Reason::from(kind),
            lanes: self.lanes,
            positions: positions.clone(),
            watermarks: watermarks.clone(),
            finished: BTreeMap::new(),
            state: Vec::new(),
            fingerprints: self.fingerprints.clone(),
            files: epilogue.files,
            removed: epilogue.removed,
            reset: std::mem::take(&mut self.reset),
            counters: commit::counts(&epilogue.ledger),
            totals,
        };
        self.positions = positions;
        self.watermarks = watermarks;
        self.totals = totals;
        let clock = Arc::clone(&self.clock);
        self.work = Work::Writing(tokio::spawn(write(log, cut, state, put, begun, clock)));
        Ok(())
    }

    /// Waits for the commit under way; never returns when there is none.
    /// `None` if there was nothing to commit. Cancel-safe.
    pub(super) async fn finished(&mut self) -> Result<Option<Done>> {
        match &mut self.work {
            Work::Nothing => std::future::pending().await,
            Work::Writing(task) => {
                let ended = task.await;
                self.work = Work::Nothing;
                let (log, written) = ended
                    .map_err(|error| Error::internal("a commit panicked").with_source(error))?;
                self.log = Some(log);
                let Some(written) = written? else {
                    return Ok(None);
                };
                self.state = written.state;
                self.last = Some(written.committed.committed.clone());
                Ok(Some(written.committed))
            }
        }
    }
}

/// Commits nothing, but sees whether it could.
async fn look(log: CommitLog) -> (CommitLog, Result<Option<Written>>) {
    let owned = log.ensure_owned().await;
    (log, owned.map(|()| None))
}

/// Stores what is new, commits, publishes, collects.
async fn write(
    mut log: CommitLog,
    mut cut: commit::Cut,
    mut state: BTreeMap<PartKey, StateRef>,
    put: Vec<(Arc<str>, usize, NewPart)>,
    begun: EventTime,
    clock: Arc<dyn Clock>,
) -> (CommitLog, Result<Option<Written>>) {
    let written = async {
        let log_ref = &log;
        let urgency = || Urgency::of_commit(begun, clock.now());
        let urgency = &urgency;
        let state_put_bytes = bytes_of(&put);
        let store = |(node, lane, part): (Arc<str>, usize, NewPart)| async move {
            log_ref.put_state(&node, lane, part, urgency).await
        };
        let new: Vec<StateRef> = stream::iter(put.into_iter().map(store))
            .buffer_unordered(CONCURRENT_PUTS)
            .try_collect()
            .await?;
        let state_written_bytes = new.iter().map(|part| part.bytes).sum();
        state.extend(new.into_iter().map(|part| (key(&part), part)));
        cut.state = state.values().cloned().collect();
        let committed = log.commit(cut).await?;
        let took = clock.now().since(begun);
        log.publish().await?;
        log.collect().await?;
        let committed = Done {
            committed,
            state_put_bytes,
            state_written_bytes,
            took_ms: took.as_millis() as u64,
        };
        Ok(Some(Written { committed, state }))
    };
    let written = written.await;
    (log, written)
}

/// What parts take in memory while they are written: those whose rows are made later, few
/// at a time.
fn bytes_of(put: &[(Arc<str>, usize, NewPart)]) -> u64 {
    let parts = put.iter().map(|(.., part)| part);
    let (here, later): (Vec<_>, Vec<_>) = parts.partition(|part| part.is_here());
    let mut later: Vec<u64> = later.into_iter().map(NewPart::bytes).collect();
    later.sort_unstable_by_key(|bytes| Reverse(*bytes));
    later.truncate(CONCURRENT_PUTS);
    later
        .into_iter()
        .chain(here.into_iter().map(NewPart::bytes))
        .sum()
}

impl Epilogue {
    fn of(cuts: Vec<Cut>) -> Self {
        let mut all = Self::default();
        for cut in cuts {
            match cut {
                Cut::Reader {
                    source,
                    positions,
                    rows,
                } => {
                    all.positions.insert(source, positions);
                    all.read.extend(rows);
                }
                Cut::Lane {
                    lane,
                    snapshots,
                    ledger,
                    watermarks,
                } => {
                    let with_lane = |(node, snapshot)| (node, lane, snapshot);
                    all.snapshots.extend(snapshots.into_iter().map(with_lane));
                    all.ledger.merge(&ledger);
                    for (id, watermark) in watermarks {
                        all.watermarks
                            .entry(Arc::clone(&id.source))
                            .or_default()
                            .insert(Arc::clone(&id.partition), watermark);
                    }
                }
                Cut::Writer {
                    node,
                    lane,
                    files,
                    removed,
                    snapshot,
                    ledger,
                } => {
                    all.files.extend(files);
                    all.removed.extend(removed);
                    if !snapshot.is_empty() {
                        all.snapshots.push((node, lane, snapshot));
                    }
                    all.ledger.merge(&ledger);
                }
            }
        }
        all
    }
}

fn key(part: &StateRef) -> PartKey {
    (part.node.clone(), part.lane, part.key.clone())
}

fn merge<T>(into: &mut commit::ByPartition<T>, from: commit::ByPartition<T>) {
    for (source, partitions) in from {
        into.entry(source).or_default().extend(partitions);
    }
}
