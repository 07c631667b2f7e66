//! A job: one run of a graph, from the last commit to a stop or an error.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{
    checkpoint::{CheckpointCoordinator, CompletedCheckpoint, PendingCheckpoint},
    error_rate::ErrorRateMonitor,
    gauges::Gauges,
    job_config::{End, JobConfig, Until},
    job_context::JobContext,
    memory_controller::{LOOK_EVERY, MemoryAction, MemoryController},
    monitor::Monitor,
    profile_throttle::ProfileThrottle,
    source_task::SourceCommand,
    startup::Claimed,
    task_event::TaskEvent,
    topology::{self, Topology},
};
use crate::{
    Clock, Error, Result,
    commit::Committed,
    element::{Barrier, BarrierKind},
    graph::Graph,
    source::Growth,
    status::{JobState, JobStatus, MemoryStatus},
};

/// How long a source may be unreachable in a bounded run.
const PATIENCE: Duration = Duration::from_secs(30);

/// The interval of status updates.
const STATUS_EVERY: Duration = Duration::from_millis(250);

/// The result of a job.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The last commit.
    pub committed: Option<Committed>,
    /// The last status.
    pub status: JobStatus,
    /// Whether the open windows have closed.
    pub end: End,
}

/// Runs `graph` from the last commit of `log`.
pub(super) async fn run(
    graph: &Graph,
    config: &JobConfig,
    claimed: Claimed,
    context: &JobContext,
) -> Result<Outcome> {
    let names = graph.nodes.iter().map(|node| Arc::clone(&node.name));
    let gauges = Arc::new(Gauges::new(names));
    let (reports, inbox) = mpsc::unbounded_channel();
    let (topology, checkpointer) =
        topology::build(graph, config, claimed, context, &gauges, reports).await?;
    let monitor = Monitor::new(
        graph,
        &config.pipeline,
        gauges,
        checkpointer.deliveries().clone(),
        context,
        checkpointer.totals(),
    );
    let mut job = Job {
        config,
        clock: Arc::clone(&context.clock),
        topology,
        inbox,
        pending: None,
        pace: ProfileThrottle::default(),
        checkpointer,
        monitor,
        caught_up: BTreeSet::new(),
        exhausted: BTreeMap::new(),
        unreachable: BTreeMap::new(),
        phase: Phase::Running,
        tolerance: ErrorRateMonitor::new(config.stop_when),
        verdict: None,
        pressure: config
            .memory
            .as_ref()
            .map(|limit| MemoryController::new(limit.bytes)),
        short_of_memory: None,
        backlog: None,
        delivery_failure: None,
        paused: false,
    };
    let ended = job.run(&context.stop).await;
    job.topology.end(context.clock.as_ref()).await;
    ended
}

/// Whether the rate of bad rows is acceptable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ErrorRate {
    Acceptable,
    TooHigh,
}

/// The phase of a job's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Running,
    /// It will stop as soon as no commit is under way.
    StopWanted(End),
    /// The last barrier is under way.
    Stopping(End),
}

