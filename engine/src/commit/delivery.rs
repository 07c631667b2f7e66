//! The delivery of commits to one target.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use crate::{
    EventTime, Result,
    committer::{Committable, Committer},
    status::SinkStatus,
};

/// A target with its undelivered output. Commits are delivered in order, one at a time.
pub struct Delivery {
    target: Arc<str>,
    pub(super) committer: Box<dyn Committer>,
    queue: Mutex<Queue>,
    /// Held during a delivery.
    turn: tokio::sync::Mutex<()>,
    /// Wakes all that wait for a change, in the order of their arrival.
    changed: Notify,
}

#[derive(Default)]
struct Queue {
    pending: VecDeque<Arc<Pending>>,
    /// The last commit, with or without output.
    last: u64,
    status: SinkStatus,
}

/// The undelivered output of a commit.
struct Pending {
    seq: u64,
    at: EventTime,
    output: Vec<Committable>,
}

impl Delivery {
    pub(super) fn new(target: Arc<str>, committer: Box<dyn Committer>) -> Self {
        let status = SinkStatus {
            target: target.to_string(),
            ..SinkStatus::default()
        };
        Self {
            target,
            committer,
            queue: Mutex::new(Queue {
                status,
                ..Queue::default()
            }),
            turn: tokio::sync::Mutex::default(),
            changed: Notify::new(),
        }
    }

    /// The name of the target in commit records.
    pub fn target(&self) -> &Arc<str> {
        &self.target
    }

    /// The state of the delivery.
    pub fn status(&self) -> SinkStatus {
        self.queue().status.clone()
    }

    /// Waits until there is undelivered output.
    pub async fn wait_for_output(&self) {
        self.wait(|status| status.pending_commits > 0).await;
    }

    /// Waits until everything is delivered.
    pub async fn wait_for_end(&self) {
        self.wait(|status| status.pending_commits == 0).await;
    }

    /// Waits until everything is delivered or the last attempt has failed.
    pub async fn wait_for_attempt(&self) {
        self.wait(|status| status.pending_commits == 0 || status.last_error.is_some())
            .await;
    }

    async fn wait(&self, condition: impl Fn(&SinkStatus) -> bool) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if condition(&self.queue().status) {
                return;
            }
            changed.await;
        }
    }

    /// Begins after the commit `delivered_upto`.
    pub(super) fn begin(&self, delivered_upto: u64) {
        self.update(|queue| queue.last = delivered_upto);
    }

    /// Adds the output of a commit, which may be empty.
    pub(super) fn push(&self, seq: u64, at: EventTime, output: &[Committable]) {
        let pending = (!output.is_empty()).then(|| Pending {
            seq,
            at,
            output: output.to_vec(),
        });
        self.update(|queue| {
            queue.last = seq;
            queue.pending.extend(pending.map(Arc::new));
        });
    }

    /// The first commit that is not delivered.
    pub(super) fn first_pending(&self) -> Option<u64> {
        self.queue().pending.front().map(|pending| pending.seq)
    }

    /// Delivers all output, until the first error.
    ///
    /// # Errors
    /// Those of the committer.
    pub async fn deliver(&self) -> Result<()> {
        let _turn = self.turn.lock().await;
        loop {
            let Some(first) = self.queue().pending.front().map(Arc::clone) else {
                return Ok(());
            };
            let delivered = self.committer.commit(first.seq, &first.output).await;
            match delivered {
                Ok(_) => self.update(|queue| {
                    queue.pending.pop_front();
                    queue.status.last_error = None;
                }),
                Err(error) => {
                    self.update(|queue| {
                        queue.status.failures += 1;
                        queue.status.last_error = Some(error.chain());
                    });
                    return Err(error);
                }
            }
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the queue and its status.
    fn update(&self, change: impl FnOnce(&mut Queue)) {
        let mut queue = self.queue();
        change(&mut queue);
        let Queue {
            pending,
            last,
            status,
        } = &mut *queue;
        let first = pending.front();
        let delivered = first.map_or(*last, |first| first.seq - 1);
        status.delivered_seq = status.delivered_seq.max(delivered);
        status.pending_commits = pending.len() as u64;
        status.pending_since = first.map(|first| first.at);
        let output = || pending.iter().flat_map(|pending| &pending.output);
        status.pending_rows = output().map(|it| it.rows).sum();
        status.pending_bytes = output().map(|it| it.bytes).sum();
        drop(queue);
        self.changed.notify_waiters();
    }
}
