//! Joins of the events of two streams within a bound of time.

use std::{collections::BTreeMap, sync::Arc};

use arrow::{
    array::{AsArray, BooleanArray, TimestampMicrosecondArray, UInt32Array},
    compute::{filter_record_batch, not, take_record_batch},
    datatypes::{Int64Type, TimestampMicrosecondType},
    record_batch::RecordBatch,
};
use tagflow_engine::{
    Batch, EventTime, Port, Result,
    graph::OFFSET_COLUMN,
    operator::{Operator, Output, PagedOutput, Progress},
    state::{LaneState, Snapshot, StoredWatermark},
};

use super::{
    pairs::{Index, Keys, MAX_PAIRS, Pairs},
    spec::{Alone, JoinSpec},
};
use crate::{
    late::LateRows,
    row_buffer::{RowBuffer, by_slot},
};

/// The minimum width of a slot, so that a side that is ahead does not have too many
/// slots.
const MIN_SLOT_US: i64 = 60_000_000;

/// A row stays for this many slots, or one more.
pub(super) const SLOTS: i64 = 16;

/// Joins each row on arrival with the buffered rows of the other side, then buffers it.
/// The row stays until the watermark shows that no further row can match it. Two rows
/// that match are joined once: when the later one arrives.
///
/// A row behind the watermark is late, because rows that match it may have been dropped
/// or emitted without a match.
pub(super) struct IntervalJoin {
    pairs: Pairs,
    sides: [Side; 2],
    closed_through: StoredWatermark,
    /// Rows of a side that have no match yet and may still be emitted.
    alone: Option<(usize, RecordBatch)>,
}

struct Side {
    held: RowBuffer,
    index: BTreeMap<i64, Index>,
    slot_us: i64,
    /// How long after its own time a row can still find a match.
    reach_us: i64,
}

/// A candidate pair: the position of the row that arrived, and that of the buffered row.
#[derive(Default)]
struct Candidates {
    came: Vec<u32>,
    held: Vec<(i64, usize)>,
}

impl IntervalJoin {
    pub(super) fn new(spec: Arc<JoinSpec>, bound: [i64; 2], lane: usize) -> Result<Self> {
        let [min_us, max_us] = bound;
        let pairs = Pairs::new(spec)?;
        let side = |held: RowBuffer, reach_us: i64| Side {
            held,
            index: BTreeMap::new(),
            slot_us: (reach_us / SLOTS).max(MIN_SLOT_US),
            reach_us,
        };
        let [left, right] = pairs.held(lane)?;
        Ok(Self {
            sides: [side(left, max_us), side(right, min_us.saturating_neg())],
            pairs,
            closed_through: StoredWatermark::default(),
            alone: None,
        })
    }

    /// Emits the matches of `side`'s rows with the other side. Returns which of them
    /// matched.
    fn find(
        &mut self,
        side: usize,
        rows: &RecordBatch,
        keys: &Keys,
        times: &[i64],
        out: &mut Output,
    ) -> Result<Vec<bool>> {
        let other = 1 - side;
        let mut matched = vec![false; rows.num_rows()];
        let mut candidates = Candidates::default();
        for (row, &time) in times.iter().enumerate() {
            let Some(key) = keys.get(row) else { continue };
            // An earlier row can be matched up to its reach; a later row is at most this
            // much later.
            let earliest = time.saturating_sub(self.sides[other].reach_us);
            let latest = time.saturating_add(self.sides[side].reach_us);
            if earliest > latest {
                continue;
            }
            let slot_us = self.sides[other].slot_us;
            let slots = earliest.div_euclid(slot_us)..=latest.div_euclid(slot_us);
            let slots: Vec<i64> = self.sides[other]
                .index
                .range(slots)
                .map(|it| *it.0)
                .collect();
            for slot in slots {
                let places = self.sides[other].index[&slot].get(key).len();
                for nth in 0..places {
                    let (place, time) = self.sides[other].index[&slot].get(key)[nth];
                    if time < earliest || time > latest {
                        continue;
                    }
                    candidates.came.push(row as u32);
                    candidates.held.push((slot, place));
                    if candidates.came.len() == MAX_PAIRS {
                        self.emit(side, rows, &mut candidates, &mut matched, out)?;
                    }
                }
            }
        }
        self.emit(side, rows, &mut candidates, &mut matched, out)?;
        Ok(matched)
    }

