//! Writes a commit from the results of all tasks at a barrier.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use futures::{StreamExt, TryStreamExt, stream};
use tokio::task::JoinHandle;

use super::{
    balance, deliveries::Deliveries, job_config::JobConfig, restore, task_event::CheckpointAck,
};
use crate::{
    Clock, Epoch, Error, EventTime, Priority, Result, Uptime,
    commit::{self, Checkpoint, CommitLog, Committed, Reason, StateRef},
    committer::Committable,
    element::{Barrier, BarrierKind},
    graph::Graph,
    ledger::{Counts, Ledger},
    source::{PartitionId, Positions, Systems},
    state::{NewPart, Snapshot},
};

/// The number of state parts to write at the same time. Each one is in memory, encoded.
const CONCURRENT_PUTS: usize = 4;

/// An epoch whose barrier is under way.
pub(super) struct PendingCheckpoint {
    barrier: Barrier,
    missing: usize,
    cuts: Vec<CheckpointAck>,
    pub(super) begun: Uptime,
}

impl PendingCheckpoint {
    /// An epoch of a job in which `parts` tasks each send a result.
    pub(super) fn new(barrier: Barrier, parts: usize, begun: Uptime) -> Self {
        Self {
            barrier,
            missing: parts,
            cuts: Vec::with_capacity(parts),
            begun,
        }
    }

    /// The barrier that ends the epoch.
    pub(super) fn barrier(&self) -> Barrier {
        self.barrier
    }

    /// Adds the result of a task.
    pub(super) fn add(&mut self, cut: CheckpointAck) {
        self.missing = self.missing.saturating_sub(1);
        self.cuts.push(cut);
    }

    /// Whether every task has sent its result.
    pub(super) fn is_complete(&self) -> bool {
        self.missing == 0
    }
}

/// The output of an epoch: target → committables.
pub(super) type Output = BTreeMap<Arc<str>, Vec<Committable>>;

/// The identity of a state part.
type PartKey = (String, usize, String);

/// Writes commits, one after another, beside the running job.
pub(super) struct CheckpointCoordinator {
    log: Option<CommitLog>,
    deliveries: Deliveries,
    work: Work,
    clock: Arc<dyn Clock>,
    lanes: usize,
    epoch: Epoch,
    fingerprints: BTreeMap<String, String>,
    state: BTreeMap<PartKey, StateRef>,
    positions: BTreeMap<Arc<str>, Positions>,
    systems: BTreeMap<Arc<str>, Systems>,
    watermarks: commit::ByPartition<EventTime>,
    totals: Counts,
    /// The sources whose positions were dropped, until a commit records that.
    reset: BTreeSet<Arc<str>>,
    /// Withdrawals of output whose rows are read again, until a commit contains them.
    withdrawn: Output,
    last: Option<Committed>,
}

/// The current work.
enum Work {
    Nothing,
    /// A commit, or a check of the log if the epoch changed nothing.
    Writing(JoinHandle<(CommitLog, Result<Option<StoredState>>)>),
}

/// The changes of a commit.
struct StoredState {
    committed: CompletedCheckpoint,
    state: BTreeMap<PartKey, StateRef>,
}

/// A commit with its cost.
#[derive(Debug, Clone)]
pub(super) struct CompletedCheckpoint {
    pub(super) committed: Committed,
    /// Bytes of memory for the state that it wrote.
    pub(super) state_put_bytes: u64,
    /// Bytes of state that it wrote.
    pub(super) state_written_bytes: u64,
    /// Milliseconds from the barrier to the commit.
    pub(super) took_ms: u64,
}

/// The combined results of all tasks.
#[derive(Default)]
struct CollectedAcks {
    positions: BTreeMap<Arc<str>, Positions>,
    systems: BTreeMap<Arc<str>, Systems>,
    watermarks: commit::ByPartition<EventTime>,
    read: BTreeMap<Arc<PartitionId>, u64>,
    ledger: Ledger,
    output: Output,
    snapshots: Vec<(Arc<str>, usize, Snapshot)>,
}

