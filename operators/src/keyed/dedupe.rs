//! De-duplication: which keys passed, and when.

use tagflow_engine::{
    Result,
    state::{KeyHash, Restore, Snapshot, StatePart},
};

use super::{
    rule::{KeyedRule, RowOutcome},
    slices::Slices,
};

/// Remembers passed rows for `within_us` behind the watermark.
pub(super) struct Dedupe {
    within_us: i64,
    passed: Slices,
}

impl Dedupe {
    pub(super) fn new(within_us: i64) -> Self {
        Self {
            within_us,
            passed: Slices::new(within_us),
        }
    }
}

impl KeyedRule for Dedupe {
    fn on_time(&mut self, key: KeyHash, time: i64) -> RowOutcome {
        let from = time.saturating_sub(self.within_us);
        let to = time.saturating_add(self.within_us);
        if self.passed.contains(key, from, to) {
            return RowOutcome::Duplicate;
        }
        self.passed.insert(key, time);
        RowOutcome::Pass(None)
    }

    fn behind(&mut self, key: KeyHash, time: i64, watermark: i64) -> RowOutcome {
        if time < watermark.saturating_sub(self.within_us) {
            return RowOutcome::Late;
        }
        self.on_time(key, time)
    }

    fn advance(&mut self, watermark: i64) {
        self.passed
            .forget_before(watermark.saturating_sub(self.within_us));
    }

    fn reach_us(&self) -> i64 {
        self.within_us
    }

    fn snapshot(&mut self, snapshot: &mut Snapshot) -> Result<()> {
        self.passed.snapshot(snapshot)
    }

    fn restore(&mut self, parts: Vec<StatePart>, lanes: Restore) -> Result<()> {
        self.passed.restore(parts, lanes)
    }

    fn bytes(&self) -> usize {
        self.passed.bytes()
    }
}
