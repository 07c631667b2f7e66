//! Sessions: runs of a key's rows without a long gap.

use tagflow_engine::{
    Result,
    state::{KeyHash, Restore, Snapshot, StatePart},
};

use super::{
    rule::{KeyedRule, RowOutcome},
    table::{Table, Times},
};

/// Finds the start of each row's session.
pub(super) struct Sessions {
    gap_us: i64,
    open: Table<Session>,
}

/// The first and the last time of a key's latest session.
#[derive(Default)]
struct Session(Option<(i64, i64)>);

impl Times for Session {
    fn push(&mut self, time: i64) {
        self.0 = Some((self.0.map_or(time, |(start, _)| start), time));
    }

    fn iter(&self) -> impl Iterator<Item = i64> + Clone {
        self.0.into_iter().flat_map(|(start, last)| [start, last])
    }

    fn bytes(&self) -> usize {
        0
    }
}

impl Sessions {
    pub(super) fn new(gap_us: i64) -> Self {
        Self {
            gap_us,
            open: Table::new(gap_us),
        }
    }
}

impl KeyedRule for Sessions {
    fn on_time(&mut self, key: KeyHash, time: i64) -> RowOutcome {
        let session = self.open.change(key);
        if let Session(Some((_, last))) = session
            && time.saturating_sub(*last) > self.gap_us
        {
            *session = Session::default();
        }
        session.push(time);
        RowOutcome::Pass(session.iter().next())
    }

    fn behind(&mut self, _key: KeyHash, _time: i64, _watermark: i64) -> RowOutcome {
        RowOutcome::Late
    }

    fn advance(&mut self, watermark: i64) {
        self.open.advance(watermark);
    }

    fn snapshot(&mut self, snapshot: &mut Snapshot) -> Result<()> {
        self.open.snapshot(snapshot)
    }

    fn restore(&mut self, parts: Vec<StatePart>, lanes: Restore) -> Result<()> {
        self.open.restore(parts, lanes)
    }

    fn bytes(&self) -> usize {
        self.open.bytes()
    }
}
