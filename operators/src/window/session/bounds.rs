//! The bounds of sessions, and the rows within a session.

use arrow::{
    array::{AsArray, RecordBatch, TimestampMicrosecondArray},
    datatypes::TimestampMicrosecondType,
    row::Rows,
};

/// The event times of the first and the last row of a session, or of a part of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Bounds {
    pub(super) first: i64,
    pub(super) last: i64,
}

impl Bounds {
    /// The bounds of a single row.
    pub(super) fn at(time: i64) -> Self {
        Self {
            first: time,
            last: time,
        }
    }

    /// The bounds of session states: their last columns.
    pub(super) fn of(states: &RecordBatch) -> impl Iterator<Item = Self> + use<> {
        let width = states.num_columns();
        let times = |column: usize| {
            let times = states.column(column);
            times
                .as_primitive::<TimestampMicrosecondType>()
                .values()
                .clone()
        };
        let (firsts, lasts) = (times(width - 2), times(width - 1));
        (0..states.num_rows()).map(move |row| Self {
            first: firsts[row],
            last: lasts[row],
        })
    }

    /// Whether no more than `gap` is between the two.
    pub(super) fn is_near(self, other: Self, gap: i64) -> bool {
        self.first.saturating_sub(other.last) <= gap && other.first.saturating_sub(self.last) <= gap
    }

    /// From the first row of both to the last.
    pub(super) fn with(self, other: Self) -> Self {
        Self {
            first: self.first.min(other.first),
            last: self.last.max(other.last),
        }
    }
}

/// The bounds of each row's session: rows of a key in which no two neighbours are more than `gap`
/// apart.
pub(super) fn join(keys: &Rows, bounds: &[Bounds], gap: i64) -> Vec<Bounds> {
    let mut order: Vec<usize> = (0..bounds.len()).collect();
    order.sort_unstable_by(|a, b| {
        let keys = keys.row(*a).cmp(&keys.row(*b));
        keys.then(bounds[*a].first.cmp(&bounds[*b].first))
    });
    let mut joined = bounds.to_vec();
    let mut rest = order.as_slice();
    while let Some(&start) = rest.first() {
        let mut session = bounds[start];
        let next = rest.iter().position(|row| {
            let goes_on = keys.row(*row) == keys.row(start)
                && bounds[*row].first.saturating_sub(session.last) <= gap;
            if goes_on {
                session.last = session.last.max(bounds[*row].last);
            }
            !goes_on
        });
        let (session_rows, others) = rest.split_at(next.unwrap_or(rest.len()));
        for row in session_rows {
            joined[*row] = session;
        }
        rest = others;
    }
    joined
}

/// The column with the first event times of sessions.
pub(super) fn first_times<'a>(
    sessions: impl IntoIterator<Item = &'a Bounds>,
) -> TimestampMicrosecondArray {
    let firsts = sessions.into_iter().map(|session| session.first);
    TimestampMicrosecondArray::from_iter_values(firsts).with_timezone("UTC")
}

/// The column with the last event times of sessions.
pub(super) fn last_times<'a>(
    sessions: impl IntoIterator<Item = &'a Bounds>,
) -> TimestampMicrosecondArray {
    let lasts = sessions.into_iter().map(|session| session.last);
    TimestampMicrosecondArray::from_iter_values(lasts).with_timezone("UTC")
}
