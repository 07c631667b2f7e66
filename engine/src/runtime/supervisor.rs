//! Starts a job, and restarts it after a retryable error.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use super::{
    job::{self, Outcome},
    job_config::JobConfig,
    job_context::JobContext,
    startup::{self, Claimed},
};
use crate::{
    Clock, ErrorKind, Result,
    commit::{
        BEAT_EVERY, CommitLog, Committers, Heartbeat, LogConfig, Owner, PATIENCE, ProcessId,
        Unclaimed,
    },
    committer::CommitterContext,
    graph::{Graph, NodeKind},
    state_query::StateQuery,
    status::{JobState, JobStatus},
};

/// The pause before the first restart. Each further one doubles, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A run longer than this counts as healthy and resets the pauses.
const HEALTHY: Duration = Duration::from_mins(1);

/// The handles to a supervised job.
pub struct Control {
    /// Cancelled to stop the job: it processes the rows that were read, and commits.
    pub stop: CancellationToken,
    /// Its status.
    pub status: watch::Receiver<JobStatus>,
    /// Queries its state.
    pub inquiry: StateQuery,
}

/// The configuration and dependencies of a supervised job.
pub struct Supervised {
    /// The graph to run.
    pub graph: Graph,
    /// The configuration of the job.
    pub config: JobConfig,
    /// Its commit log.
    pub log: LogConfig,
    /// Processing time.
    pub clock: Arc<dyn Clock>,
    /// The number of restarts after retryable errors.
    pub restarts: u32,
    /// The signs of life of this process, and its reaction to another process; `None` for a job
    /// that no other process can run.
    pub presence: Option<Presence>,
}

/// A process among others that may run the same pipeline.
#[derive(Debug, Clone)]
pub struct Presence {
    /// This process.
    pub process: ProcessId,
    /// The reaction to another process that runs the pipeline.
    pub if_live: IfLive,
}

/// The reaction of a process to another one that runs the pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IfLive {
    /// It ends.
    Refuse,
    /// It takes the pipeline over.
    TakeOver,
}

/// Prepares a job: its handles, and the future that runs it to its end.
///
/// # Errors
/// The future returns the error that ended the job. An error that is not retryable (another owner,
/// a mistake in the file, lost data) ends it at once, any other one after the last restart.
pub fn supervise(
    supervised: Supervised,
) -> (Control, impl Future<Output = Result<Outcome>> + Send) {
    let starting = JobStatus::starting(&supervised.config.pipeline, supervised.clock.now());
    let (sender, status) = watch::channel(starting);
    let stop = CancellationToken::new();
    let inquiry = StateQuery::default();
    let context = JobContext {
        clock: Arc::clone(&supervised.clock),
        stop: stop.clone(),
        status: sender,
        inquiry: inquiry.clone(),
    };
    let control = Control {
        stop,
        status,
        inquiry,
    };
    (control, run(supervised, context))
}

async fn run(supervised: Supervised, context: JobContext) -> Result<Outcome> {
    let Supervised {
        graph,
        mut config,
        log,
        restarts,
        presence,
        ..
    } = supervised;
    let mut life = Life {
        presence,
        signs: None,
    };
    let running = run_again(graph, &mut config, &log, restarts, &context, &mut life);
    let ended = Box::pin(running).await;
    life.end().await;
    ended
}

