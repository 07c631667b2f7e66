//! Whether the cluster answers, and what the client says why it does not.

use std::sync::Arc;

use super::queue::Report;

/// What is known of the connection of one consumer.
#[derive(Debug)]
pub(super) struct Reachability {
    topic: Arc<str>,
    brokers: String,
    down: bool,
    /// The last failure of a single broker. One of several may well be down;
    /// it tells the reason should all of them be.
    reason: Option<String>,
}

impl Reachability {
    /// Nothing has failed yet.
    pub(super) fn new(topic: Arc<str>, brokers: String) -> Self {
        Self {
            topic,
            brokers,
            down: false,
            reason: None,
        }
    }

    /// Remembers why one broker failed.
    pub(super) fn broker_failed(&mut self, reason: String) {
        self.reason = Some(reason);
    }

    /// No broker answers; reported once.
    pub(super) fn down(&mut self, otherwise: &str) -> Option<Report> {
        if self.down {
            return None;
        }
        self.down = true;
        let reason = self.reason.as_deref().unwrap_or(otherwise);
        let message = format!("cannot reach Kafka at `{}`: {reason}", self.brokers);
        Some(Report::Unreachable(Arc::clone(&self.topic), message))
    }

    /// A broker has answered; reported if it was not so before.
    pub(super) fn up(&mut self) -> Option<Report> {
        if !self.down {
            return None;
        }
        self.down = false;
        self.reason = None;
        Some(Report::Reachable(Arc::clone(&self.topic)))
    }

    /// The brokers, as the user gave them.
    pub(super) fn brokers(&self) -> &str {
        &self.brokers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_change_is_reported_once_with_the_reason() {
        let mut reachability = Reachability::new("t".into(), "b:9092".into());
        assert!(reachability.up().is_none());
        reachability.broker_failed("connection refused".into());
        let Some(Report::Unreachable(_, message)) = reachability.down("no answer") else {
            panic!("not reported")
        };
        assert_eq!(
            message,
            "cannot reach Kafka at `b:9092`: connection refused"
        );
        assert!(reachability.down("no answer").is_none());
        assert!(matches!(reachability.up(), Some(Report::Reachable(_))));
        let Some(Report::Unreachable(_, message)) = reachability.down("no answer") else {
            panic!("not reported")
        };
        assert_eq!(message, "cannot reach Kafka at `b:9092`: no answer");
    }
}
