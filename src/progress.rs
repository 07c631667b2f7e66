//! What a running job shows on standard error: a live line on a terminal,
//! plain lines elsewhere.

use std::{
    io::{IsTerminal, Write as _},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};
use tagflow_engine::{
    Clock as _, EventTime, SystemClock,
    status::{JobState, JobStatus},
};
use tokio::{sync::watch, time::Instant};

use crate::figures;

/// The time between plain lines while rows flow, and while none does.
const WHILE_FLOWING: Duration = Duration::from_secs(2);
const WHILE_QUIET: Duration = Duration::from_secs(30);

/// Shows a job until it ends.
pub(crate) async fn follow(mut status: watch::Receiver<JobStatus>) {
    let mut view = View::new();
    loop {
        let now = status.borrow_and_update().clone();
        view.show(&now);
        if status.changed().await.is_err() {
            break;
        }
    }
    if let View::Terminal(bar) = view {
        bar.finish_and_clear();
    }
}

enum View {
    Terminal(ProgressBar),
    Lines(Pace),
}

impl View {
    fn new() -> Self {
        if !std::io::stderr().is_terminal() {
            return Self::Lines(Pace::default());
        }
        let bar = ProgressBar::new_spinner();
        // A template that is wrong would only look plain.
        if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(120));
        Self::Terminal(bar)
    }

    fn show(&mut self, status: &JobStatus) {
        match self {
            Self::Terminal(bar) => bar.set_message(line(status, SystemClock.now())),
            Self::Lines(pace) => {
                if pace.is_due(status, Instant::now()) {
                    let line = line(status, SystemClock.now());
                    // Progress is not worth failing for.
                    let _ = writeln!(std::io::stderr(), "{line}");
                }
            }
        }
    }
}

/// When a plain line is due: at each change of state, and now and then.
#[derive(Default)]
struct Pace {
    last: Option<(Instant, JobState, Option<String>, u64)>,
}

impl Pace {
    fn is_due(&mut self, status: &JobStatus, now: Instant) -> bool {
        let due = match &self.last {
            None => true,
            Some((at, state, message, rows_in)) => {
                let every = if *rows_in == status.rows_in {
                    WHILE_QUIET
                } else {
                    WHILE_FLOWING
                };
                *state != status.state || *message != status.message || now - *at >= every
            }
        };
        if due {
            self.last = Some((now, status.state, status.message.clone(), status.rows_in));
        }
        due
    }
}

/// The job in one line.
fn line(status: &JobStatus, now: EventTime) -> String {
    let JobStatus {
        pipeline, state, ..
    } = status;
    match &status.message {
        // What it failed with is reported when the process ends.
        Some(message) if *state != JobState::Failed => {
            return format!("{pipeline} {state}: {message}");
        }
        _ if [JobState::Starting, JobState::Failed].contains(state) => {
            return format!("{pipeline} {state}");
        }
        _ => {}
    }
    let late: u64 = status.nodes.values().map(|node| node.late).sum();
    let dead: u64 = status
        .partitions
        .values()
        .map(|partition| partition.dead_letters)
        .sum();
    let commit = status.commit.as_ref().map_or_else(
        || "no commit yet".to_owned(),
        |commit| format!("commit #{} {}", commit.seq, figures::ago(commit.at, now)),
    );
    format!(
        "{pipeline} {state}  {} rows  {}/s  lag {}  watermark {}  late {}  dead {}  {commit}",
        figures::count(status.rows_in),
        figures::rate(status.rows_in_per_s),
        status.lag().map_or(figures::NOTHING.into(), figures::count),
        figures::moment(status.watermark),
        figures::count(late),
        figures::count(dead),
    )
}

#[cfg(test)]
mod tests {
    use tagflow_engine::status::{CommitStatus, NodeStatus, PartitionStatus};

    use super::*;

    #[test]
    fn a_line_tells_the_job() {
        let mut status = JobStatus::starting("clicks", EventTime::from_micros(0));
        let now = EventTime::from_micros(1_767_688_191_000_000);
        assert_eq!(line(&status, now), "clicks starting");

        status.state = JobState::Running;
        status.rows_in = 1_204_331;
        status.rows_in_per_s = 81_203.7;
        status.watermark = Some(now);
        let partition = PartitionStatus {
            lag: Some(12_330),
            dead_letters: 17,
            ..PartitionStatus::default()
        };
        status.partitions.insert("events:t/0".into(), partition);
        let node = NodeStatus {
            late: 2,
            ..NodeStatus::default()
        };
        status.nodes.insert("minute".into(), node);
        assert_eq!(
            line(&status, now),
            "clicks running  1,204,331 rows  81,204/s  lag 12,330  watermark 2026-01-06 08:29:51  \
             late 2  dead 17  no commit yet"
        );
        status.commit = Some(CommitStatus {
            seq: 12,
            at: now.saturating_sub(Duration::from_secs(6)),
            took_ms: 1,
            files: 0,
            file_bytes: 0,
            state_written_bytes: 0,
            state_bytes: 0,
        });
        assert!(line(&status, now).ends_with("  commit #12 6s ago"));
        status.message = Some("source `events` cannot be reached: refused".into());
        assert_eq!(
            line(&status, now),
            "clicks running: source `events` cannot be reached: refused"
        );
        status.state = JobState::Failed;
        assert_eq!(line(&status, now), "clicks failed");
    }

    #[test]
    fn lines_come_at_changes_and_at_their_pace() {
        let mut status = JobStatus::starting("clicks", EventTime::from_micros(0));
        let mut pace = Pace::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(pace.is_due(&status, at(0)));
        assert!(!pace.is_due(&status, at(3)), "nothing moves");
        status.state = JobState::Running;
        assert!(pace.is_due(&status, at(3)), "it runs");
        status.rows_in = 5;
        assert!(!pace.is_due(&status, at(4)));
        assert!(pace.is_due(&status, at(5)), "rows flow");
        assert!(!pace.is_due(&status, at(34)));
        assert!(pace.is_due(&status, at(35)), "a sign of life");
    }
}