    fn emit(
        &mut self,
        side: usize,
        rows: &RecordBatch,
        candidates: &mut Candidates,
        matched: &mut [bool],
        out: &mut Output,
    ) -> Result<()> {
        let Candidates { came, held } = std::mem::take(candidates);
        if came.is_empty() {
            return Ok(());
        }
        let other = 1 - side;
        let came = UInt32Array::from(came);
        let rows = take_record_batch(rows, &came)?;
        let found = self.sides[other].held.rows_at(&held)?;
        let both = match side {
            0 => [&rows, &found],
            _ => [&found, &rows],
        };
        let (joined, holds) = self.pairs.join(both, out)?;
        for pair in holds.values().set_indices() {
            matched[came.value(pair) as usize] = true;
            if self.pairs.spec.sides[other].alone == Alone::Emit {
                let (slot, place) = held[pair];
                self.sides[other].held.mark(slot, place);
            }
        }
        out.emit(Batch::derived(joined));
        Ok(())
    }

    /// Buffers rows of `side`. Rows in `matched` will not be emitted without a match.
    fn hold(&mut self, side: usize, rows: &RecordBatch, matched: &[bool]) -> Result<()> {
        let Self { pairs, sides, .. } = self;
        let spec = &pairs.spec.sides[side];
        let Side {
            held,
            index,
            slot_us,
            ..
        } = &mut sides[side];
        let slots = || {
            times(rows, spec.time)
                .values()
                .iter()
                .map(|it| it.div_euclid(*slot_us))
        };
        let mut matched_of: BTreeMap<i64, Vec<bool>> = BTreeMap::new();
        for (slot, matched) in slots().zip(matched) {
            matched_of.entry(slot).or_default().push(*matched);
        }
        for (slot, rows) in by_slot(rows, slots())? {
            let keys = pairs.keys(side, &rows)?;
            let times = times(&rows, spec.time).clone();
            let first = held.push(slot, rows);
            index
                .entry(slot)
                .or_default()
                .add(&keys, times.values(), first);
            if spec.alone == Alone::Emit {
                let matched = matched_of.remove(&slot).unwrap_or_default();
                let matched = matched
                    .into_iter()
                    .enumerate()
                    .filter(|(_, matched)| *matched);
                matched.for_each(|(row, _)| held.mark(slot, first + row));
            }
        }
        Ok(())
    }

    /// Drops slots that the watermark has passed. Returns the side and the rows of the
    /// first slot whose rows are emitted where they have no match.
    fn let_go(&mut self) -> Result<Option<(usize, RecordBatch)>> {
        let watermark = self.closed_through.get().as_micros();
        for (number, side) in self.sides.iter_mut().enumerate() {
            // The watermark must pass every row of a slot by its reach.
            let passed = watermark.saturating_sub(side.reach_us);
            let until = passed.div_euclid(side.slot_us).saturating_sub(1);
            while let Some((slot, rows)) = side.held.take_first(until) {
                side.index.remove(&slot);
                if self.pairs.spec.sides[number].alone == Alone::Emit {
                    let alone = side.held.concat(&rows)?;
                    let alone = take_record_batch(&alone, &rows.unmarked())?;
                    return Ok(Some((number, alone)));
                }
            }
        }
        Ok(None)
    }

    /// Sends rows behind the watermark to the late output, and returns the others.
    fn in_time(&self, side: usize, batch: &Batch, out: &mut Output) -> Result<RecordBatch> {
        let spec = &self.pairs.spec;
        let JoinSideColumns {
            time,
            columns,
            offset,
        } = JoinSideColumns::of(spec, side);
        let watermark = self.closed_through.get();
        let event_times = times(&batch.records, time);
        let late = BooleanArray::from_unary(event_times, |time| time < watermark.as_micros());
        if !late.has_true() {
            return Ok(batch.records.clone());
        }
        let rows = filter_record_batch(&batch.records, &late)?;
        out.late(&batch.origin, rows.num_rows());
        let event_times = times(&rows, time);
        let offsets = offset.map(|column| rows.column(column).as_primitive::<Int64Type>().clone());
        let late_rows = LateRows {
            pipeline: &spec.pipeline,
            query: &spec.query,
            origin: &batch.origin,
            event_times: event_times.clone(),
            ends: event_times.clone(),
            offsets,
            watermark,
            reason: "behind_watermark",
            personal: &spec.sides[side].personal,
            rows: rows.project(&columns)?,
        };
        out.emit_to(Port::SIDE, Batch::derived(late_rows.into_batch()?));
        Ok(filter_record_batch(&batch.records, &not(&late)?)?)
    }
}

