//! Decides how a job reacts when memory is short. Pure: the inputs are memory use and time, the
//! output is an action.
//!
//! From 85 % of the limit sources are paused, while the rows that were read pass to the sinks. If
//! that is not enough, at 92 % or after some seconds, a commit lets sinks finish their open files.
//! Reading continues below 80 %. The rest is state, which only further rows could reduce. The job
//! therefore ends with a message, before the system kills it.
//!
//! A commit needs memory too: it copies the state that is new since the last one, and state that it
//! merges. Sources are therefore also paused if the next commit would exceed the limit. It takes at
//! most the memory that was added since the last commit, and as much for merging as the largest of
//! the last ones. If the added memory alone is too much, the commit follows at once.

use std::{collections::VecDeque, time::Duration};

use crate::{Clock, Error, Result, Uptime, memory::MemoryLimit};

/// The interval of the checks.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(20);

/// In percent of the limit.
const PAUSE: u64 = 85;
const COMMIT: u64 = 92;
const GO_ON: u64 = 80;

/// In percent, including the memory that the next commit may need.
const PAUSE_WITH_COMMIT: u64 = 100;
const GO_ON_WITH_COMMIT: u64 = 95;

/// The number of commits that predict the next one: only some commits merge state.
const LAST_COMMITS: usize = 8;

/// How long reading is paused before a commit follows, below [`COMMIT`].
const BEFORE_COMMIT: Duration = Duration::from_secs(2);
/// How long after that commit the job ends. The allocator returns freed memory within ten seconds.
const GIVE_UP: Duration = Duration::from_secs(15);

/// In percent of the limit: the memory of the process before the first row is read.
const AT_START: u64 = 75;
/// The time that the allocator needs to return memory that the start has freed.
const BEFORE_START: Duration = Duration::from_secs(2);

/// Checks before the first row is read that the limit leaves room for rows.
///
/// # Errors
/// `Config` with the limit that is needed.
pub(super) async fn check_start(limit: &MemoryLimit, clock: &dyn Clock) -> Result<()> {
    let begun = clock.uptime();
    loop {
        let used_bytes = limit.gauge.used_bytes().unwrap_or_default();
        if used_bytes <= limit.bytes / 100 * AT_START {
            return Ok(());
        }
        if clock.uptime().since(begun) >= BEFORE_START {
            return Err(too_small(limit.bytes, used_bytes));
        }
        clock.sleep(LOOK_EVERY).await;
    }
}

fn too_small(limit_bytes: u64, used_bytes: u64) -> Error {
    let least = used_bytes / AT_START * 100;
    Error::config(format!(
        "`memory.limit` {} is too small: with its state and its `tables` in memory, and before \
         it reads a row, the pipeline takes {}; raise the limit to at least {} MiB",
        mib(limit_bytes),
        mib(used_bytes),
        least.div_ceil(1 << 20)
    ))
}

/// The action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MemoryAction {
    /// No change.
    None,
    /// Stop reading.
    Pause,
    /// Continue reading.
    GoOn,
    /// Commit, and let sinks finish their files.
    Commit,
}

/// The memory pressure of a job.
#[derive(Debug)]
pub(super) struct MemoryController {
    limit_bytes: u64,
    stage: Stage,
    /// The least use since the last commit began, or since the start.
    base_bytes: u64,
    /// The use when no commit was under way for the last time.
    idle_bytes: u64,
    /// Bytes of state that each of the last commits wrote beyond the memory added before it.
    merged_bytes: VecDeque<u64>,
}

#[derive(Debug, Clone, Copy)]
enum Stage {
    /// Sources are read.
    Reading,
    /// Sources are paused since this time.
    Paused(Uptime),
    /// A commit to free memory is under way.
    Committing,
    /// That commit finished at this time.
    Committed(Uptime),
}

