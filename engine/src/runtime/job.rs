//! A job: one run of a graph, from the last commit to a stop or an error.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::{
    checkpoint::{Checkpointer, Done, Pending},
    gauges::Gauges,
    monitor::Monitor,
    pace::Pace,
    pressure::{LOOK_EVERY, Pressure, Relief},
    reader::Order,
    report::Report,
    tolerance::{StopWhen, Tolerance},
    topology::{self, Topology},
};
use crate::{
    Clock, Error, Result,
    commit::{CommitLog, Committed, Recovered},
    element::{Barrier, BarrierKind},
    graph::Graph,
    inquiry::Inquiry,
    memory::MemoryLimit,
    status::{JobState, JobStatus, MemoryStatus},
};

/// How long a source may be unreachable in a run that should end by itself.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often the status is refreshed.
const STATUS_EVERY: Duration = Duration::from_millis(250);

/// How a job runs.
#[derive(Debug, Clone)]
pub struct JobConfig {
    /// The pipeline's name.
    pub pipeline: String,
    /// How many lanes.
    pub lanes: usize,
    /// How often to commit.
    pub checkpoint_every: Duration,
    /// How many bytes each channel may hold.
    pub queue_bytes: usize,
    /// When to stop.
    pub until: Until,
    /// What becomes of open windows at the stop.
    pub end: End,
    /// Nodes and sources whose state may be dropped, by name.
    pub reset: BTreeSet<String>,
    /// How many bad rows are too many.
    pub stop_when: Option<StopWhen>,
    /// How much memory the process may take.
    pub memory: Option<MemoryLimit>,
}

/// When a job stops by itself. One whose sources are all bounded always stops
/// when they have been read to their end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// When it is told to.
    Stopped,
    /// When every partition has been at its end once.
    CaughtUp,
}

/// What becomes of open windows when a job stops before its sources end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// They stay in the state; the next run goes on with them.
    Keep,
    /// They close; rows that come for them later are late.
    Drain,
}

/// How a job ended.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The last commit.
    pub committed: Option<Committed>,
    /// The last status.
    pub status: JobStatus,
}

/// What a job needs from outside.
pub(super) struct Surroundings {
    pub(super) clock: Arc<dyn Clock>,
    pub(super) stop: CancellationToken,
    pub(super) status: watch::Sender<JobStatus>,
    pub(super) inquiry: Inquiry,
}

/// Runs `graph` from where `log` stands.
pub(super) async fn run(
    graph: &Graph,
    config: &JobConfig,
    log: CommitLog,
    recovered: Recovered,
    surroundings: &Surroundings,
) -> Result<Outcome> {
    let names = graph.nodes.iter().map(|node| Arc::clone(&node.name));
    let gauges = Arc::new(Gauges::new(names));
    let (reports, inbox) = mpsc::unbounded_channel();
    let (topology, checkpointer) = topology::build(
        graph,
        config,
        log,
        recovered,
        surroundings,
        &gauges,
        reports,
    )
    .await?;
    let monitor = Monitor::new(
        graph,
        &config.pipeline,
        gauges,
        surroundings,
        checkpointer.totals(),
    );
    let mut job = Job {
        config,
        clock: Arc::clone(&surroundings.clock),
        topology,
        inbox,
        pending: None,
        pace: Pace::default(),
        checkpointer,
        monitor,
        caught_up: BTreeSet::new(),
        exhausted: BTreeSet::new(),
        unreachable: BTreeMap::new(),
        phase: Phase::Running,
        tolerance: Tolerance::new(config.stop_when),
        verdict: None,
        pressure: config
            .memory
            .as_ref()
            .map(|limit| Pressure::new(limit.bytes)),
        short_of_memory: None,
    };
    let ended = job.run(&surroundings.stop).await;
    job.topology.end(surroundings.clock.as_ref()).await;
    ended
}

/// How bad the rows are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Judged {
    Bearable,
    TooManyBad,
}

/// Where a job is on its way to the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Running,
    /// It is to stop as soon as no commit is under way.
    StopWanted(End),
    /// The last barrier is on its way.
    Stopping,
}

