//! De-duplication: which keys passed, and when.

use tagflow_engine::{
    Result,
    state::{KeyHash, Lanes, Snapshot, StatePart},
};

use super::{
    judge::{Judge, Verdict},
    slices::Slices,
};

/// Remembers what passed for `within_us` behind the watermark.
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

impl Judge for Dedupe {
    fn on_time(&mut self, key: KeyHash, time: i64) -> Verdict {
        let from = time.saturating_sub(self.within_us);
        let to = time.saturating_add(self.within_us);
        if self.passed.contains(key, from, to) {
            return Verdict::Duplicate;
        }
        self.passed.insert(key, time);
        Verdict::Pass(None)
    }

    fn behind(&mut self, key: KeyHash, time: i64, watermark: i64) -> Verdict {
        if time < watermark.saturating_sub(self.within_us) {
            return Verdict::Late;
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

    fn restore(&mut self, parts: Vec<StatePart>, lanes: Lanes) -> Result<()> {
        self.passed.restore(parts, lanes)
    }

    fn bytes(&self) -> usize {
        self.passed.bytes()
    }
}
