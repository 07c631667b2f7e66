//! Queryable state: questions to the operators of a running job.
//!
//! Every lane receives every question and answers it between two messages. An answer describes one
//! point of the stream. Rows wait only while it is computed.

use std::sync::Arc;

use tokio::sync::{broadcast, mpsc};

use crate::Result;

/// The number of questions that may wait for a slow lane. Beyond it, the oldest ones get no answer.
const WAITING: usize = 256;

/// The queue of questions to a job. It survives a restart of the job.
#[derive(Debug, Clone)]
pub struct StateQuery(broadcast::Sender<StateQueryRequest>);

/// A question to a node.
#[derive(Debug, Clone)]
pub(crate) struct StateQueryRequest {
    node: Arc<str>,
    text: Arc<str>,
    answers: mpsc::Sender<Result<String>>,
}

impl Default for StateQuery {
    fn default() -> Self {
        Self(broadcast::channel(WAITING).0)
    }
}

impl StateQuery {
    /// Asks the operators of `node`. Returns `None` if no lane answers, because the job does not
    /// run. Waits until a lane has answered the questions before it.
    pub async fn ask(&self, node: &str, text: &str) -> Option<Result<String>> {
        let (answers, mut answered) = mpsc::channel(1);
        let question = StateQueryRequest {
            node: Arc::from(node),
            text: Arc::from(text),
            answers,
        };
        // A job without lanes has no receiver.
        let _ = self.0.send(question);
        answered.recv().await
    }

    /// Receives the questions from now on.
    pub(crate) fn listen(&self) -> broadcast::Receiver<StateQueryRequest> {
        self.0.subscribe()
    }
}

impl StateQueryRequest {
    /// Whether the question is for `node`.
    pub(crate) fn is_for(&self, node: &str) -> bool {
        *self.node == *node
    }

    /// The text of the question.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Sends the answer. The first answer counts.
    pub(crate) fn reply(&self, answer: Result<String>) {
        // The asking task may have ended.
        let _ = self.answers.try_send(answer);
    }
}
