//! What a job does when memory gets short. Decisions only: what the process
//! takes and what time it is come in, what to do comes out.
//!
//! From 85 % of the limit on nothing is read, while what was read goes on to the
//! sinks. Where that does not help, at 92 % or after some seconds, a commit lets
//! sinks finish the files that they hold open. Reading goes on below 80 %. What is
//! left otherwise is state, which only rows to come could make smaller, so the job
//! ends and says so, sooner than the system would kill it.
//!
//! A commit takes memory of its own: state is merged, and both the old and the new
//! are there for a while. So nothing is read either where a commit like the largest
//! of the last ones would not fit any more.

use std::{collections::VecDeque, time::Duration};

use crate::{Error, EventTime, Result};

/// How often a job looks.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Percent of the limit.
const PAUSE: u64 = 85;
const COMMIT: u64 = 92;
const GO_ON: u64 = 80;

/// Together with what the next commit may take.
const PAUSE_WITH_COMMIT: u64 = 105;
const GO_ON_WITH_COMMIT: u64 = 100;

/// How many commits tell what the next one may take: state is merged with one of some.
const LAST_COMMITS: usize = 8;

/// How long reading stands still before a commit is to help, below [`COMMIT`].
const BEFORE_COMMIT: Duration = Duration::from_secs(5);
/// How long after it to give up. The allocator gives back what was freed within
/// ten seconds.
const GIVE_UP: Duration = Duration::from_secs(15);

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Relief {
    /// Nothing else than before.
    None,
    /// Read no further.
    Pause,
    /// Read on.
    GoOn,
    /// Commit, and let sinks finish their files.
    Commit,
}

/// How short memory is.
#[derive(Debug)]
pub(super) struct Pressure {
    limit_bytes: u64,
    stage: Stage,
    /// Bytes of state that each of the last commits has put.
    put_bytes: VecDeque<u64>,
}

#[derive(Debug, Clone, Copy)]
enum Stage {
    /// Rows are read.
    Reading,
    /// None are, since then.
    Paused(EventTime),
    /// A commit is under way that is to help.
    Committing,
    /// It was done then.
    Committed(EventTime),
}

impl Pressure {
    /// Under a limit.
    pub(super) fn new(limit_bytes: u64) -> Self {
        Self {
            limit_bytes,
            stage: Stage::Reading,
            put_bytes: VecDeque::with_capacity(LAST_COMMITS),
        }
    }

    /// Whether reading stands still.
    pub(super) fn is_paused(&self) -> bool {
        !matches!(self.stage, Stage::Reading)
    }

    /// Takes what the process takes, and whether no commit is under way.
    ///
    /// # Errors
    /// `Config` where nothing helps.
    pub(super) fn judge(&mut self, now: EventTime, used_bytes: u64, idle: bool) -> Result<Relief> {
        let at_least = |percent| used_bytes >= self.limit_bytes / 100 * percent;
        // One that is under way has what it takes.
        let next_bytes = match self.stage {
            Stage::Reading if !idle => 0,
            _ => self.next_bytes(),
        };
        let with_commit = |percent| used_bytes + next_bytes >= self.limit_bytes / 100 * percent;
        let for_long = |since, duration| now.since(since) >= duration;
        let relief = match self.stage {
            Stage::Reading if at_least(PAUSE) || with_commit(PAUSE_WITH_COMMIT) => Relief::Pause,
            Stage::Paused(_) | Stage::Committed(_)
                if !at_least(GO_ON) && !with_commit(GO_ON_WITH_COMMIT) =>
            {
                Relief::GoOn
            }
            Stage::Paused(since)
                if idle && (at_least(COMMIT) || for_long(since, BEFORE_COMMIT)) =>
            {
                Relief::Commit
            }
            Stage::Committed(since) if for_long(since, GIVE_UP) => {
                return Err(self.hopeless(used_bytes));
            }
            _ => Relief::None,
        };
        self.stage = match relief {
            Relief::None => self.stage,
            Relief::Pause => Stage::Paused(now),
            Relief::GoOn => Stage::Reading,
            Relief::Commit => Stage::Committing,
        };
        Ok(relief)
    }

    /// A commit was done that put `put_bytes` of state, none where nothing had changed;
    /// whether it is the one that is to help only [`Pressure::judge`] knows.
    pub(super) fn committed(&mut self, now: EventTime, put_bytes: Option<u64>) {
        if let Some(put_bytes) = put_bytes {
            self.put_bytes.truncate(LAST_COMMITS - 1);
            self.put_bytes.push_front(put_bytes);
        }
        if matches!(self.stage, Stage::Committing) {
            self.stage = Stage::Committed(now);
        }
    }

