//! Shows the progress of a job on standard error: a live line on a terminal, plain lines elsewhere.

use std::{
    io::{self, IsTerminal, Write},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle, WeakProgressBar};
use tagflow_engine::{
    Clock as _, EventTime, SystemClock,
    status::{JobState, JobStatus},
};
use tokio::{sync::watch, time::Instant};

use crate::{human, terminal::Stream};

/// The time between plain lines while rows flow, and while none do.
const WHILE_FLOWING: Duration = Duration::from_secs(2);
const WHILE_QUIET: Duration = Duration::from_secs(30);

/// The live line, while there is one.
static LIVE: Mutex<Option<WeakProgressBar>> = Mutex::new(None);

/// Standard error for text beside the live line. The line is removed while text is written, so the
/// text does not continue it.
pub(crate) struct Stderr;

impl Write for Stderr {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        let live = LIVE.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let write = || io::stderr().write_all(text);
        match live.and_then(|line| line.upgrade()) {
            Some(line) => line.suspend(write)?,
            None => write()?,
        }
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

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
        if !io::stderr().is_terminal() {
            return Self::Lines(Pace::default());
        }
        let bar = ProgressBar::new_spinner();
        // An invalid template would only look plain.
        if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(120));
        *LIVE.lock().unwrap_or_else(PoisonError::into_inner) = Some(bar.downgrade());
        Self::Terminal(bar)
    }

    fn show(&mut self, status: &JobStatus) {
        match self {
            Self::Terminal(bar) => {
                let width = Stream::Err.width().unwrap_or(usize::MAX);
                let line = Line::of(status, SystemClock.now());
                // The spinner and a blank precede it.
                bar.set_message(line.within(width.saturating_sub(2)));
            }
            Self::Lines(pace) => {
                if pace.is_due(status, Instant::now()) {
                    let line = Line::of(status, SystemClock.now()).within(usize::MAX);
                    // Failing to show progress is no error.
                    let _ = writeln!(io::stderr(), "{line}");
                }
            }
        }
    }
}

/// When a plain line is due: at each change of state, and at intervals.
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

/// The job in one line: its parts, the most important ones first to last by
/// `weight`.
struct Line(Vec<Part>);

/// A part of the line, which is omitted if it does not fit.
struct Part {
    text: String,
    /// The part with the least weight is omitted first.
    weight: u8,
}

impl Line {
    fn of(status: &JobStatus, now: EventTime) -> Self {
        let JobStatus {
            pipeline, state, ..
        } = status;
        let whole = |text: String| {
            Self(vec![Part {
                text,
                weight: u8::MAX,
            }])
        };
        match &status.message {
            // The failure is reported when the process ends.
            Some(message) if *state != JobState::Failed => {
                return whole(format!("{pipeline} {state}: {message}"));
            }
            _ if [JobState::Starting, JobState::Failed].contains(state) => {
                return whole(format!("{pipeline} {state}"));
            }
            _ => {}
        }
        let late: u64 = status.nodes.values().map(|node| node.late).sum();
        let dead = status.dead_letters();
        let lag = status.lag().map_or(human::NOTHING.into(), human::count);
        let commit = status.commit.as_ref().map_or_else(
            || "no commit yet".to_owned(),
            |commit| format!("commit #{} {}", commit.seq, human::ago(commit.at, now)),
        );
        let parts = [
            (3, pipeline.clone()),
            (9, state.to_string()),
            (4, format!("{} rows", human::count(status.rows_in))),
            (1, format!("{}/s", human::rate(status.rows_in_per_s))),
            (5, format!("lag {lag}")),
            (0, format!("watermark {}", human::moment(status.watermark))),
            (7, format!("late {}", human::count(late))),
            (8, format!("dead {}", human::count(dead))),
            (6, commit),
        ];
        Self(parts.map(|(weight, text)| Part { text, weight }).into())
    }

    /// The parts that fit in `width`.
    fn within(mut self, width: usize) -> String {
        loop {
            let texts: Vec<&str> = self.0.iter().map(|part| part.text.as_str()).collect();
            let line = texts.join("  ");
            if self.0.len() <= 1 || line.chars().count() <= width {
                return line;
            }
            let lightest = (0..self.0.len()).min_by_key(|&place| self.0[place].weight);
            self.0.remove(lightest.unwrap_or_default());
        }
    }
}

#[cfg(test)]
mod tests {
    use tagflow_engine::status::{CommitStatus, NodeStatus, PartitionStatus};

    use super::*;

    fn line(status: &JobStatus, now: EventTime) -> String {
        Line::of(status, now).within(usize::MAX)
    }

    #[test]
    fn regression_eighty_columns_show_late_dead_and_commit() {
        let now = EventTime::from_micros(1_767_688_191_000_000);
        for rows in [0, 120_000, 123_456_789_012] {
            let mut status = JobStatus::starting("campaign-metrics", now);
            status.state = JobState::Running;
            status.rows_in = rows;
            status.rows_in_per_s = 44_881.0;
            status.watermark = Some(now);
            let partition = PartitionStatus {
                lag: Some(rows),
                dead_letters: rows,
                ..PartitionStatus::default()
            };
            status.partitions.insert("events:t/0".into(), partition);
            for width in [40, 60, 78, 120] {
                let line = Line::of(&status, now).within(width);
                assert!(line.chars().count() <= width, "{line}");
                if width >= 78 {
                    for part in ["running", "late ", "dead ", "commit"] {
                        assert!(line.contains(part), "{part}: {line}");
                    }
                }
            }
        }
    }

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
            "clicks  running  1,204,331 rows  81,204/s  lag 12,330  watermark 2026-01-06 08:29:51  \
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
