//! Questions to the operators of a running job, beside the stream.
//!
//! Every lane hears every question, and answers between two messages: what it says is
//! true of a moment of the stream, and rows wait for it no longer than it takes.

use std::sync::Arc;

use tokio::sync::{broadcast, mpsc};

use crate::Result;

/// So many questions may wait for a lane that is slow; older ones go unanswered.
const WAITING: usize = 256;

/// Where questions to a job are put. It stays the same when the job is started again.
#[derive(Debug, Clone)]
pub struct Inquiry(broadcast::Sender<Question>);

/// A question to a node, on its way.
#[derive(Debug, Clone)]
pub(crate) struct Question {
    node: Arc<str>,
    text: Arc<str>,
    answers: mpsc::Sender<Result<String>>,
}

impl Default for Inquiry {
    fn default() -> Self {
        Self(broadcast::channel(WAITING).0)
    }
}

impl Inquiry {
    /// Asks the operators of `node`; none where nobody answers, because the job does
    /// not run. May take as long as a lane waits for those behind it.
    pub async fn ask(&self, node: &str, text: &str) -> Option<Result<String>> {
        let (answers, mut answered) = mpsc::channel(1);
        let question = Question {
            node: Arc::from(node),
            text: Arc::from(text),
            answers,
        };
        // Without a lane nobody holds the other end.
        let _ = self.0.send(question);
        answered.recv().await
    }

    /// Hears what is asked from now on.
    pub(crate) fn listen(&self) -> broadcast::Receiver<Question> {
        self.0.subscribe()
    }
}

impl Question {
    /// Whether it is for `node`.
    pub(crate) fn is_for(&self, node: &str) -> bool {
        *self.node == *node
    }

    /// What is asked.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Gives the answer; the first one counts.
    pub(crate) fn reply(&self, answer: Result<String>) {
        // Whoever asked may have gone.
        let _ = self.answers.try_send(answer);
    }
}
