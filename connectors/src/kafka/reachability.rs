//! Tracks whether the cluster answers, and the client's reason if it does not.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::queue::Report;

/// How long the cluster may give no answer, or only errors, before it counts as unreachable.
pub(super) const UNREACHABLE_AFTER: Duration = Duration::from_secs(5);

/// The state of a consumer's connection.
#[derive(Debug)]
pub(super) struct Reachability {
    topic: Arc<str>,
    brokers: String,
    down: bool,
    /// The last failure of a single broker. One of several may be down; if all are down, this is
    /// the reason.
    reason: Option<String>,
    /// The times of the first and the last error answer in a row of close ones.
    refusals: Option<(Instant, Instant)>,
}

impl Reachability {
    /// No failure yet.
    pub(super) fn new(topic: Arc<str>, brokers: String) -> Self {
        Self {
            topic,
            brokers,
            down: false,
            reason: None,
            refusals: None,
        }
    }

    /// Records why one broker failed.
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

    /// A broker has answered with a temporary error; reported once if only errors arrive for long.
    pub(super) fn refused(&mut self, reason: String, now: Instant) -> Option<Report> {
        let (first, _) = self.refusals_at(now).unwrap_or((now, now));
        self.refusals = Some((first, now));
        if now.saturating_duration_since(first) < UNREACHABLE_AFTER {
            return None;
        }
        self.reason = Some(reason);
        self.down("")
    }

    /// A broker is connected, whether it answers with errors or not.
    pub(super) fn connected(&mut self, now: Instant) -> Option<Report> {
        match self.refusals_at(now) {
            Some(_) => None,
            None => self.up(),
        }
    }

    fn refusals_at(&self, now: Instant) -> Option<(Instant, Instant)> {
        let recent = |last: Instant| now.saturating_duration_since(last) < UNREACHABLE_AFTER;
        self.refusals.filter(|(_, last)| recent(*last))
    }

    /// A broker has answered; reported if it was unreachable before.
    pub(super) fn up(&mut self) -> Option<Report> {
        self.refusals = None;
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

    #[test]
    fn errors_alone_for_long_are_no_answer() {
        let mut reachability = Reachability::new("t".into(), "b:9092".into());
        let begun = Instant::now();
        let at = |ms| begun + Duration::from_millis(ms);
        let mut refused = |ms| {
            let report = reachability.refused("disk error".into(), at(ms));
            (report.is_some(), reachability.connected(at(ms)).is_some())
        };
        assert_eq!(refused(0), (false, false));
        // The earlier errors are too old to be the same trouble.
        assert_eq!(refused(5_000), (false, false));
        assert_eq!(refused(9_000), (false, false));
        assert_eq!(refused(10_000), (true, false));
        assert_eq!(refused(14_000), (false, false), "reported once");
        assert!(reachability.connected(at(18_999)).is_none());
        assert!(matches!(
            reachability.connected(at(19_000)),
            Some(Report::Reachable(_))
        ));
    }
}