/// Restarts the job as long as its errors are retryable.
async fn run_again(
    graph: Graph,
    config: &mut JobConfig,
    log: &LogConfig,
    restarts: u32,
    context: &JobContext,
    life: &mut Life,
) -> Result<Outcome> {
    let clock = &context.clock;
    let (mut left, mut pause) = (restarts, FIRST_PAUSE);
    let mut attempt = Attempt::First;
    loop {
        let begun = clock.uptime();
        let result = once(&graph, config, log, context, &mut attempt, life).await;
        let error = match result {
            Ok(outcome) => return Ok(outcome),
            Err(error) => error,
        };
        if clock.uptime().since(begun) > HEALTHY {
            (left, pause) = (restarts, FIRST_PAUSE);
        }
        let give_up = !error.is_retryable() || left == 0 || context.stop.is_cancelled();
        let said = error.chain();
        let state = if give_up {
            JobState::Failed
        } else {
            JobState::Waiting
        };
        context.status.send_modify(|status| {
            status.state = state;
            status.message = Some(said.clone());
        });
        if give_up {
            return Err(error);
        }
        tracing::warn!(
            error = said,
            seconds = pause.as_secs(),
            "the job failed; starting it again"
        );
        tokio::select! {
            () = clock.sleep(pause) => {}
            () = context.stop.cancelled() => return Err(error),
        }
        left -= 1;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Whether this process has claimed the log before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Attempt {
    First,
    Again,
}

/// One run of the job. The log is claimed last: a run that cannot start does not affect the owner
/// of the log.
async fn once(
    graph: &Graph,
    config: &mut JobConfig,
    log: &LogConfig,
    context: &JobContext,
    attempt: &mut Attempt,
    life: &mut Life,
) -> Result<Outcome> {
    let clock = Arc::clone(&context.clock);
    let committers = committers(graph, &log.task, &clock);
    let owner = &log.owner;
    let log = CommitLog::look(log.clone(), committers, clock).await?;
    if *attempt == Attempt::Again && log.owner().is_some_and(|last| last != owner) {
        // This process owned it, and another one has committed since.
        return Err(log.fenced().expect("it has an owner"));
    }
    let replay = startup::check(graph, config, &log)?;
    if *attempt == Attempt::First {
        life.wait_for_others(&log, context).await?;
    }
    let claimed = Claimed::claim(graph, &replay, log).await?;
    *attempt = Attempt::Again;
    life.begin(&claimed.log, context).await;
    let ownership = claimed.log.ownership();
    let replaying = JobConfig {
        reset: replay.reset,
        ..config.clone()
    };
    let mut outcome = job::run(graph, &replaying, claimed, context).await;
    if let Err(error) = &outcome
        && !error.is_retryable()
        && error.kind() != ErrorKind::Fenced
        && let Some(fenced) = ownership.lost().await
    {
        // The successor may have caused any error of this job.
        tracing::debug!(error = error.chain(), "the job failed after it was fenced");
        outcome = Err(fenced);
    }
    if context.status.borrow().commit.is_some() {
        // That commit dropped the state in `reset`. A restart must not drop state again.
        config.reset.clear();
    }
    outcome
}

/// The committers of all sinks, by target.
fn committers(graph: &Graph, task: &str, clock: &Arc<dyn Clock>) -> Committers {
    let sinks = graph.nodes.iter().filter_map(|node| match &node.kind {
        NodeKind::Sink(sink) => Some(sink),
        _ => None,
    });
    let tables = sinks.clone().filter_map(|sink| sink.table());
    let context = CommitterContext {
        task: task.into(),
        clock: Arc::clone(clock),
        folders: tables.map(|table| table.root).collect(),
    };
    let committers =
        sinks.filter_map(|sink| Some((sink.target()?, sink.committer(context.clone())?)));
    committers.collect()
}

/// The signs of life of this process.
struct Life {
    presence: Option<Presence>,
    signs: Option<(Arc<Heartbeat>, JoinHandle<()>)>,
}

impl Life {
    /// Waits for another owner to end, or ends itself in favour of that owner.
    async fn wait_for_others(&self, log: &Unclaimed, context: &JobContext) -> Result<()> {
        let Some(presence) = &self.presence else {
            return Ok(());
        };
        if presence.if_live == IfLive::TakeOver {
            return Ok(());
        }
        let say = |owner: &Owner| {
            context.status.send_modify(|status| {
                status.state = JobState::Waiting;
                status.message = Some(format!(
                    "process {} on host `{}` may run this pipeline; watching for its signs of \
                     life for {} s at most",
                    owner.pid,
                    owner.host,
                    PATIENCE.as_secs()
                ));
            });
        };
        log.wait_for_end(&presence.process, say).await?;
        context.status.send_modify(|status| {
            status.state = JobState::Starting;
            status.message = None;
        });
        Ok(())
    }

    /// Begins to write signs of life for the owner of `log`.
    async fn begin(&mut self, log: &CommitLog, context: &JobContext) {
        let Some(presence) = self.presence.clone() else {
            return;
        };
        self.end().await;
        let heartbeat = Arc::new(log.heartbeat(presence.process));
        heartbeat.beat(context.clock.now()).await;
        heartbeat.sweep().await;
        let (beats, clock) = (Arc::clone(&heartbeat), Arc::clone(&context.clock));
        let status = context.status.subscribe();
        let task = tokio::spawn(async move {
            loop {
                clock.sleep(BEAT_EVERY).await;
                let now = clock.now();
                // A commit is a sign, too.
                let commit = status.borrow().commit.as_ref().map(|commit| commit.at);
                if commit.is_none_or(|at| now.since(at) >= BEAT_EVERY) {
                    beats.beat(now).await;
                }
            }
        });
        self.signs = Some((heartbeat, task));
    }

    /// Removes the signs of life.
    async fn end(&mut self) {
        if let Some((heartbeat, task)) = self.signs.take() {
            task.abort();
            // A write under way must not finish after the removal.
            let _ = task.await;
            heartbeat.end().await;
        }
    }
}