struct Job<'a> {
    config: &'a JobConfig,
    clock: Arc<dyn Clock>,
    topology: Topology,
    inbox: mpsc::UnboundedReceiver<TaskEvent>,
    /// The epoch whose barrier is under way.
    pending: Option<PendingCheckpoint>,
    pace: ProfileThrottle,
    checkpointer: CheckpointCoordinator,
    monitor: Monitor,
    caught_up: BTreeSet<Arc<str>>,
    exhausted: BTreeMap<Arc<str>, Growth>,
    unreachable: BTreeMap<Arc<str>, String>,
    phase: Phase,
    tolerance: ErrorRateMonitor,
    /// The error that stops the job, if there is one.
    verdict: Option<Error>,
    /// The memory pressure, if there is a limit.
    pressure: Option<MemoryController>,
    /// The status message while reading is paused for memory.
    short_of_memory: Option<String>,
    /// The status message while reading is paused for undelivered output.
    backlog: Option<String>,
    /// The status message while deliveries fail.
    delivery_failure: Option<String>,
    /// Whether reading is paused.
    paused: bool,
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
                        // A short run has not been checked before.
                        self.check_error_rate();
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
                    self.check_deliveries();
                    if self.check_error_rate() == ErrorRate::TooHigh {
                        // Commit first, so that users can query the dead letters.
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
                self.phase = Phase::Stopping(end);
                self.monitor.say(JobState::Stopping, None);
                self.topology.order(match end {
                    End::Drain => || SourceCommand::End,
                    End::Keep => || SourceCommand::Stop,
                });
                self.trigger(BarrierKind::Stop);
            }
        }
    }

    fn on_report(&mut self, report: TaskEvent) -> Result<()> {
        match report {
            TaskEvent::CheckpointAck(epoch, cut) => {
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
                    if pending.barrier().emit_profiles {
                        self.pace.said(pending.begun, self.clock.uptime());
                    }
                    self.checkpointer.begin(pending)?;
                }
            }
            TaskEvent::CaughtUp(source) => {
                self.caught_up.insert(source);
                let sources = self.topology.sources();
                let all = sources.iter().all(|source| {
                    self.caught_up.contains(source) || self.exhausted.contains_key(source)
                });
                if all && self.config.until == Until::CaughtUp {
                    self.want_stop(self.config.end);
                }
            }
            TaskEvent::Exhausted(source, growth) => {
                self.exhausted.insert(Arc::clone(&source), growth);
                if self.exhausted.len() == self.topology.sources().len() {
                    self.want_stop(self.end_of_all());
                } else {
                    return self.on_report(TaskEvent::CaughtUp(source));
                }
            }
            TaskEvent::Reachable(source, None) => {
                self.unreachable.remove(&source);
                self.say_what_it_waits_for();
            }
            TaskEvent::Reachable(source, Some(reason)) => {
                self.unreachable.insert(source, reason);
                self.say_what_it_waits_for();
            }
        }
        Ok(())
    }

    fn on_commit(&mut self, done: Option<CompletedCheckpoint>) -> Option<Outcome> {
        if let Some(pressure) = &mut self.pressure {
            let put_bytes = done.as_ref().map(|done| done.state_put_bytes);
            pressure.committed(self.clock.uptime(), put_bytes);
        }
        if let Some(done) = &done {
            self.monitor.committed(done, self.checkpointer.totals());
            self.topology.committed(self.checkpointer.positions());
            self.check_deliveries();
        }
        let Phase::Stopping(end) = self.phase else {
            return None;
        };
        self.monitor.say(JobState::Stopped, None);
        Some(Outcome {
            committed: self.checkpointer.last().cloned(),
            status: self.monitor.status(),
            end,
        })
    }

    /// Checks the number of bad rows.
    fn check_error_rate(&mut self) -> ErrorRate {
        let (rows, dead) = self.monitor.rows_and_dead_letters();
        match self.tolerance.judge(self.clock.uptime(), rows, dead) {
            Ok(()) => ErrorRate::Acceptable,
            Err(verdict) => {
                self.verdict.get_or_insert(verdict);
                ErrorRate::TooHigh
            }
        }
    }

    /// Checks the memory of the process and reduces it if it is short.
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
        let relief = pressure.judge(self.clock.uptime(), used_bytes, idle)?;
        self.monitor.memory(MemoryStatus {
            used_bytes,
            limit_bytes: limit.bytes,
            paused: pressure.is_paused(),
        });
        match relief {
            MemoryAction::None => {}
            MemoryAction::Pause => {
                self.short_of_memory = Some(pressure.message(used_bytes));
                self.pause_or_go_on();
            }
            MemoryAction::GoOn => {
                self.short_of_memory = None;
                self.pause_or_go_on();
            }
            MemoryAction::Commit => self.trigger(BarrierKind::Relief),
        }
        Ok(())
    }

    /// Checks the undelivered output of all sinks.
    fn check_deliveries(&mut self) {
        if self.phase != Phase::Running {
            return;
        }
        let deliveries = self.checkpointer.deliveries();
        let (backlog, failure) = (deliveries.backlog(), deliveries.failure());
        if (&backlog, &failure) != (&self.backlog, &self.delivery_failure) {
            (self.backlog, self.delivery_failure) = (backlog, failure);
            self.pause_or_go_on();
        }
    }

    /// Pauses reading while memory is short or too much output is undelivered.
    fn pause_or_go_on(&mut self) {
        let pause = self.short_of_memory.is_some() || self.backlog.is_some();
        if pause != self.paused {
            self.paused = pause;
            self.topology.order(if pause {
                || SourceCommand::Pause
            } else {
                || SourceCommand::GoOn
            });
        }
        self.say_what_it_waits_for();
    }

    /// Whether open windows close when every source has been read to its end. A run that ends when
    /// it has caught up keeps them for the next run, which may read more rows.
    fn end_of_all(&self) -> End {
        let grows = self.exhausted.values().any(|it| *it == Growth::MayGrow);
        if grows && self.config.until == Until::CaughtUp {
            self.config.end
        } else {
            End::Drain
        }
    }

    fn want_stop(&mut self, end: End) {
        if self.phase == Phase::Running {
            self.phase = Phase::StopWanted(end);
        }
    }

    /// Sends a barrier to the sources.
    fn trigger(&mut self, kind: BarrierKind) {
        let now = self.clock.uptime();
        let barrier = Barrier {
            epoch: self.checkpointer.next_epoch(),
            kind,
            emit_profiles: kind == BarrierKind::Stop || self.pace.is_due(now),
        };
        self.pending = Some(PendingCheckpoint::new(barrier, self.topology.parts(), now));
        self.topology.order(|| SourceCommand::Barrier(barrier));
    }

    /// Whether no barrier and no commit is under way.
    fn is_idle(&self) -> bool {
        self.pending.is_none() && !self.checkpointer.is_busy()
    }

    /// Whether a checkpoint may begin.
    fn is_free(&self) -> bool {
        self.phase == Phase::Running && self.is_idle()
    }

    fn say_what_it_waits_for(&mut self) {
        let unreachable = self.unreachable.iter().next();
        let message = unreachable
            .map(|(source, reason)| format!("source `{source}` cannot be reached: {reason}"))
            .or_else(|| self.short_of_memory.clone())
            .or_else(|| self.backlog.clone());
        let state = if message.is_some() {
            JobState::Waiting
        } else {
            JobState::Running
        };
        if self.phase == Phase::Running {
            let message = message.or_else(|| self.delivery_failure.clone());
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

/// The result of a task: it ended because another one did, or by an error or a panic.
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
