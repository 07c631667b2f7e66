//! The stage after the exchange for session windows: joins panes, key by key.

use std::{collections::HashMap, sync::Arc, time::Duration};

use arrow::{
    array::{
        ArrayRef, AsArray, BooleanArray, RecordBatch, StructArray, TimestampMicrosecondArray,
        UInt8Array,
    },
    compute::{concat_batches, filter_record_batch, not},
    datatypes::TimestampMicrosecondType,
    row::{OwnedRow, RowConverter, Rows, SortField},
};
use tagflow_engine::{
    Batch, Error, EventTime, Port, Result,
    operator::{Operator, Output},
    state::{KeyHasher, LaneState, Snapshot, StatePart},
    time::micros,
};

use super::{
    finalize::{STRAGGLERS, by_pane},
    late,
    panes::Panes,
    spec::{Aggregation, LEAD, window_fields},
    stored::Restored,
    table::Table,
    watermark::StoredWatermark,
};

/// Sessions of each key.
///
/// A pane is narrower than the gap, so the rows of a key in one pane are of one
/// session, and panes hold partial aggregates with the first and the last event
/// time of each key. When the watermark passes the end of a pane it is *sealed*:
/// its groups are joined with the open sessions of their keys, where no more than
/// the gap lies between. Sessions whose last row is more than the gap before that
/// end go out.
///
/// A straggler is late if its own gap has passed and it joins no open session.
pub(super) struct Sessions {
    aggregation: Arc<Aggregation>,
    gap_us: i64,
    /// Panes that are not sealed.
    panes: Panes,
    /// Sessions, or parts of them, that may go on. Their first column is not
    /// theirs: states of any pane.
    open: Vec<Open>,
    /// First and last event times of `open` by key, once they are asked for.
    index: Option<HashMap<OwnedRow, Vec<Bounds>>>,
    sealed_through: StoredWatermark,
    rows: RowConverter,
    hasher: KeyHasher,
    next_part: u64,
    /// Stored parts of `open` that went since the last snapshot.
    removed: Vec<String>,
}

struct Open {
    /// The name of the part in the store; none before a snapshot has put it.
    key: Option<String>,
    states: RecordBatch,
}

/// The event times of the first and the last row of a session.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    first: i64,
    last: i64,
}

const PART: &str = "open";

impl Sessions {
    /// For sessions with `gap` between them.
    pub(super) fn new(aggregation: Arc<Aggregation>, gap: Duration) -> Result<Self> {
        let fields = aggregation.key_types().map(SortField::new).collect();
        Ok(Self {
            gap_us: micros(gap),
            panes: Panes::default(),
            open: Vec::new(),
            index: None,
            sealed_through: StoredWatermark::default(),
            rows: RowConverter::new(fields)?,
            hasher: KeyHasher::new(aggregation.key_types())?,
            next_part: 0,
            removed: Vec::new(),
            aggregation,
        })
    }

    fn on_states(&mut self, states: RecordBatch) -> Result<()> {
        let aggregation = Arc::clone(&self.aggregation);
        let sealed = self.sealed_through.get();
        for (start, states) in by_pane(states)? {
            let span = aggregation.pane(start)?;
            if aggregation.closes(span) <= sealed {
                return Err(Error::internal(format!(
                    "states of the pane at {} came to `{}` after {sealed}, when it was over",
                    EventTime::from_micros(start),
                    aggregation.spec.query,
                )));
            }
            if span.end <= sealed.as_micros() {
                self.add_open(None, states)?;
            } else {
                let pane = self.panes.change(&aggregation.spec.windows, span);
                pane.merge(&aggregation, &states)?;
            }
        }
        Ok(())
    }

    fn on_stragglers(&mut self, batch: &Batch, out: &mut Output) -> Result<()> {
        let aggregation = Arc::clone(&self.aggregation);
        let sealed = self.sealed_through.get();
        let mut behind = Vec::new();
        for (start, rows) in by_pane(batch.records.clone())? {
            let span = aggregation.pane(start)?;
            if span.end <= sealed.as_micros() {
                behind.push(rows);
                continue;
            }
            out.contributed(&batch.origin, rows.num_rows());
            let (groups, inputs) = aggregation.straggler(&rows)?;
            let pane = self.panes.change(&aggregation.spec.windows, span);
            pane.update(&aggregation, &groups, &inputs)?;
        }
        if behind.is_empty() {
            return Ok(());
        }

        let rows = concat_batches(&batch.records.schema(), &behind)?;
        let keys = self.keys(&rows)?;
        let times = rows
            .column(aggregation.group_width() + aggregation.spec.time)
            .as_primitive::<TimestampMicrosecondType>();
        let bounds = times.values().iter();
        let bounds: Vec<Bounds> = bounds
            .map(|time| Bounds {
                first: *time,
                last: *time,
            })
            .collect();
        let sessions = join(&keys, &bounds, self.gap_us);
        let mut late = Vec::with_capacity(rows.num_rows());
        for (row, session) in sessions.iter().enumerate() {
            let over = session.last.saturating_add(self.gap_us) < sealed.as_micros();
            late.push(over && !self.joins_open(&keys.row(row).owned(), *session)?);
        }
        let late = BooleanArray::from(late);
        if late.has_true() {
            let rows = filter_record_batch(&rows, &late)?;
            out.late(&batch.origin, rows.num_rows());
            let rows = late::rows(&aggregation, &batch.origin, sealed, &rows)?;
            out.emit_to(Port::ASIDE, Batch::derived(rows));
        }
        if late.has_false() {
            let starts = first_times(&sessions);
            let mut columns = rows.columns().to_vec();
            columns[0] = Arc::new(starts);
            let rows = RecordBatch::try_new(rows.schema(), columns)?;
            let rows = filter_record_batch(&rows, &not(&late)?)?;
            out.contributed(&batch.origin, rows.num_rows());
            let (groups, inputs) = aggregation.straggler(&rows)?;
            let mut table = Table::new(&aggregation)?;
            table.update(&aggregation, &groups, &inputs)?;
            self.add_open(None, table.into_states(&aggregation)?)?;
        }
        Ok(())
    }

