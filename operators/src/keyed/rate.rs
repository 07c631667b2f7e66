//! The rate of a key's rows.

use std::collections::VecDeque;

use tagflow_engine::{
    Result,
    state::{KeyHash, Restore, Snapshot, StatePart},
};

use super::{
    rule::{KeyedRule, RowOutcome},
    table::{Table, Times},
};

/// Finds the rows whose key has had more than `more_than` rows in the `over_us` up to the
/// row.
pub(super) struct Rate {
    over_us: i64,
    more_than: usize,
    recent: Table<Recent>,
}

/// The last rows of a key, only as many as the decision needs.
#[derive(Default)]
struct Recent(VecDeque<i64>);

impl Times for Recent {
    fn push(&mut self, time: i64) {
        self.0.push_back(time);
    }

    fn iter(&self) -> impl Iterator<Item = i64> + Clone {
        self.0.iter().copied()
    }

    fn bytes(&self) -> usize {
        self.0.capacity() * size_of::<i64>()
    }

    fn last(&self) -> i64 {
        self.0.back().copied().unwrap_or(i64::MIN)
    }
}

impl Rate {
    pub(super) fn new(over_us: i64, more_than: usize) -> Self {
        Self {
            over_us,
            more_than,
            recent: Table::new(over_us),
        }
    }
}

impl KeyedRule for Rate {
    fn on_time(&mut self, key: KeyHash, time: i64) -> RowOutcome {
        let from = time.saturating_sub(self.over_us);
        let Recent(times) = self.recent.change(key);
        // At most as many as the decision needs: if the first of them counts, all do.
        let is_full = times.len() == self.more_than;
        let is_over = is_full && times.front().is_none_or(|first| *first > from);
        times.push_back(time);
        if is_full {
            times.pop_front();
        }
        RowOutcome::Pass(Some(i64::from(is_over)))
    }

    fn behind(&mut self, key: KeyHash, time: i64, _watermark: i64) -> RowOutcome {
        let from = time.saturating_sub(self.over_us);
        let others = self.recent.get(key).into_iter().flat_map(Times::iter);
        let others = others.filter(|other| *other > from && *other <= time);
        RowOutcome::Pass(Some(i64::from(others.count() >= self.more_than)))
    }

    fn advance(&mut self, watermark: i64) {
        self.recent.advance(watermark);
    }

    fn snapshot(&mut self, snapshot: &mut Snapshot) -> Result<()> {
        self.recent.snapshot(snapshot)
    }

    fn restore(&mut self, parts: Vec<StatePart>, lanes: Restore) -> Result<()> {
        self.recent.restore(parts, lanes)
    }

    fn bytes(&self) -> usize {
        self.recent.bytes()
    }
}