impl MemoryController {
    /// The pressure under a limit.
    pub(super) fn new(limit_bytes: u64) -> Self {
        Self {
            limit_bytes,
            stage: Stage::Reading,
            base_bytes: u64::MAX,
            idle_bytes: 0,
            merged_bytes: VecDeque::with_capacity(LAST_COMMITS),
        }
    }

    /// Whether reading is paused.
    pub(super) fn is_paused(&self) -> bool {
        !matches!(self.stage, Stage::Reading)
    }

    /// Decides from the memory use and from whether no commit is under way.
    ///
    /// # Errors
    /// `Config` if no action helps.
    pub(super) fn judge(
        &mut self,
        now: Uptime,
        used_bytes: u64,
        idle: bool,
    ) -> Result<MemoryAction> {
        self.base_bytes = self.base_bytes.min(used_bytes);
        if idle {
            self.idle_bytes = used_bytes;
        }
        let at_least = |percent| used_bytes >= self.limit_bytes / 100 * percent;
        // A commit under way already has its memory.
        let next_bytes = match self.stage {
            Stage::Reading if !idle => 0,
            _ => self.next_bytes(),
        };
        let with_commit = |percent| used_bytes + next_bytes >= self.limit_bytes / 100 * percent;
        let for_long = |since, duration| now.since(since) >= duration;
        let relief = match self.stage {
            Stage::Reading if at_least(PAUSE) || with_commit(PAUSE_WITH_COMMIT) => {
                MemoryAction::Pause
            }
            Stage::Paused(_) | Stage::Committed(_)
                if !at_least(GO_ON) && !with_commit(GO_ON_WITH_COMMIT) =>
            {
                MemoryAction::GoOn
            }
            Stage::Paused(since)
                if idle
                    && (at_least(COMMIT)
                        || used_bytes + self.added_bytes() >= self.limit_bytes
                        || for_long(since, BEFORE_COMMIT)) =>
            {
                MemoryAction::Commit
            }
            Stage::Committed(since) if for_long(since, GIVE_UP) => {
                return Err(self.hopeless(used_bytes));
            }
            _ => MemoryAction::None,
        };
        self.stage = match relief {
            MemoryAction::None => self.stage,
            MemoryAction::Pause => Stage::Paused(now),
            MemoryAction::GoOn => Stage::Reading,
            MemoryAction::Commit => Stage::Committing,
        };
        Ok(relief)
    }

    /// A commit has finished. It wrote `put_bytes` of state, or `None` if nothing had changed. Only
    /// [`MemoryController::judge`] knows whether it was the commit to free memory.
    pub(super) fn committed(&mut self, now: Uptime, put_bytes: Option<u64>) {
        if let Some(put_bytes) = put_bytes {
            self.merged_bytes.truncate(LAST_COMMITS - 1);
            self.merged_bytes
                .push_front(put_bytes.saturating_sub(self.added_bytes()));
        }
        self.base_bytes = self.idle_bytes;
        if matches!(self.stage, Stage::Committing) {
            self.stage = Stage::Committed(now);
        }
    }

    /// The status message while reading is paused.
    pub(super) fn message(&self, used_bytes: u64) -> String {
        format!(
            "memory is short, so nothing is read: {}",
            self.taken(used_bytes)
        )
    }

    fn hopeless(&self, used_bytes: u64) -> Error {
        Error::config(format!(
            "the state of this pipeline does not fit into memory: with all files finished and \
             nothing being read it takes {}; raise the limit, or keep less \
             state (`tagflow explain --sizes` says which node takes how much); nothing is lost",
            self.taken(used_bytes)
        ))
    }

    /// The memory use, in words.
    fn taken(&self, used_bytes: u64) -> String {
        let limit = mib(self.limit_bytes);
        match self.next_bytes() >> 20 {
            0 => format!("{} of `memory.limit` {limit}", mib(used_bytes)),
            next => format!(
                "{}, and a commit up to {next} MiB more, of `memory.limit` {limit}",
                mib(used_bytes)
            ),
        }
    }