struct Job<'a> {
    config: &'a JobConfig,
    clock: Arc<dyn Clock>,
    topology: Topology,
    inbox: mpsc::UnboundedReceiver<Report>,
    /// The epoch whose barrier is on its way.
    pending: Option<Pending>,
    pace: Pace,
    checkpointer: Checkpointer,
    monitor: Monitor,
    caught_up: BTreeSet<Arc<str>>,
    exhausted: BTreeSet<Arc<str>>,
    unreachable: BTreeMap<Arc<str>, String>,
    phase: Phase,
    tolerance: Tolerance,
    /// Why the job stops, where that is an error.
    verdict: Option<Error>,
    /// How short memory is, where there is a limit.
    pressure: Option<Pressure>,
    /// What is said while nothing is read for that.
    short_of_memory: Option<String>,
}

impl Job<'_> {
    async fn run(&mut self, stop: &CancellationToken) -> Result<Outcome> {
        let clock = Arc::clone(&self.clock);
        let mut due = clock.sleep(self.config.checkpoint_every);
        let mut refresh = clock.sleep(STATUS_EVERY);
        let mut look = clock.sleep(LOOK_EVERY);
        let mut impatient = None;
        self.monitor.say(JobState::Running, None);
        loop {
            tokio::select! {
                biased;
                Some(ended) = self.topology.tasks.join_next() => ended_well(ended)?,
                committed = self.checkpointer.finished() => {
                    let stopped = self.on_commit(committed?);
                    if let Some(outcome) = stopped {
                        // A short run has not been looked at before.
                        self.judge();
                        return self.verdict.take().map_or(Ok(outcome), Err);
                    }
                    due = clock.sleep(self.config.checkpoint_every);
                }
                Some(report) = self.inbox.recv() => self.on_report(report)?,
                () = stop.cancelled(), if self.phase == Phase::Running => {
                    self.want_stop(self.config.end);
                }
                () = &mut due, if self.is_free() => {
                    due = clock.sleep(self.config.checkpoint_every);
                    self.trigger(BarrierKind::Checkpoint);
                }
                () = &mut refresh => {
                    refresh = clock.sleep(STATUS_EVERY);
                    self.monitor.refresh();
                    if self.judge() == Judged::TooManyBad {
                        // Commit first: then the dead letters can be looked at.
                        self.want_stop(End::Keep);
                    }
                }
                () = &mut look, if self.pressure.is_some() => {
                    look = clock.sleep(LOOK_EVERY);
                    self.relieve()?;
                }
                () = wait(&mut impatient) => return Err(self.out_of_patience()),
            }
            let waits = !self.unreachable.is_empty() && self.config.until == Until::CaughtUp;
            match (waits, &impatient) {
                (true, None) => impatient = Some(clock.sleep(PATIENCE)),
                (false, Some(_)) => impatient = None,
                _ => {}
            }
            if let (Phase::StopWanted(end), true) = (self.phase, self.is_idle()) {
                self.phase = Phase::Stopping;
                self.monitor.say(JobState::Stopping, None);
                self.topology.order(match end {
                    End::Drain => || Order::End,
                    End::Keep => || Order::Stop,
                });
                self.trigger(BarrierKind::Stop);
            }
        }
    }

    fn on_report(&mut self, report: Report) -> Result<()> {
        match report {
            Report::Cut(epoch, cut) => {
                let pending = self
                    .pending
                    .as_mut()
                    .filter(|pending| pending.barrier().epoch == epoch);
                let pending = pending.ok_or_else(|| {
                    Error::internal(format!("a cut of epoch {epoch}, which is not under way"))
                })?;
                pending.add(cut);
                if pending.is_complete() {
                    let pending = self.pending.take().expect("it is there");
                    if pending.barrier().says_all {
                        self.pace.said(pending.begun, self.clock.now());
                    }
                    self.checkpointer.begin(pending)?;
                }
            }
            Report::CaughtUp(source) => {
                self.caught_up.insert(source);
                let sources = self.topology.sources();
                let all = sources.iter().all(|source| {
                    self.caught_up.contains(source) || self.exhausted.contains(source)
                });
                if all && self.config.until == Until::CaughtUp {
                    self.want_stop(self.config.end);
                }
            }
            Report::Exhausted(source) => {
                self.exhausted.insert(Arc::clone(&source));
                if self.exhausted.len() == self.topology.sources().len() {
                    self.want_stop(End::Drain);
                } else {
                    return self.on_report(Report::CaughtUp(source));
                }
            }
            Report::Reachable(source, None) => {
                self.unreachable.remove(&source);
                self.say_what_it_waits_for();
            }
            Report::Reachable(source, Some(reason)) => {
                self.unreachable.insert(source, reason);
                self.say_what_it_waits_for();
            }
        }
        Ok(())
    }

    fn on_commit(&mut self, done: Option<Done>) -> Option<Outcome> {
        if let Some(pressure) = &mut self.pressure {
            let put_bytes = done.as_ref().map(|done| done.state_put_bytes);
            pressure.committed(self.clock.now(), put_bytes);
        }
        if let Some(done) = &done {
            self.monitor.committed(done, self.checkpointer.totals());
            self.topology.committed(self.checkpointer.positions());
        }
        (self.phase == Phase::Stopping).then(|| {
            self.monitor.say(JobState::Stopped, None);
            Outcome {
                committed: self.checkpointer.last().cloned(),
                status: self.monitor.status(),
            }
        })
    }

    /// Looks at how many rows were bad.
    fn judge(&mut self) -> Judged {
        let (rows, dead) = self.monitor.rows_and_dead_letters();
        match self.tolerance.judge(self.clock.now(), rows, dead) {
            Ok(()) => Judged::Bearable,
            Err(verdict) => {
                self.verdict.get_or_insert(verdict);
                Judged::TooManyBad
            }
        }
    }

    /// Looks at what memory the process takes, and does what helps.
    fn relieve(&mut self) -> Result<()> {
        if self.phase != Phase::Running {
            return Ok(());
        }
        let idle = self.is_idle();
        let (Some(limit), Some(pressure)) = (&self.config.memory, &mut self.pressure) else {
            return Ok(());
        };
        let Some(used_bytes) = limit.gauge.used_bytes() else {
            return Ok(());
        };
        let relief = pressure.judge(self.clock.now(), used_bytes, idle)?;
        self.monitor.memory(MemoryStatus {
            used_bytes,
            limit_bytes: limit.bytes,
            paused: pressure.is_paused(),
        });
        match relief {
            Relief::None => {}
            Relief::Pause => {
                self.short_of_memory = Some(pressure.message(used_bytes));
                self.topology.order(|| Order::Pause);
                self.say_what_it_waits_for();
            }
            Relief::GoOn => {
                self.short_of_memory = None;
                self.topology.order(|| Order::GoOn);
                self.say_what_it_waits_for();
            }
            Relief::Commit => self.trigger(BarrierKind::Relief),
        }
        Ok(())
    }

    fn want_stop(&mut self, end: End) {
        if self.phase == Phase::Running {
            self.phase = Phase::StopWanted(end);
        }
    }

    /// Sends a barrier on its way.
    fn trigger(&mut self, kind: BarrierKind) {
        let now = self.clock.now();
        let barrier = Barrier {
            epoch: self.checkpointer.next_epoch(),
            kind,
            says_all: kind == BarrierKind::Stop || self.pace.is_due(now),
        };
        self.pending = Some(Pending::new(barrier, self.topology.parts(), now));
        self.topology.order(|| Order::Barrier(barrier));
    }

    /// No barrier and no commit is under way.
    fn is_idle(&self) -> bool {
        self.pending.is_none() && !self.checkpointer.is_busy()
    }

    /// It may be time for a checkpoint.
    fn is_free(&self) -> bool {
        self.phase == Phase::Running && self.is_idle()
    }

    fn say_what_it_waits_for(&mut self) {
        let unreachable = self.unreachable.iter().next();
        let message = unreachable
            .map(|(source, reason)| format!("source `{source}` cannot be reached: {reason}"))
            .or_else(|| self.short_of_memory.clone());
        let state = if message.is_some() {
            JobState::Waiting
        } else {
            JobState::Running
        };
        if self.phase == Phase::Running {
            self.monitor.say(state, message);
        }
    }

    fn out_of_patience(&self) -> Error {
        let said = self.unreachable.iter().next();
        let (source, reason) = said.map_or(("?", "?"), |(source, reason)| (source, reason));
        Error::external(format!(
            "source `{source}` could not be reached for {} s: {reason}",
            PATIENCE.as_secs()
        ))
        .permanent()
    }
}

/// A task ended: by itself because another one did, or by an error or panic.
fn ended_well(ended: Result<Result<()>, tokio::task::JoinError>) -> Result<()> {
    match ended {
        Ok(result) => result,
        Err(error) => Err(Error::internal("a task of the job panicked").with_source(error)),
    }
}

async fn wait(timer: &mut Option<futures::future::BoxFuture<'_, ()>>) {
    match timer {
        Some(timer) => timer.await,
        None => std::future::pending().await,
    }
}
