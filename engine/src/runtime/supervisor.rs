//! Starts a job, and starts it again after a failure that may pass.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::job::{self, JobConfig, Outcome, Surroundings};
use crate::{
    Clock, Result,
    commit::{CommitLog, LogConfig},
    graph::{Graph, NodeKind},
    inquiry::Inquiry,
    status::{JobState, JobStatus},
};

/// The first pause before a job is started again; each further one is twice as
/// long, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A run longer than this counts as healthy: the pauses begin anew.
const HEALTHY: Duration = Duration::from_mins(1);

/// How to talk to a supervised job.
pub struct Control {
    /// Cancelled to stop the job: it drains and commits.
    pub stop: CancellationToken,
    /// Follows its status.
    pub status: watch::Receiver<JobStatus>,
    /// Asks its operators.
    pub inquiry: Inquiry,
}

/// Everything that a supervised job needs.
pub struct Supervised {
    /// What to run.
    pub graph: Graph,
    /// How.
    pub config: JobConfig,
    /// Where it commits.
    pub log: LogConfig,
    /// Processing time.
    pub clock: Arc<dyn Clock>,
    /// How often to start again after a failure that may pass.
    pub restarts: u32,
}

/// Prepares a job: how to control it, and the future that runs it to its end.
///
/// # Errors
/// The future gives the error that ended the job: at once where it is not
/// retryable (another owner, a mistake in the file, data that is lost), else
/// when the restarts are used up.
pub fn supervise(
    supervised: Supervised,
) -> (Control, impl Future<Output = Result<Outcome>> + Send) {
    let starting = JobStatus::starting(&supervised.config.pipeline, supervised.clock.now());
    let (sender, status) = watch::channel(starting);
    let stop = CancellationToken::new();
    let inquiry = Inquiry::default();
    let surroundings = Surroundings {
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
    (control, run(supervised, surroundings))
}

async fn run(supervised: Supervised, surroundings: Surroundings) -> Result<Outcome> {
    let Supervised {
        graph,
        mut config,
        log,
        clock,
        restarts,
    } = supervised;
    let (mut left, mut pause) = (restarts, FIRST_PAUSE);
    loop {
        let begun = clock.now();
        let result = once(&graph, &mut config, &log, &surroundings).await;
        let error = match result {
            Ok(outcome) => return Ok(outcome),
            Err(error) => error,
        };
        if clock.now().since(begun) > HEALTHY {
            (left, pause) = (restarts, FIRST_PAUSE);
        }
        let give_up = !error.is_retryable() || left == 0 || surroundings.stop.is_cancelled();
        let said = error.chain();
        let state = if give_up {
            JobState::Failed
        } else {
            JobState::Waiting
        };
        surroundings.status.send_modify(|status| {
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
            () = surroundings.stop.cancelled() => return Err(error),
        }
        left -= 1;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

async fn once(
    graph: &Graph,
    config: &mut JobConfig,
    log: &LogConfig,
    surroundings: &Surroundings,
) -> Result<Outcome> {
    let tables = graph.nodes.iter().filter_map(|node| match &node.kind {
        NodeKind::Sink(sink) => sink.table(),
        _ => None,
    });
    let (log, recovered) = CommitLog::open(
        log.clone(),
        tables.collect(),
        Arc::clone(&surroundings.clock),
    )
    .await?;
    let outcome = job::run(graph, config, log, recovered, surroundings).await;
    if surroundings.status.borrow().commit.is_some() {
        // What was to be dropped is dropped in that commit; it must not be
        // dropped again when the job is started again.
        config.reset.clear();
    }
    outcome
}