/// The columns of a side's rows.
struct JoinSideColumns {
    time: usize,
    columns: Vec<usize>,
    offset: Option<usize>,
}

impl JoinSideColumns {
    fn of(spec: &JoinSpec, side: usize) -> Self {
        let side = &spec.sides[side];
        Self {
            time: side.time,
            columns: (0..side.columns).collect(),
            offset: side.input.index_of(OFFSET_COLUMN).ok(),
        }
    }
}

fn times(rows: &RecordBatch, column: usize) -> &TimestampMicrosecondArray {
    rows.column(column)
        .as_primitive::<TimestampMicrosecondType>()
}

impl Operator for IntervalJoin {
    fn on_batch(&mut self, input: Port, batch: Batch, out: &mut Output) -> Result<()> {
        let side = usize::from(input.0);
        let rows = self.in_time(side, &batch, out)?;
        if rows.num_rows() == 0 {
            return Ok(());
        }
        out.contributed(&batch.origin, rows.num_rows());
        let keys = self.pairs.keys(side, &rows)?;
        let event_times = times(&rows, self.pairs.spec.sides[side].time).clone();
        let matched = self.find(side, &rows, &keys, event_times.values(), out)?;
        self.hold(side, &rows, &matched)
    }

    fn on_watermark(&mut self, watermark: EventTime, _out: &mut Output) -> Result<()> {
        self.closed_through.advance(watermark);
        Ok(())
    }

    fn on_end(&mut self, out: &mut Output) -> Result<()> {
        if !self.holds_rows() {
            // No row is pending, and later runs can still join the row.
            return Ok(());
        }
        let ends = self.sides.iter().filter_map(|side| {
            let (last, _) = side.held.slots().last()?;
            let end = last.saturating_add(1).saturating_mul(side.slot_us);
            Some(end.saturating_add(side.reach_us))
        });
        match ends.max() {
            Some(end) => self.on_watermark(EventTime::from_micros(end), out),
            None => Ok(()),
        }
    }

    fn holds_rows(&self) -> bool {
        let sides = self.sides.iter().zip(&self.pairs.spec.sides);
        sides
            .filter(|(_, spec)| spec.alone == Alone::Emit)
            .any(|(side, _)| side.held.slots().next().is_some())
    }

    fn snapshot(&mut self) -> Result<Snapshot> {
        let mut snapshot = Snapshot::default();
        for side in &mut self.sides {
            side.held.snapshot(&mut snapshot)?;
        }
        self.closed_through.snapshot(&mut snapshot)?;
        Ok(snapshot)
    }

    fn restore(&mut self, state: LaneState) -> Result<()> {
        for part in &state.parts {
            self.closed_through.restore(part, state.lanes)?;
        }
        for (number, side) in self.sides.iter_mut().enumerate() {
            side.held.restore(&state)?;
            let time = self.pairs.spec.sides[number].time;
            for (slot, rows) in side.held.slots() {
                let index = side.index.entry(slot).or_default();
                for (first, rows) in rows.batches() {
                    let keys = self.pairs.keys(number, rows)?;
                    index.add(&keys, times(rows, time).values(), first);
                }
            }
        }
        Ok(())
    }

    fn closed_through(&self) -> EventTime {
        self.closed_through.get()
    }

    fn state_bytes(&self) -> usize {
        self.sides.iter().map(|side| side.held.bytes()).sum()
    }

    fn paged_output(&mut self) -> Option<&mut dyn PagedOutput> {
        Some(self)
    }
}

impl PagedOutput for IntervalJoin {
    fn poll_output(&mut self, out: &mut Output) -> Result<Progress> {
        let alone = match self.alone.take() {
            Some(alone) => Some(alone),
            None => self.let_go()?,
        };
        let Some((side, rows)) = alone else {
            return Ok(Progress::Done);
        };
        let some = rows.num_rows().min(MAX_PAIRS);
        let rest = rows.slice(some, rows.num_rows() - some);
        let rows = rows.slice(0, some);
        out.emit(Batch::derived(self.pairs.alone(side, &rows)?));
        self.alone = (rest.num_rows() > 0).then_some((side, rest));
        Ok(Progress::More)
    }
}
