//! How many bad rows a job bears before it stops.

use std::{collections::VecDeque, time::Duration};

use crate::{Error, EventTime, Result};

/// Stop when too many rows cannot be read: something upstream is broken, and
/// going on would only fill the dead letters.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StopWhen {
    /// The share of dead letters, 0 to 1, above which the job stops.
    pub ratio: f64,
    /// The last stretch of processing time that is judged.
    pub over: Duration,
    /// With fewer rows in it nothing is judged.
    pub at_least: u64,
}

/// Judges the running totals of rows and dead letters.
pub(super) struct Tolerance {
    limit: Option<StopWhen>,
    /// Totals at earlier times, oldest first; one of them at least `over` ago.
    past: VecDeque<(EventTime, u64, u64)>,
}

impl Tolerance {
    /// Within `limit`, if there is one.
    pub(super) fn new(limit: Option<StopWhen>) -> Self {
        Self {
            limit,
            past: VecDeque::new(),
        }
    }

    /// Takes the totals as they stand.
    ///
    /// # Errors
    /// `Data` where the share of dead letters is too high.
    pub(super) fn judge(&mut self, now: EventTime, rows: u64, dead: u64) -> Result<()> {
        let Some(limit) = self.limit else {
            return Ok(());
        };
        if self.past.is_empty() {
            self.past.push_back((now, 0, 0));
        }
        let begin = now.saturating_sub(limit.over);
        while self.past.get(1).is_some_and(|(time, ..)| *time <= begin) {
            self.past.pop_front();
        }
        let (rows_before, dead_before) = self.past.front().map_or((0, 0), |past| (past.1, past.2));
        self.past.push_back((now, rows, dead));
        let (rows, dead) = (rows - rows_before, dead - dead_before);
        if rows < limit.at_least.max(1) || dead as f64 / rows as f64 <= limit.ratio {
            return Ok(());
        }
        Err(Error::data(format!(
            "{dead} of the last {rows} rows could not be read, more than `errors.stop_when.ratio` \
             allows ({}); the dead letters say why",
            limit.ratio
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> EventTime {
        EventTime::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn only_the_last_stretch_counts() {
        let over = Duration::from_secs(60);
        let limit = StopWhen {
            ratio: 0.1,
            over,
            at_least: 100,
        };
        let mut tolerance = Tolerance::new(Some(limit));
        tolerance.judge(at(0), 50, 50).unwrap(); // too few to judge
        tolerance.judge(at(10), 1000, 100).unwrap(); // a tenth is allowed
        tolerance.judge(at(70), 2000, 150).unwrap();
        let error = tolerance.judge(at(90), 2200, 260).unwrap_err();
        assert!(
            error.to_string().starts_with("160 of the last 1200 rows"),
            "{error}"
        );
        assert!(!error.is_retryable());
    }

    #[test]
    fn without_a_limit_nothing_stops() {
        Tolerance::new(None).judge(at(0), 10, 10).unwrap();
    }
}