impl CheckpointCoordinator {
    /// Continues after `last`, with `state` as the current state.
    pub(super) fn new(
        log: CommitLog,
        deliveries: Deliveries,
        graph: &Graph,
        config: &JobConfig,
        clock: Arc<dyn Clock>,
        last: Option<&Checkpoint>,
        state: Vec<StateRef>,
    ) -> Self {
        let keep = |source: &Arc<str>| !config.reset.contains(source.as_ref());
        let mut positions = last.map(|last| last.positions.clone()).unwrap_or_default();
        let dropped = positions.extract_if(.., |source, _| !keep(source));
        let dropped = dropped.map(|(source, _)| source).collect();
        let mut watermarks = last.map(|last| last.watermarks.clone()).unwrap_or_default();
        watermarks.retain(|source, _| keep(source));
        let mut systems = last.map(|last| last.systems.clone()).unwrap_or_default();
        systems.retain(|source, _| keep(source));
        Self {
            log: Some(log),
            deliveries,
            work: Work::Nothing,
            clock,
            lanes: config.lanes,
            epoch: last.map_or(Epoch(0), |last| last.epoch),
            fingerprints: restore::fingerprints(graph),
            state: state.into_iter().map(|part| (key(&part), part)).collect(),
            positions,
            systems,
            watermarks,
            totals: last.map(|last| last.totals).unwrap_or_default(),
            reset: dropped,
            withdrawn: Output::new(),
            last: None,
        }
    }

    /// Lets the next commit withdraw delivered output.
    pub(super) fn withdraw(&mut self, withdrawn: Output) {
        self.withdrawn = withdrawn;
    }

    /// The epoch that the next barrier ends.
    pub(super) fn next_epoch(&mut self) -> Epoch {
        self.epoch = self.epoch.next();
        self.epoch
    }

    /// Whether a commit is under way or its result has not been taken.
    pub(super) fn is_busy(&self) -> bool {
        !matches!(self.work, Work::Nothing)
    }

    /// The outcomes of the rows since the first commit.
    pub(super) fn totals(&self) -> Counts {
        self.totals
    }

    /// The last commit of this run.
    pub(super) fn last(&self) -> Option<&Committed> {
        self.last.as_ref()
    }

    /// The deliveries of committed output.
    pub(super) fn deliveries(&self) -> &Deliveries {
        &self.deliveries
    }

    /// The committed positions, by source.
    pub(super) fn positions(&self) -> &BTreeMap<Arc<str>, Positions> {
        &self.positions
    }

    /// The systems that the positions belong to, by source.
    pub(super) fn systems(&self) -> &BTreeMap<Arc<str>, Systems> {
        &self.systems
    }

    /// Begins to commit a complete epoch.
    ///
    /// # Errors
    /// `Internal` if its rows do not balance.
    pub(super) fn begin(&mut self, pending: PendingCheckpoint) -> Result<()> {
        let PendingCheckpoint {
            barrier: Barrier { epoch, kind, .. },
            cuts,
            begun,
            ..
        } = pending;
        let mut epilogue = CollectedAcks::of(cuts);
        balance::check(&epilogue.read, &epilogue.ledger)?;
        let mut watermarks = self.watermarks.clone();
        merge(&mut watermarks, epilogue.watermarks);
        let mut positions = self.positions.clone();
        merge(&mut positions, epilogue.positions);
        let mut systems = self.systems.clone();
        merge(&mut systems, epilogue.systems);
        let unchanged = epilogue.output.is_empty()
            && epilogue.snapshots.is_empty()
            && positions == self.positions
            && systems == self.systems
            && self.reset.is_empty()
            && self.withdrawn.is_empty()
            && epilogue.ledger.is_empty();
        let log = self
            .log
            .take()
            .ok_or_else(|| Error::internal("two commits at once"))?;
        if unchanged && kind != BarrierKind::Stop {
            self.work = Work::Writing(tokio::spawn(look(log)));
            return Ok(());
        }

        let mut totals = self.totals;
        totals += epilogue.ledger.total();
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
        for (target, withdrawn) in std::mem::take(&mut self.withdrawn) {
            epilogue.output.entry(target).or_default().extend(withdrawn);
        }
        let cut = commit::CommitRequest {
            epoch,
            reason: Reason::from(kind),
            lanes: self.lanes,
            positions: positions.clone(),
            systems: systems.clone(),
            watermarks: watermarks.clone(),
            finished: BTreeMap::new(),
            state: Vec::new(),
            fingerprints: self.fingerprints.clone(),
            outbox: epilogue.output,
            reset: std::mem::take(&mut self.reset),
            counters: commit::counts(&epilogue.ledger),
            totals,
        };
        self.positions = positions;
        self.systems = systems;
        self.watermarks = watermarks;
        self.totals = totals;
        let writing = Writing {
            log,
            request: cut,
            state,
            put,
            begun,
            clock: Arc::clone(&self.clock),
            deliveries: self.deliveries.clone(),
        };
        self.work = Work::Writing(tokio::spawn(writing.run()));
        Ok(())
    }

