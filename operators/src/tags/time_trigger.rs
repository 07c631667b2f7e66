//! The times at which a rule or a score changes without an event.

use super::value::Value;

/// A change of a rule or a score as time passes.
#[derive(Debug, Clone)]
pub(super) struct TimeTrigger {
    /// The tag with the time from which units are counted.
    pub(super) since: usize,
    pub(super) unit_us: i64,
    /// The numbers of units; `None` for each unit.
    pub(super) after: Option<Vec<i64>>,
    /// The score.
    pub(super) score: Option<usize>,
    /// The score with the thresholds in `after`.
    pub(super) thresholds_of: Option<usize>,
}

impl TimeTrigger {
    /// When, after `clock`, the next number of units has passed since `since`.
    pub(super) fn next(&self, since: &Value, clock: i64) -> Option<i64> {
        let Value::Int(since) = since else {
            return None;
        };
        let passed = clock.saturating_sub(*since).div_euclid(self.unit_us);
        let units = match &self.after {
            None => passed + 1,
            Some(after) => *after.get(after.partition_point(|units| *units <= passed))?,
        };
        Some(since.saturating_add(units.saturating_mul(self.unit_us)))
    }
}

/// The numbers of units at which a score with these thresholds may change.
pub(super) fn trigger_values(thresholds: Option<&[f64]>) -> Vec<i64> {
    let thresholds = thresholds.unwrap_or_default().iter();
    thresholds.map(|cut| cut.ceil() as i64).collect()
}