    fn add_open(&mut self, key: Option<String>, states: RecordBatch) -> Result<()> {
        if let Some(mut index) = self.index.take() {
            self.extend(&mut index, &states)?;
            self.index = Some(index);
        }
        self.open.push(Open { key, states });
        Ok(())
    }

    /// Whether no more than the gap lies between `session` and an open one of `key`.
    fn joins_open(&mut self, key: &OwnedRow, session: Bounds) -> Result<bool> {
        let index = if let Some(index) = self.index.take() {
            index
        } else {
            let mut index = HashMap::new();
            for open in &self.open {
                self.extend(&mut index, &open.states)?;
            }
            index
        };
        let gap = self.gap_us;
        let near = |open: &Bounds| {
            session.first.saturating_sub(open.last) <= gap
                && open.first.saturating_sub(session.last) <= gap
        };
        let joins = index.get(key).is_some_and(|open| open.iter().any(near));
        self.index = Some(index);
        Ok(joins)
    }

    fn extend(
        &self,
        index: &mut HashMap<OwnedRow, Vec<Bounds>>,
        states: &RecordBatch,
    ) -> Result<()> {
        let keys = self.keys(states)?;
        for (key, bounds) in keys.iter().zip(bounds(states)) {
            index.entry(key.owned()).or_default().push(bounds);
        }
        Ok(())
    }

    fn keys(&self, rows: &RecordBatch) -> Result<Rows> {
        let keys = &rows.columns()[LEAD..self.aggregation.group_width()];
        Ok(self.rows.convert_columns(keys)?)
    }

    /// Seals the panes that end at `through` or before, and emits the sessions
    /// that are over by then.
    fn seal(&mut self, through: i64, out: &mut Output) -> Result<()> {
        let aggregation = Arc::clone(&self.aggregation);
        let mut parts = self.panes.seal(&aggregation, through)?;
        let over = |bounds: Bounds| bounds.last.saturating_add(self.gap_us) < through;
        if parts.is_empty() {
            let mut open = self.open.iter();
            if !open.any(|open| bounds(&open.states).any(over)) {
                return Ok(());
            }
        }
        for open in self.open.drain(..) {
            self.removed.extend(open.key);
            parts.push(open.states);
        }
        self.index = None;

        let rows = concat_batches(&aggregation.partial, &parts)?;
        let parts: Vec<Bounds> = bounds(&rows).collect();
        let sessions = join(&self.keys(&rows)?, &parts, self.gap_us);
        let mut columns = rows.columns().to_vec();
        columns[0] = Arc::new(first_times(&sessions));
        let rows = RecordBatch::try_new(rows.schema(), columns)?;
        let over = sessions.iter().map(|session| Some(over(*session)));
        let over: BooleanArray = over.collect();
        if over.has_true() {
            let mut table = Table::new(&aggregation)?;
            table.merge(&aggregation, filter_record_batch(&rows, &over)?.columns())?;
            self.emit(table, out)?;
        }
        if over.has_false() {
            let mut table = Table::new(&aggregation)?;
            table.merge(
                &aggregation,
                filter_record_batch(&rows, &not(&over)?)?.columns(),
            )?;
            self.add_open(None, table.into_states(&aggregation)?)?;
        }
        Ok(())
    }