    /// The memory that the next commit may need.
    fn next_bytes(&self) -> u64 {
        let merged_bytes = self.merged_bytes.iter().copied().max();
        self.added_bytes() + merged_bytes.unwrap_or_default()
    }

    /// The memory that was added before the next commit, or before the one under way.
    fn added_bytes(&self) -> u64 {
        self.idle_bytes.saturating_sub(self.base_bytes)
    }
}

fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    const LIMIT: u64 = 1000 << 20;

    fn at(seconds: u64) -> Uptime {
        Uptime::after(Duration::from_secs(seconds))
    }

    /// Applies each `(second, percent)` in turn. A requested commit finishes at once.
    fn play(steps: &[(u64, u64)]) -> Vec<MemoryAction> {
        let mut pressure = MemoryController::new(LIMIT);
        let judge = |&(second, percent): &(u64, u64)| {
            let relief = pressure
                .judge(at(second), LIMIT / 100 * percent, true)
                .unwrap();
            if relief == MemoryAction::Commit {
                pressure.committed(at(second), None);
            }
            relief
        };
        steps.iter().map(judge).collect()
    }

    #[test]
    fn reading_stops_at_85_percent_and_goes_on_below_80() {
        use MemoryAction::{GoOn, None, Pause};
        let steps = [
            (0, 84),
            (0, 85),
            (1, 91),
            (1, 84),
            (1, 80),
            (1, 79),
            (5, 84),
        ];
        assert_eq!(play(&steps), [None, Pause, None, None, None, GoOn, None]);
    }

    #[test]
    fn a_commit_comes_early_at_92_percent_and_once() {
        use MemoryAction::{Commit, None, Pause};
        let steps = [(0, 95), (0, 91), (1, 92), (2, 99), (15, 99)];
        assert_eq!(play(&steps), [Pause, None, Commit, None, None]);
    }

    #[test]
    fn a_commit_comes_in_the_end_where_waiting_does_not_help() {
        use MemoryAction::{Commit, GoOn, None, Pause};
        let steps = [(0, 85), (1, 84), (2, 80), (6, 80), (16, 80), (16, 79)];
        assert_eq!(play(&steps), [Pause, None, Commit, None, None, GoOn]);
    }

    #[test]
    fn nothing_is_decided_while_the_commit_is_under_way() {
        let mut pressure = MemoryController::new(LIMIT);
        let mut judge = |second, idle| pressure.judge(at(second), LIMIT, idle).unwrap();
        assert_eq!(judge(0, false), MemoryAction::Pause);
        // One was under way before; the store may fail for any time.
        assert_eq!(judge(1800, false), MemoryAction::None);
        assert_eq!(judge(1800, true), MemoryAction::Commit);
        assert_eq!(judge(3600, false), MemoryAction::None);
        assert!(pressure.is_paused());
        pressure.committed(at(3600), None);
        assert_eq!(
            pressure.judge(at(3600), 0, true).unwrap(),
            MemoryAction::GoOn
        );
        assert!(!pressure.is_paused());
    }

    #[test]
    fn reading_stops_where_the_next_commit_would_not_fit() {
        let mut pressure = MemoryController::new(LIMIT);
        let percent = LIMIT / 100;
        let judge = |pressure: &mut MemoryController, second, used, idle| {
            pressure.judge(at(second), used * percent, idle).unwrap()
        };
        assert_eq!(judge(&mut pressure, 0, 54, true), MemoryAction::None);
        pressure.committed(at(0), Some(45 * percent));
        for _ in 0..LAST_COMMITS - 1 {
            pressure.committed(at(0), Some(percent));
        }
        assert_eq!(judge(&mut pressure, 0, 54, true), MemoryAction::None);
        // One is under way, and has its memory.
        assert_eq!(judge(&mut pressure, 0, 80, false), MemoryAction::None);
        assert_eq!(judge(&mut pressure, 0, 55, true), MemoryAction::Pause);
        assert!(
            pressure
                .message(55 * percent)
                .ends_with("550 MiB, and a commit up to 460 MiB more, of `memory.limit` 1000 MiB")
        );
        assert_eq!(judge(&mut pressure, 1, 50, true), MemoryAction::None);
        assert_eq!(judge(&mut pressure, 1, 50, false), MemoryAction::None);
        assert_eq!(judge(&mut pressure, 2, 49, true), MemoryAction::GoOn);
        // The large one no longer counts.
        pressure.committed(at(3), Some(percent));
        assert_eq!(judge(&mut pressure, 3, 73, true), MemoryAction::None);
    }

    #[test]
    fn a_commit_comes_at_once_where_it_would_soon_not_fit() {
        let mut pressure = MemoryController::new(LIMIT);
        let percent = LIMIT / 100;
        let judge = |pressure: &mut MemoryController, used, idle| {
            pressure.judge(at(0), used * percent, idle).unwrap()
        };
        assert_eq!(judge(&mut pressure, 40, true), MemoryAction::None);
        assert_eq!(judge(&mut pressure, 69, true), MemoryAction::None);
        assert_eq!(judge(&mut pressure, 70, true), MemoryAction::Pause);
        assert_eq!(judge(&mut pressure, 70, true), MemoryAction::Commit);
        // Its own memory does not count for the next one.
        assert_eq!(judge(&mut pressure, 99, false), MemoryAction::None);
        pressure.committed(at(0), Some(30 * percent));
        assert_eq!(judge(&mut pressure, 72, true), MemoryAction::GoOn);
        assert_eq!(judge(&mut pressure, 84, true), MemoryAction::None);
        assert_eq!(judge(&mut pressure, 85, true), MemoryAction::Pause);
    }

    #[tokio::test(start_paused = true)]
    async fn a_start_is_refused_where_rows_have_no_room() {
        use std::sync::{
            Arc,
            atomic::{AtomicU64, Ordering},
        };

        use crate::{EventTime, memory::MemoryGauge, testing::VirtualClock};

        /// Shows less with every look, but never less than the last number.
        struct Falling {
            looks: AtomicU64,
            first: u64,
            last: u64,
        }

        impl MemoryGauge for Falling {
            fn used_bytes(&self) -> Option<u64> {
                let looks = self.looks.fetch_add(1, Ordering::Relaxed);
                let percent = self.first.saturating_sub(looks).max(self.last);
                Some(LIMIT / 100 * percent)
            }
        }

        let check = async |first, last| {
            let looks = AtomicU64::new(0);
            let gauge = Arc::new(Falling { looks, first, last });
            let limit = MemoryLimit {
                bytes: LIMIT,
                gauge,
            };
            let clock = VirtualClock::starting_at(EventTime::from_micros(0));
            check_start(&limit, &clock).await
        };
        check(75, 0).await.unwrap();
        // The allocator gives back freed memory a moment later.
        check(90, 60).await.unwrap();
        let error = check(90, 76).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        let message = error.to_string();
        assert!(message.contains("takes 760 MiB"), "{message}");
        assert!(message.contains("at least 1014 MiB"), "{message}");
    }

    #[test]
    fn state_that_does_not_fit_is_an_error_that_names_the_setting() {
        let mut pressure = MemoryController::new(LIMIT);
        let mut judge = |second| {
            let relief = pressure.judge(at(second), LIMIT / 100 * 93, true);
            pressure.committed(at(second), None);
            relief
        };
        assert_eq!(judge(0).unwrap(), MemoryAction::Pause);
        assert_eq!(judge(0).unwrap(), MemoryAction::Commit);
        assert_eq!(judge(14).unwrap(), MemoryAction::None);
        let error = judge(15).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(!error.is_retryable());
        let message = error.to_string();
        assert!(
            message.contains("930 MiB of `memory.limit` 1000 MiB"),
            "{message}"
        );
    }
}
