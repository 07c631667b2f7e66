//! The stage after the exchange for session windows: joins panes, key by key.

mod bounds;
mod closed;
mod previews;

use std::{collections::HashMap, sync::Arc, time::Duration};

use arrow::{
    array::{
        ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, StructArray,
        TimestampMicrosecondArray,
    },
    compute::{concat_batches, filter_record_batch, not},
    datatypes::TimestampMicrosecondType,
    row::{OwnedRow, RowConverter, Rows, SortField},
};
use tagflow_engine::{
    Batch, Error, EventTime, Port, Result,
    operator::{Operator, Output, PagedOutput, Progress},
    state::{KeyHasher, LaneState, Parts, Snapshot, StoredWatermark},
    time::micros,
};

use self::{
    bounds::{Bounds, first_times, join, last_times},
    closed::{Closed, Taken},
    previews::{Previews, Shown},
};
use super::{
    columns::window_fields,
    finalize::{STRAGGLERS, by_pane},
    late,
    panes::Panes,
    spec::{Aggregation, LEAD},
    table::{Inputs, Results, Table},
};
use crate::portions::Portions;

/// Sessions of each key.
///
/// A pane is narrower than the gap, so the rows of a key in a pane belong to a single session.
/// Panes hold partial aggregates with the first and the last event time of each key. When the
/// watermark passes the end of a pane, the pane is *sealed*: its groups are joined with the open
/// sessions of their keys, if no more than the gap is between. Sessions whose last row is more than
/// the gap before that end are emitted.
///
/// A straggler is late if a session of this row alone would have closed more than the allowed
/// lateness ago, and no other session contains it. A straggler that is not late corrects its
/// emitted session. Emitted sessions that have grown or were joined are *retracted*, and the new
/// session is emitted once it is over. Emitted sessions therefore stay as long as a row that is not
/// late may join them.
///
/// A preview is an open session with its rows so far. A session that grows is a different window
/// each time, so the preview before is retracted.
pub(super) struct Sessions {
    aggregation: Arc<Aggregation>,
    gap_us: i64,
    /// Panes that are not sealed.
    panes: Panes,
    /// Open sessions, or parts of sessions. Their first column has no meaning: the states may
    /// belong to any pane.
    open: Parts<RecordBatch>,
    /// The bounds of `open` by key, computed on demand.
    index: Option<HashMap<OwnedRow, Vec<Bounds>>>,
    /// Emitted sessions; empty without an allowed lateness.
    closed: Closed,
    previews: Previews,
    sealed_through: StoredWatermark,
    rows: RowConverter,
    hasher: KeyHasher,
    /// The panes that are being joined with the open sessions.
    sealing: Option<Sealing>,
    /// The watermark whose previews follow.
    preview_at: Option<EventTime>,
    previewing: Option<(EventTime, Portions)>,
}

/// Panes that are being sealed, together with the open sessions.
struct Sealing {
    /// The end of the last pane.
    through: i64,
    portions: Portions,
}

/// Whether a row is the result of a session, or retracts the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Holds,
    Retracted,
}

/// The prefix of the names of stored parts with open sessions.
const PART: &str = "open-";

impl Sessions {
    /// The stage for sessions with `gap` between them.
    pub(super) fn new(aggregation: Arc<Aggregation>, gap: Duration) -> Result<Self> {
        let fields = aggregation.key_types().map(SortField::new).collect();
        Ok(Self {
            gap_us: micros(gap),
            panes: Panes::default(),
            open: Parts::default(),
            index: None,
            closed: Closed::default(),
            previews: Previews::new(aggregation.spec.emission.previews),
            sealed_through: StoredWatermark::default(),
            rows: RowConverter::new(fields)?,
            hasher: KeyHasher::new(aggregation.key_types())?,
            sealing: None,
            preview_at: None,
            previewing: None,
            aggregation,
        })
    }

