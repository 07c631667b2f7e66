//! Delivers committed output beside the running job, each target by a task of its own.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::future::join_all;
use tokio::task::JoinSet;
use tracing::warn;

use crate::{
    Clock, Error, Ids, Result,
    commit::{CommitLog, Delivery, Ownership},
    committer::DeliveryBounds,
    graph::{Graph, NodeKind},
    status::SinkStatus,
};

/// The pause after the first failed attempt. Each further one doubles, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// How long a commit waits for its delivery. Its rows are then usually visible when the status
/// shows it.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long a stop waits for the delivery of its commit.
const PATIENCE_OF_STOP: Duration = Duration::from_secs(30);

/// The deliveries of a job.
#[derive(Clone)]
pub(super) struct Deliveries(Arc<[SinkDelivery]>);

struct SinkDelivery {
    sink: Arc<str>,
    delivery: Arc<Delivery>,
    bounds: DeliveryBounds,
}

impl Deliveries {
    /// The deliveries of `log` with the names of their sinks in `graph`.
    pub(super) fn new(
        graph: &Graph,
        log: &CommitLog,
        bounds: &BTreeMap<String, DeliveryBounds>,
    ) -> Self {
        let deliveries = log.deliveries();
        let of_target = |target: &Arc<str>| deliveries.iter().find(|it| it.target() == target);
        let sinks = graph.nodes.iter().filter_map(|node| {
            let NodeKind::Sink(sink) = &node.kind else {
                return None;
            };
            Some(SinkDelivery {
                sink: Arc::clone(&node.name),
                delivery: of_target(&sink.target()?).map(Arc::clone)?,
                bounds: bounds.get(&*node.name).copied().unwrap_or_default(),
            })
        });
        Self(sinks.collect())
    }

    /// Starts the tasks. They end with the first error that a second attempt cannot mend.
    pub(super) fn start(
        &self,
        tasks: &mut JoinSet<Result<()>>,
        log: &CommitLog,
        clock: &Arc<dyn Clock>,
    ) {
        for it in self.0.iter() {
            let task = DeliveryTask {
                sink: Arc::clone(&it.sink),
                delivery: Arc::clone(&it.delivery),
                ownership: log.ownership(),
                clock: Arc::clone(clock),
                ids: log.ids(),
            };
            tasks.spawn(task.run());
        }
    }

    /// Waits for the delivery of the last commit. A target that fails or is slow is not waited for.
    pub(super) async fn after_commit(&self, clock: &dyn Clock) {
        let attempts = self.0.iter().map(|it| it.delivery.wait_for_attempt());
        tokio::select! {
            biased;
            _ = join_all(attempts) => {}
            () = clock.sleep(PATIENCE) => {}
        }
    }

    /// Waits for the delivery of the last commit of a job.
    ///
    /// # Errors
    /// `External` if a target cannot be reached in time. The commit has taken effect, and the next
    /// run delivers it.
    pub(super) async fn after_stop(&self, clock: &dyn Clock) -> Result<()> {
        let ends = self.0.iter().map(|it| it.delivery.wait_for_end());
        tokio::select! {
            biased;
            _ = join_all(ends) => return Ok(()),
            () = clock.sleep(PATIENCE_OF_STOP) => {}
        }
        let late = self.0.iter().map(|it| (it, it.delivery.status()));
        let late = late.filter(|(_, status)| status.pending_commits > 0);
        let messages = late.map(|(it, status)| behind(&it.sink, &status));
        Err(Error::external(format!(
            "the last commit is stored, and not delivered after {} s: {}; the next run delivers it",
            PATIENCE_OF_STOP.as_secs(),
            messages.collect::<Vec<_>>().join("; ")
        ))
        .permanent())
    }

    /// The status of each sink.
    pub(super) fn status(&self) -> BTreeMap<String, SinkStatus> {
        let status = |it: &SinkDelivery| (it.sink.to_string(), it.delivery.status());
        self.0.iter().map(status).collect()
    }

    /// A message about a sink with so much undelivered output that nothing may be read.
    pub(super) fn backlog(&self) -> Option<String> {
        self.0.iter().find_map(|it| {
            let status = it.delivery.status();
            let is_over = status.pending_commits >= it.bounds.max_pending_commits
                || status.pending_bytes >= it.bounds.max_pending_bytes;
            is_over.then(|| format!("nothing is read, because {}", behind(&it.sink, &status)))
        })
    }

    /// A message about a sink whose last delivery has failed.
    pub(super) fn failure(&self) -> Option<String> {
        self.0.iter().find_map(|it| {
            let status = it.delivery.status();
            status.last_error.as_ref()?;
            Some(behind(&it.sink, &status))
        })
    }
}

/// A message about a sink with undelivered output.
fn behind(sink: &str, status: &SinkStatus) -> String {
    let SinkStatus {
        target,
        pending_commits,
        pending_rows,
        ..
    } = status;
    let commits = if *pending_commits == 1 {
        "1 commit".to_owned()
    } else {
        format!("{pending_commits} commits")
    };
    let why = status.last_error.as_deref().unwrap_or("it is slow");
    format!("sink `{sink}` has yet to deliver {commits} ({pending_rows} rows) to `{target}`: {why}")
}

/// Delivers the output of one target until the job ends.
struct DeliveryTask {
    sink: Arc<str>,
    delivery: Arc<Delivery>,
    ownership: Ownership,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
}

impl DeliveryTask {
    async fn run(self) -> Result<()> {
        let mut pause = FIRST_PAUSE;
        loop {
            self.delivery.wait_for_output().await;
            match self.delivery.deliver().await {
                Ok(()) => pause = FIRST_PAUSE,
                Err(error) if error.is_retryable() => {
                    warn!(sink = %self.sink, error = error.chain(), "cannot deliver; trying again");
                    let pause_now = with_jitter(pause, self.ids.as_ref());
                    self.clock.sleep(pause_now).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                Err(error) => return Err(self.ownership.explain(error).await),
            }
        }
    }
}

/// Between half of the pause and all of it, so that many processes do not try at the same time.
fn with_jitter(pause: Duration, ids: &dyn Ids) -> Duration {
    let share = f64::from(ids.unique().as_fields().0) / f64::from(u32::MAX);
    pause.mul_f64(0.5 + share / 2.0)
}
