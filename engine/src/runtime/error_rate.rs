//! The limit of bad rows at which a job stops.

use std::{collections::VecDeque, time::Duration};

use crate::{Error, Result, Uptime};

/// Stops a job when too many rows cannot be decoded: an upstream system is broken, and further rows
/// would only fill the dead letters.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ErrorRateLimit {
    /// The share of dead letters, 0 to 1, above which the job stops.
    pub ratio: f64,
    /// The span of processing time that counts.
    pub over: Duration,
    /// With fewer rows in this span the job never stops.
    pub at_least: u64,
}

/// Checks the running totals of rows and dead letters.
pub(super) struct ErrorRateMonitor {
    limit: Option<ErrorRateLimit>,
    /// Totals at earlier times, oldest first; at least one is `over` ago.
    past: VecDeque<(Uptime, u64, u64)>,
}

impl ErrorRateMonitor {
    /// A check against `limit`, if there is one.
    pub(super) fn new(limit: Option<ErrorRateLimit>) -> Self {
        Self {
            limit,
            past: VecDeque::new(),
        }
    }

    /// Checks the current totals.
    ///
    /// # Errors
    /// `Data` if the share of dead letters is too high.
    pub(super) fn judge(&mut self, now: Uptime, rows: u64, dead: u64) -> Result<()> {
        let Some(limit) = self.limit else {
            return Ok(());
        };
        if self.past.is_empty() {
            self.past.push_back((now, 0, 0));
        }
        let is_past = |time: Uptime| now.since(time) >= limit.over;
        while self.past.get(1).is_some_and(|(time, ..)| is_past(*time)) {
            self.past.pop_front();
        }
        let (rows_before, dead_before) = self.past.front().map_or((0, 0), |past| (past.1, past.2));
        self.past.push_back((now, rows, dead));
        let (rows, dead) = (rows - rows_before, dead - dead_before);
        if rows < limit.at_least.max(1) || dead as f64 / rows as f64 <= limit.ratio {
            return Ok(());
        }
        Err(Error::data(format!(
            "{dead} of the last {rows} rows became dead letters, more than `errors.stop_when.ratio` \
             allows ({}); the dead letters say why",
            limit.ratio
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Uptime {
        Uptime::after(Duration::from_secs(seconds))
    }

    #[test]
    fn only_the_last_stretch_counts() {
        let over = Duration::from_mins(1);
        let limit = ErrorRateLimit {
            ratio: 0.1,
            over,
            at_least: 100,
        };
        let mut tolerance = ErrorRateMonitor::new(Some(limit));
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
        ErrorRateMonitor::new(None).judge(at(0), 10, 10).unwrap();
    }
}