    fn on_states(&mut self, states: RecordBatch, out: &mut Output) -> Result<()> {
        let aggregation = Arc::clone(&self.aggregation);
        let sealed = self.sealed_through.get();
        self.change(&states)?;
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
                self.join_sealed(states, out)?;
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
        self.change(&batch.records)?;
        let mut behind = Vec::new();
        for (start, rows) in by_pane(batch.records.clone())? {
            let span = aggregation.pane(start)?;
            if span.end <= sealed.as_micros() {
                behind.push(rows);
                continue;
            }
            out.contributed(&batch.origin, rows.num_rows());
            let (groups, inputs) = Inputs::straggler(&aggregation, &rows)?;
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
        let bounds: Vec<Bounds> = bounds.map(|time| Bounds::at(*time)).collect();
        let sessions = join(&keys, &bounds, self.gap_us);
        let late = self.are_late(&keys, &bounds, &sessions)?;
        if late.has_true() {
            let rows = filter_record_batch(&rows, &late)?;
            out.late(&batch.origin, rows.num_rows());
            let rows = late::rows(&aggregation, &batch.origin, sealed, &rows)?;
            out.emit_to(Port::SIDE, Batch::derived(rows));
        }
        if late.has_false() {
            let mut columns = rows.columns().to_vec();
            columns[0] = Arc::new(first_times(&sessions));
            let rows = RecordBatch::try_new(rows.schema(), columns)?;
            let rows = filter_record_batch(&rows, &not(&late)?)?;
            out.contributed(&batch.origin, rows.num_rows());
            let (groups, inputs) = Inputs::straggler(&aggregation, &rows)?;
            let mut table = Table::new(&aggregation)?;
            table.update(&aggregation, &groups, &inputs)?;
            self.join_sealed(table.into_states(&aggregation)?, out)?;
        }
        Ok(())
    }

    /// Whether each row of sealed panes is late; `sessions` are the sessions of these rows.
    ///
    /// With corrections, a row that is further behind than a gap and the lateness counts only
    /// inside a session: at its beginning it might join a session that has been dropped.
    fn are_late(
        &mut self,
        keys: &Rows,
        rows: &[Bounds],
        sessions: &[Bounds],
    ) -> Result<BooleanArray> {
        let lateness = self.aggregation.lateness_us;
        let sealed = self.sealed_through.get().as_micros();
        let gap = self.gap_us;
        let is_over = |bounds: Bounds| {
            let closes = bounds.last.saturating_add(gap).saturating_add(lateness);
            closes < sealed
        };
        let mut late = Vec::with_capacity(rows.len());
        if lateness == 0 {
            for (row, session) in sessions.iter().enumerate() {
                let key = keys.row(row).owned();
                late.push(is_over(*session) && self.near_open(&key, *session)?.is_empty());
            }
            return Ok(BooleanArray::from(late));
        }
        let closed = self.near_closed(keys, rows)?;
        for (row, bounds) in rows.iter().enumerate() {
            let key = keys.row(row).owned();
            let closed = closed.get(&key).into_iter().flatten();
            let mut near = self.near_open(&key, *bounds)?;
            near.extend(closed.filter(|it| it.is_near(*bounds, gap) && !is_over(**it)));
            let is_inside = near.iter().any(|it| it.first <= bounds.first)
                && near.iter().any(|it| it.last >= bounds.last);
            late.push(is_over(*bounds) && !is_inside);
        }
        Ok(BooleanArray::from(late))
    }

    /// The bounds of the closed sessions that may be near `sessions`, by key.
    fn near_closed(
        &mut self,
        keys: &Rows,
        sessions: &[Bounds],
    ) -> Result<HashMap<OwnedRow, Vec<Bounds>>> {
        let places = self.places(keys, sessions)?;
        let Taken { states, .. } = self.closed.get(&self.aggregation, &places)?;
        let mut known = HashMap::new();
        self.extend(&mut known, &states)?;
        Ok(known)
    }

    fn places(&mut self, keys: &Rows, sessions: &[Bounds]) -> Result<Vec<closed::Place>> {
        let width = self.aggregation.group_width();
        let keys_of = |states: &RecordBatch| {
            let keys = self.rows.convert_columns(&states.columns()[LEAD..width]);
            Ok(keys?)
        };
        self.closed.near(keys, sessions, self.gap_us, keys_of)
    }

    /// Adds states of sealed panes that are not late. They are open with the sessions that they
    /// join, or are emitted at once if these are over.
    fn join_sealed(&mut self, states: RecordBatch, out: &mut Output) -> Result<()> {
        let aggregation = Arc::clone(&self.aggregation);
        if aggregation.lateness_us == 0 {
            return self.add_open(states);
        }
        let bounds: Vec<Bounds> = Bounds::of(&states).collect();
        let places = self.places(&self.keys(&states)?, &bounds)?;
        let Taken {
            states: known,
            revisions,
        } = self.closed.get(&aggregation, &places)?;
        self.closed.take(places);

        let came = states.num_rows();
        let states = concat_batches(&aggregation.partial, [&states, &known])?;
        let bounds: Vec<Bounds> = Bounds::of(&states).collect();
        let keys = self.keys(&states)?;
        let sessions = join(&keys, &bounds, self.gap_us);
        let mut columns = states.columns().to_vec();
        columns[0] = Arc::new(first_times(&sessions));
        let states = RecordBatch::try_new(states.schema(), columns)?;
        let sealed = self.sealed_through.get().as_micros();
        let mut over = Vec::with_capacity(sessions.len());
        for (row, session) in sessions.iter().enumerate() {
            let is_over = session.last.saturating_add(self.gap_us) < sealed;
            let key = keys.row(row).owned();
            over.push(is_over && self.near_open(&key, *session)?.is_empty());
        }

        // The emitted revision of each session, and the sessions that no longer exist.
        let mut revised: HashMap<(OwnedRow, Bounds), i64> = HashMap::new();
        let mut retracted = Vec::with_capacity(revisions.len());
        for (row, revision) in (came..).zip(&revisions) {
            let known = revised
                .entry((keys.row(row).owned(), sessions[row]))
                .or_default();
            *known = (*known).max(*revision);
            retracted.push(!over[row] || bounds[row] != sessions[row]);
        }
        let retracted = BooleanArray::from(retracted);
        if retracted.has_true() {
            let known = filter_record_batch(&known, &retracted)?;
            let revisions = revisions.iter().zip(retracted.values());
            let revisions = revisions.filter(|(_, retracted)| *retracted);
            let shown = Bounds::of(&known).zip(revisions);
            let shown = shown.map(|(bounds, (&revision, _))| Shown { bounds, revision });
            let keys = &known.columns()[LEAD..aggregation.group_width()];
            self.retract(keys, &shown.collect::<Vec<_>>(), out)?;
        }

        let over = BooleanArray::from(over);
        if over.has_true() {
            let states = filter_record_batch(&states, &over)?;
            let revision = |key: OwnedRow, bounds: Bounds| {
                let before = revised.get(&(key, bounds));
                before.map_or(1, |revision| revision + 1)
            };
            self.come_out(&self.merged(&states)?, revision, out)?;
        }
        if over.has_false() {
            let states = filter_record_batch(&states, &not(&over)?)?;
            let states = self.merged(&states)?;
            self.add_open(states)?;
        }
        Ok(())
    }

    /// The sessions of `parts`, each session once.
    fn joined(&self, parts: &RecordBatch) -> Result<RecordBatch> {
        let bounds: Vec<Bounds> = Bounds::of(parts).collect();
        let sessions = join(&self.keys(parts)?, &bounds, self.gap_us);
        let mut columns = parts.columns().to_vec();
        columns[0] = Arc::new(first_times(&sessions));
        self.merged(&RecordBatch::try_new(parts.schema(), columns)?)
    }

    /// The groups of `states`, each group once.
    fn merged(&self, states: &RecordBatch) -> Result<RecordBatch> {
        if states.num_rows() == 0 {
            return Ok(states.clone());
        }
        let mut table = Table::new(&self.aggregation)?;
        table.merge(&self.aggregation, states.columns())?;
        table.into_states(&self.aggregation)
    }

    fn add_open(&mut self, states: RecordBatch) -> Result<()> {
        if let Some(mut index) = self.index.take() {
            self.extend(&mut index, &states)?;
            self.index = Some(index);
        }
        self.open.push(states);
        Ok(())
    }

    /// The open sessions of `key`, or parts of sessions, at most a gap from `session`.
    fn near_open(&mut self, key: &OwnedRow, session: Bounds) -> Result<Vec<Bounds>> {
        let index = if let Some(index) = self.index.take() {
            index
        } else {
            let mut index = HashMap::new();
            for states in self.open.iter() {
                self.extend(&mut index, states)?;
            }
            index
        };
        let open = index.get(key).into_iter().flatten();
        let near = open.filter(|it| it.is_near(session, self.gap_us));
        let near = near.copied().collect();
        self.index = Some(index);
        Ok(near)
    }

    fn extend(
        &self,
        index: &mut HashMap<OwnedRow, Vec<Bounds>>,
        states: &RecordBatch,
    ) -> Result<()> {
        let keys = self.keys(states)?;
        for (key, bounds) in keys.iter().zip(Bounds::of(states)) {
            index.entry(key.owned()).or_default().push(bounds);
        }
        Ok(())
    }

    fn keys(&self, rows: &RecordBatch) -> Result<Rows> {
        let keys = &rows.columns()[LEAD..self.aggregation.group_width()];
        Ok(self.rows.convert_columns(keys)?)
    }

    /// Begins to seal the panes that end at or before `through`.
    fn seal(&mut self, through: i64) -> Result<()> {
        let aggregation = Arc::clone(&self.aggregation);
        let mut parts = self.panes.seal(&aggregation, through)?;
        let gap_us = self.gap_us;
        let over = |bounds: Bounds| bounds.last.saturating_add(gap_us) < through;
        if parts.is_empty() {
            let is_any_over = self.open.iter().flat_map(Bounds::of).any(over);
            if !is_any_over {
                self.sealed(through);
                return Ok(());
            }
        }
        parts.extend(self.open.take_all());
        self.index = None;
        self.sealing = Some(Sealing {
            through,
            portions: aggregation.portions(&self.hasher, parts)?,
        });
        Ok(())
    }

    /// Joins the sessions of some keys, and emits those that are over at `through`.
    fn seal_portion(
        &mut self,
        through: i64,
        parts: &[RecordBatch],
        out: &mut Output,
    ) -> Result<()> {
        let gap_us = self.gap_us;
        let over = |bounds: Bounds| bounds.last.saturating_add(gap_us) < through;
        let sessions = self.joined(&concat_batches(&self.aggregation.partial, parts)?)?;
        let over: BooleanArray = Bounds::of(&sessions).map(|it| Some(over(it))).collect();
        if over.has_true() {
            let sessions = filter_record_batch(&sessions, &over)?;
            self.come_out(&sessions, |_, _| 0, out)?;
        }
        if over.has_false() {
            let sessions = filter_record_batch(&sessions, &not(&over)?)?;
            self.add_open(sessions)?;
        }
        Ok(())
    }

    /// Finishes the sealing of the panes that end at or before `through`.
    fn sealed(&mut self, through: i64) {
        self.sealed_through.advance(EventTime::from_micros(through));
        // A row that is not late is at most a gap and the lateness behind, and joins sessions at
        // most another gap before it.
        let reach = self.gap_us.saturating_mul(2);
        let reach = reach.saturating_add(self.aggregation.lateness_us);
        self.closed.retire(through.saturating_sub(reach));
    }

    /// Records the keys of states or stragglers whose sessions changed.
    fn change(&mut self, rows: &RecordBatch) -> Result<()> {
        if self.aggregation.spec.emission.previews.is_some() {
            let keys = self.keys(rows)?;
            self.previews.change(&keys);
        }
        Ok(())
    }

    /// If `watermark` has passed a multiple of the preview interval, begins to emit previews of the
    /// open sessions of the changed keys.
    fn preview(&mut self, watermark: EventTime) -> Result<()> {
        let aggregation = Arc::clone(&self.aggregation);
        if !self.previews.are_due(watermark) {
            return Ok(());
        }
        let mut parts = self.panes.states(&aggregation)?;
        parts.extend(self.open.iter().cloned());
        for part in &mut parts {
            let changed = self.previews.which_changed(&self.keys(part)?);
            *part = filter_record_batch(part, &changed)?;
        }
        let portions = aggregation.portions(&self.hasher, parts)?;
        self.previewing = Some((watermark, portions));
        Ok(())
    }

    /// Emits the open sessions of some keys.
    fn preview_portion(
        &mut self,
        watermark: EventTime,
        parts: &[RecordBatch],
        out: &mut Output,
    ) -> Result<()> {
        let aggregation = Arc::clone(&self.aggregation);
        let sessions = self.joined(&concat_batches(&aggregation.partial, parts)?)?;
        let gap_us = self.gap_us;
        let end = |bounds: Bounds| bounds.last.saturating_add(gap_us);
        // The others are emitted with their final result when their last pane is sealed.
        let are_open = Bounds::of(&sessions).map(|it| Some(end(it) > watermark.as_micros()));
        let sessions = filter_record_batch(&sessions, &are_open.collect())?;

        self.supersede(&sessions, out)?;
        let keys = self.keys(&sessions)?;
        let mut revisions = Vec::with_capacity(sessions.num_rows());
        for (key, bounds) in keys.iter().zip(Bounds::of(&sessions)) {
            let revision = self.previews.revision(watermark, end(bounds));
            let shown = Shown { bounds, revision };
            self.previews.show(key.owned(), shown);
            revisions.push(revision);
        }
        self.emit(&sessions, &revisions, Standing::Holds, out)
    }

    /// Retracts the previews that `sessions` replace.
    fn supersede(&mut self, sessions: &RecordBatch, out: &mut Output) -> Result<()> {
        if self.previews.is_empty() {
            return Ok(());
        }
        let keys = self.keys(sessions)?;
        let (mut of_keys, mut superseded) = (Vec::new(), Vec::new());
        for (key, bounds) in keys.iter().zip(Bounds::of(sessions)) {
            let shown = self.previews.supersede(&key.owned(), bounds);
            of_keys.extend(shown.iter().map(|_| key));
            superseded.extend(shown);
        }
        self.retract(&self.rows.convert_rows(of_keys)?, &superseded, out)
    }

    /// Emits sessions, and keeps them if they may be corrected. `revision` returns the revision of
    /// a key's session.
    fn come_out(
        &mut self,
        sessions: &RecordBatch,
        revision: impl Fn(OwnedRow, Bounds) -> i64,
        out: &mut Output,
    ) -> Result<()> {
        if !self.aggregation.spec.emission.revises() {
            return self.emit(sessions, &[], Standing::Holds, out);
        }
        self.supersede(sessions, out)?;
        let keys = self.keys(sessions)?;
        let revisions: Vec<i64> = keys
            .iter()
            .zip(Bounds::of(sessions))
            .map(|(key, bounds)| revision(key.owned(), bounds))
            .collect();
        self.emit(sessions, &revisions, Standing::Holds, out)?;
        if self.aggregation.lateness_us == 0 {
            return Ok(());
        }
        self.closed
            .add(sessions.clone(), Int64Array::from(revisions))
    }

    /// Emits retractions of sessions of `keys`. Their aggregates have the values of no row.
    fn retract(&self, keys: &[ArrayRef], shown: &[Shown], out: &mut Output) -> Result<()> {
        if shown.is_empty() {
            return Ok(());
        }
        let aggregation = &self.aggregation;
        let bounds: Vec<Bounds> = shown.iter().map(|shown| shown.bounds).collect();
        let revisions: Vec<i64> = shown.iter().map(|shown| shown.revision + 1).collect();
        let mut columns: Vec<ArrayRef> = vec![Arc::new(first_times(&bounds))];
        columns.extend_from_slice(keys);
        for aggregate in 0..aggregation.visible().len() {
            columns.extend(Table::empty_states(aggregation, aggregate, shown.len())?);
        }
        columns.push(Arc::new(first_times(&bounds)));
        columns.push(Arc::new(last_times(&bounds)));
        let empty = RecordBatch::try_new(Arc::clone(&aggregation.partial), columns)?;
        self.emit(&empty, &revisions, Standing::Retracted, out)
    }

    fn emit(
        &self,
        sessions: &RecordBatch,
        revisions: &[i64],
        standing: Standing,
        out: &mut Output,
    ) -> Result<()> {
        if sessions.num_rows() == 0 {
            return Ok(());
        }
        let aggregation = &self.aggregation;
        let mut table = Table::new(aggregation)?;
        table.merge(aggregation, sessions.columns())?;
        let Results { mut columns, unfit } = table.into_results(aggregation)?;
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
        if aggregation.spec.emission.revises() {
            let rows = revisions.len();
            let is_retracted = standing == Standing::Retracted;
            let are_final = revisions.iter().map(|revision| Some(*revision >= 0));
            columns.push(Arc::new(Int64Array::from(revisions.to_vec())));
            columns.push(Arc::new(are_final.collect::<BooleanArray>()));
            columns.push(Arc::new(BooleanArray::from(vec![is_retracted; rows])));
        }
        let rows = RecordBatch::try_new(aggregation.output_schema(), columns)?;
        aggregation.report(&unfit, &rows, out)?;
        out.emit(Batch::derived(rows));
        Ok(())
    }
}

impl Operator for Sessions {
    fn on_batch(&mut self, input: Port, batch: Batch, out: &mut Output) -> Result<()> {
        if input == STRAGGLERS {
            self.on_stragglers(&batch, out)
        } else {
            self.on_states(batch.records, out)
        }
    }