    /// Waits for the current commit, or forever if there is none. Returns `None` if there was
    /// nothing to commit. Cancel-safe.
    pub(super) async fn finished(&mut self) -> Result<Option<CompletedCheckpoint>> {
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

/// Commits nothing, but checks that it could.
async fn look(log: CommitLog) -> (CommitLog, Result<Option<StoredState>>) {
    let owned = log.ensure_owned().await;
    (log, owned.map(|()| None))
}

/// A commit under way.
struct Writing {
    log: CommitLog,
    request: commit::CommitRequest,
    state: BTreeMap<PartKey, StateRef>,
    put: Vec<(Arc<str>, usize, NewPart)>,
    begun: Uptime,
    clock: Arc<dyn Clock>,
    deliveries: Deliveries,
}

impl Writing {
    /// Stores the new state, commits, waits for the deliveries and collects garbage.
    async fn run(self) -> (CommitLog, Result<Option<StoredState>>) {
        let Self {
            mut log,
            mut request,
            mut state,
            put,
            begun,
            clock,
            deliveries,
        } = self;
        let written = async {
            let state_put_bytes = bytes_of(&put);
            let new = store(&log, put, begun, clock.as_ref()).await?;
            let state_written_bytes = new.iter().map(|part| part.bytes).sum();
            state.extend(new.into_iter().map(|part| (key(&part), part)));
            request.state = state.values().cloned().collect();
            let is_stop = request.reason == Reason::Stop;
            let committed = log.commit(request).await?;
            let took = clock.uptime().since(begun);
            if is_stop {
                deliveries.after_stop(clock.as_ref()).await?;
            } else {
                deliveries.after_commit(clock.as_ref()).await;
            }
            log.settle().await;
            log.collect().await?;
            let committed = CompletedCheckpoint {
                committed,
                state_put_bytes,
                state_written_bytes,
                took_ms: took.as_millis() as u64,
            };
            Ok(Some(StoredState { committed, state }))
        };
        let written = written.await;
        (log, written)
    }
}

/// Stores state parts.
async fn store(
    log: &CommitLog,
    put: Vec<(Arc<str>, usize, NewPart)>,
    begun: Uptime,
    clock: &dyn Clock,
) -> Result<Vec<StateRef>> {
    let urgency = || Priority::of_commit(begun, clock.uptime());
    let urgency = &urgency;
    let store = |(node, lane, part): (Arc<str>, usize, NewPart)| async move {
        log.put_state(&node, lane, part, urgency).await
    };
    stream::iter(put.into_iter().map(store))
        .buffer_unordered(CONCURRENT_PUTS)
        .try_collect()
        .await
}

/// The memory for parts while they are written. Parts that are encoded later are written few at a
/// time, so only the largest few count.
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

impl CollectedAcks {
    fn of(cuts: Vec<CheckpointAck>) -> Self {
        let mut all = Self::default();
        for cut in cuts {
            match cut {
                CheckpointAck::Source {
                    source,
                    positions,
                    systems,
                    rows,
                } => {
                    if !systems.is_empty() {
                        all.systems.insert(Arc::clone(&source), systems);
                    }
                    all.positions.insert(source, positions);
                    all.read.extend(rows);
                }
                CheckpointAck::Lane {
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
                CheckpointAck::Sink {
                    node,
                    lane,
                    target,
                    committables,
                    snapshot,
                    ledger,
                } => {
                    if let Some(target) = target.filter(|_| !committables.is_empty()) {
                        all.output.entry(target).or_default().extend(committables);
                    }
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