    fn emit(&self, table: Table, out: &mut Output) -> Result<()> {
        let aggregation = &self.aggregation;
        let mut columns = table.into_results(aggregation)?;
        let last = columns.pop();
        let first = columns.pop();
        let (Some(first), Some(last)) = (first, last) else {
            return Err(Error::internal("a session without bounds"));
        };
        let ends: TimestampMicrosecondArray = last
            .as_primitive::<TimestampMicrosecondType>()
            .unary(|last| last.saturating_add(self.gap_us));
        let bounds: Vec<ArrayRef> = vec![first, Arc::new(ends.with_timezone("UTC"))];
        columns[0] = Arc::new(StructArray::try_new(window_fields(), bounds, None)?);
        if aggregation.keyless {
            columns.remove(LEAD);
        }
        let rows = RecordBatch::try_new(aggregation.output_schema(), columns)?;
        out.emit(Batch::derived(rows));
        Ok(())
    }
}

impl Operator for Sessions {
    fn on_batch(&mut self, input: Port, batch: Batch, out: &mut Output) -> Result<()> {
        if input == STRAGGLERS {
            self.on_stragglers(&batch, out)
        } else {
            self.on_states(batch.records)
        }
    }

    fn on_watermark(&mut self, watermark: EventTime, out: &mut Output) -> Result<()> {
        let width = self.aggregation.spec.windows.pane_width();
        let through = watermark.as_micros().div_euclid(width).checked_mul(width);
        let Some(through) = through else {
            // Before every event.
            return Ok(());
        };
        if through > self.sealed_through.get().as_micros() {
            self.seal(through, out)?;
            self.sealed_through.advance(EventTime::from_micros(through));
        }
        Ok(())
    }

    fn on_end(&mut self, out: &mut Output) -> Result<()> {
        let panes = self.panes.last().map(|pane| pane.end);
        let open = self.open.iter();
        let open = open.flat_map(|open| bounds(&open.states));
        let Some(last) = open.map(|open| open.last).chain(panes).max() else {
            return Ok(());
        };
        let width = self.aggregation.spec.windows.pane_width();
        let end = last.saturating_add(self.gap_us).saturating_add(width);
        self.on_watermark(EventTime::from_micros(end), out)
    }

    fn snapshot(&mut self) -> Result<Snapshot> {
        let mut snapshot = Snapshot {
            removed: std::mem::take(&mut self.removed),
            ..Snapshot::default()
        };
        self.panes
            .snapshot(&self.aggregation, &self.hasher, &mut snapshot)?;
        for open in &mut self.open {
            if open.key.is_none() {
                self.next_part += 1;
                let key = format!("{PART}-{}", self.next_part);
                let keys = &open.states.columns()[LEAD..self.aggregation.group_width()];
                let groups = UInt8Array::from(self.hasher.key_groups(keys)?);
                let mut columns = open.states.columns().to_vec();
                columns.push(Arc::new(groups));
                snapshot.put.push(StatePart {
                    key: key.clone(),
                    rows: RecordBatch::try_new(Arc::clone(&self.aggregation.stored), columns)?,
                });
                open.key = Some(key);
            }
        }
        self.sealed_through.snapshot(&mut snapshot)?;
        Ok(snapshot)
    }

    fn restore(&mut self, state: LaneState) -> Result<()> {
        for part in state.parts {
            if self.sealed_through.restore(&part, state.lanes)? {
                continue;
            }
            let number = part
                .key
                .strip_prefix(PART)
                .and_then(|key| key.strip_prefix('-'));
            let Some(number) = number.and_then(|number| number.parse().ok()) else {
                self.panes.restore(&self.aggregation, part, state.lanes)?;
                continue;
            };
            self.next_part = self.next_part.max(number);
            let aggregation = &self.aggregation;
            let Restored { key, states } =
                aggregation.restored(part, state.lanes, &mut self.removed)?;
            if states.num_rows() > 0 {
                self.open.push(Open { key, states });
            }
        }
        Ok(())
    }

    fn holds_rows(&self) -> bool {
        !(self.panes.is_empty() && self.open.is_empty())
    }

    fn closed_through(&self) -> EventTime {
        self.sealed_through.get()
    }

    fn state_bytes(&self) -> usize {
        let open = self.open.iter();
        let open = open.map(|open| open.states.get_array_memory_size());
        self.panes.bytes() + open.sum::<usize>()
    }
}

/// The first and last event times of session states: their last columns.
fn bounds(states: &RecordBatch) -> impl Iterator<Item = Bounds> {
    let width = states.num_columns();
    let times = |column: usize| {
        let times = states.column(column);
        times
            .as_primitive::<TimestampMicrosecondType>()
            .values()
            .clone()
    };
    let (firsts, lasts) = (times(width - 2), times(width - 1));
    (0..states.num_rows()).map(move |row| Bounds {
        first: firsts[row],
        last: lasts[row],
    })
}

/// The bounds of the session that each row is of: rows of one key, of which no
/// two neighbours are more than `gap` apart.
fn join(keys: &Rows, bounds: &[Bounds], gap: i64) -> Vec<Bounds> {
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

fn first_times(sessions: &[Bounds]) -> TimestampMicrosecondArray {
    let firsts = sessions.iter().map(|session| session.first);
    TimestampMicrosecondArray::from_iter_values(firsts).with_timezone("UTC")
}