    fn on_watermark(&mut self, watermark: EventTime, _out: &mut Output) -> Result<()> {
        let width = self.aggregation.spec.windows.pane_width();
        let through = watermark.as_micros().div_euclid(width).checked_mul(width);
        let Some(through) = through else {
            // Before every event.
            return Ok(());
        };
        if through > self.sealed_through.get().as_micros() {
            self.seal(through)?;
        }
        self.preview_at = Some(watermark);
        Ok(())
    }

    fn on_end(&mut self, out: &mut Output) -> Result<()> {
        let panes = self.panes.last().map(|pane| pane.end);
        let open = self.open.iter().flat_map(Bounds::of);
        let Some(last) = open.map(|open| open.last).chain(panes).max() else {
            return Ok(());
        };
        let width = self.aggregation.spec.windows.pane_width();
        let end = last.saturating_add(self.gap_us).saturating_add(width);
        self.on_watermark(EventTime::from_micros(end), out)
    }

    fn snapshot(&mut self) -> Result<Snapshot> {
        let mut snapshot = Snapshot::default();
        self.panes
            .snapshot(&self.aggregation, &self.hasher, &mut snapshot)?;
        let keys = self.aggregation.hash_columns();
        self.open.snapshot(PART, &mut snapshot, |states| {
            self.hasher.with_key_groups(states, &keys)
        })?;
        self.closed
            .snapshot(&self.aggregation, &self.hasher, &mut snapshot)?;
        self.previews
            .snapshot(&self.rows, &self.hasher, &mut snapshot)?;
        self.sealed_through.snapshot(&mut snapshot)?;
        Ok(snapshot)
    }