    /// What is said while reading stands still.
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

    /// What is taken, in words.
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

    /// What the next commit may take.
    fn next_bytes(&self) -> u64 {
        self.put_bytes.iter().copied().max().unwrap_or_default()
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

    fn at(seconds: i64) -> EventTime {
        EventTime::from_micros(seconds * 1_000_000)
    }

    /// Judges `(second, percent)` in turn; a commit that is asked for is done at
    /// once.
    fn play(steps: &[(i64, u64)]) -> Vec<Relief> {
        let mut pressure = Pressure::new(LIMIT);
        let judge = |&(second, percent): &(i64, u64)| {
            let relief = pressure
                .judge(at(second), LIMIT / 100 * percent, true)
                .unwrap();
            if relief == Relief::Commit {
                pressure.committed(at(second), None);
            }
            relief
        };
        steps.iter().map(judge).collect()
    }

    #[test]
    fn reading_stops_at_85_percent_and_goes_on_below_80() {
        use Relief::{GoOn, None, Pause};
        let steps = [
            (0, 84),
            (0, 85),
            (1, 91),
            (2, 84),
            (3, 80),
            (4, 79),
            (5, 84),
        ];
        assert_eq!(play(&steps), [None, Pause, None, None, None, GoOn, None]);
    }

    #[test]
    fn a_commit_comes_early_at_92_percent_and_once() {
        use Relief::{Commit, None, Pause};
        let steps = [(0, 95), (0, 91), (1, 92), (2, 99), (15, 99)];
        assert_eq!(play(&steps), [Pause, None, Commit, None, None]);
    }

    #[test]
    fn a_commit_comes_in_the_end_where_waiting_does_not_help() {
        use Relief::{Commit, GoOn, None, Pause};
        let steps = [(0, 85), (4, 84), (5, 80), (6, 80), (19, 80), (19, 79)];
        assert_eq!(play(&steps), [Pause, None, Commit, None, None, GoOn]);
    }

    #[test]
    fn nothing_is_decided_while_the_commit_is_under_way() {
        let mut pressure = Pressure::new(LIMIT);
        let mut judge = |second, idle| pressure.judge(at(second), LIMIT, idle).unwrap();
        assert_eq!(judge(0, false), Relief::Pause);
        // One was under way before; the store may be away for as long as it likes.
        assert_eq!(judge(1800, false), Relief::None);
        assert_eq!(judge(1800, true), Relief::Commit);
        assert_eq!(judge(3600, false), Relief::None);
        assert!(pressure.is_paused());
        pressure.committed(at(3600), None);
        assert_eq!(pressure.judge(at(3600), 0, true).unwrap(), Relief::GoOn);
        assert!(!pressure.is_paused());
    }

    #[test]
    fn reading_stops_where_the_next_commit_would_not_fit() {
        let mut pressure = Pressure::new(LIMIT);
        let percent = LIMIT / 100;
        let judge = |pressure: &mut Pressure, second, used, idle| {
            pressure.judge(at(second), used * percent, idle).unwrap()
        };
        pressure.committed(at(0), Some(45 * percent));
        for _ in 0..LAST_COMMITS - 1 {
            pressure.committed(at(0), Some(percent));
        }
        assert_eq!(judge(&mut pressure, 0, 59, true), Relief::None);
        // One is under way, and has what it takes.
        assert_eq!(judge(&mut pressure, 0, 80, false), Relief::None);
        assert_eq!(judge(&mut pressure, 0, 60, true), Relief::Pause);
        assert!(
            pressure
                .message(60 * percent)
                .ends_with("600 MiB, and a commit up to 450 MiB more, of `memory.limit` 1000 MiB")
        );
        assert_eq!(judge(&mut pressure, 1, 55, true), Relief::None);
        assert_eq!(judge(&mut pressure, 1, 55, false), Relief::None);
        assert_eq!(judge(&mut pressure, 2, 54, true), Relief::GoOn);
        // The large one is forgotten.
        pressure.committed(at(3), Some(percent));
        assert_eq!(judge(&mut pressure, 3, 80, true), Relief::None);
    }

    #[test]
    fn state_that_does_not_fit_is_an_error_that_names_the_setting() {
        let mut pressure = Pressure::new(LIMIT);
        let mut judge = |second| {
            let relief = pressure.judge(at(second), LIMIT / 100 * 93, true);
            pressure.committed(at(second), None);
            relief
        };
        assert_eq!(judge(0).unwrap(), Relief::Pause);
        assert_eq!(judge(0).unwrap(), Relief::Commit);
        assert_eq!(judge(14).unwrap(), Relief::None);
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