    fn restore(&mut self, state: LaneState) -> Result<()> {
        for part in state.parts {
            if self.sealed_through.restore(&part, state.lanes)?
                || self.closed.restore(&self.aggregation, &part, state.lanes)?
            {
                continue;
            }
            if self
                .previews
                .restore(&part, state.lanes, &self.rows, self.gap_us)?
            {
                continue;
            }
            if !part.key.starts_with(PART) {
                self.panes.restore(&self.aggregation, part, state.lanes)?;
                continue;
            }
            let part = self.aggregation.restored(part, state.lanes)?;
            if part.states.num_rows() > 0 {
                part.add_to(&mut self.open, |states| states);
            }
        }
        if !self.aggregation.spec.emission.revises() {
            self.previews.forget();
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
        let open = open.map(RecordBatch::get_array_memory_size);
        let outstanding = self.closed.bytes() + self.previews.bytes();
        self.panes.bytes() + open.sum::<usize>() + outstanding
    }

    fn paged_output(&mut self) -> Option<&mut dyn PagedOutput> {
        Some(self)
    }
}

impl PagedOutput for Sessions {
    fn poll_output(&mut self, out: &mut Output) -> Result<Progress> {
        if let Some(mut sealing) = self.sealing.take() {
            if let Some(parts) = sealing.portions.next_filled()? {
                self.seal_portion(sealing.through, &parts, out)?;
                self.sealing = Some(sealing);
                return Ok(Progress::More);
            }
            self.sealed(sealing.through);
        }
        if let Some(watermark) = self.preview_at.take() {
            self.preview(watermark)?;
        }
        let Some((watermark, mut portions)) = self.previewing.take() else {
            return Ok(Progress::Done);
        };
        if let Some(parts) = portions.next_filled()? {
            self.preview_portion(watermark, &parts, out)?;
            self.previewing = Some((watermark, portions));
            return Ok(Progress::More);
        }
        self.previews.are_out(watermark);
        Ok(Progress::Done)
    }

    /// A session is emitted when a sealed pane has passed its end. Its last instant is therefore
    /// not before the last instant of that pane.
    fn output_watermark(&self, _watermark: EventTime) -> EventTime {
        let sealed = self.sealed_through.get();
        sealed.saturating_sub(Duration::from_micros(1))
    }
}
