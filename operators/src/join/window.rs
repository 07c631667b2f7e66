//! Joins of the rows of two windows.

use std::sync::Arc;

use arrow::{
    array::{AsArray, UInt32Array},
    compute::take_record_batch,
    datatypes::TimestampMicrosecondType,
    record_batch::RecordBatch,
};
use tagflow_engine::{
    Batch, EventTime, Origin, Port, Result,
    operator::{Operator, Output, PagedOutput, Progress},
    state::{LaneState, Snapshot, StoredWatermark},
};

use super::{
    pairs::{Index, Keys, MAX_PAIRS, Pairs},
    spec::{Alone, JoinSpec},
};
use crate::{
    late::LateRows,
    portions::Portions,
    row_buffer::{RowBuffer, by_window_end},
};

/// Buffers the rows of both sides until their window has closed, then joins them by a
/// hash table of the right side.
pub(super) struct WindowJoin {
    pairs: Pairs,
    /// The sides' rows by the end of their window.
    held: [RowBuffer; 2],
    closed_through: StoredWatermark,
    /// The rows of the window that is closing, by side.
    closing: Option<[Portions; 2]>,
    /// The portions that are being joined.
    joining: Option<Joining>,
}

/// Some rows of a window, and the progress of their join.
struct Joining {
    rows: [RecordBatch; 2],
    /// Rows of the left side.
    keys: Keys,
    /// Rows of the right side.
    index: Index,
    /// Which rows of each side have a match.
    matched: [Vec<bool>; 2],
    /// The next row of the left side, and how many rows of the right side it has been
    /// paired with.
    next: (usize, usize),
}

impl WindowJoin {
    pub(super) fn new(spec: Arc<JoinSpec>, lane: usize) -> Result<Self> {
        let pairs = Pairs::new(spec)?;
        Ok(Self {
            held: pairs.held(lane)?,
            pairs,
            closed_through: StoredWatermark::default(),
            closing: None,
            joining: None,
        })
    }

    /// Takes the rows of the first closed window.
    fn close(&mut self) -> Result<Option<[Portions; 2]>> {
        let closed = self.closed_through.get().as_micros();
        let firsts = self.held.iter();
        let first = firsts.filter_map(|held| held.slots().next().map(|(end, _)| end));
        let Some(end) = first.min().filter(|end| *end <= closed) else {
            return Ok(None);
        };
        let [left, right] = self
            .held
            .each_mut()
            .map(|held| held.take(end).unwrap_or_default());
        // Equal keys are in portions with the same number.
        let count = RowBuffer::portions_of(&left).max(RowBuffer::portions_of(&right));
        Ok(Some([
            self.held[0].portions(left, count)?,
            self.held[1].portions(right, count)?,
        ]))
    }

    /// The next rows of the window that is closing.
    fn next(&self, closing: &mut [Portions; 2]) -> Result<Option<Joining>> {
        let [left, right] = closing;
        let (Some(left), Some(right)) = (left.next()?, right.next()?) else {
            return Ok(None);
        };
        let left = self.held[0].one_batch(&left)?;
        let right = self.held[1].one_batch(&right)?;
        let mut index = Index::default();
        let times = vec![0; right.num_rows()];
        index.add(&self.pairs.keys(1, &right)?, &times, 0);
        Ok(Some(Joining {
            keys: self.pairs.keys(0, &left)?,
            index,
            matched: [vec![false; left.num_rows()], vec![false; right.num_rows()]],
            next: (0, 0),
            rows: [left, right],
        }))
    }

    /// Emits the next pairs, and after the last pair the rows without a match. Returns
    /// whether more output remains.
    fn join(&self, joining: &mut Joining, out: &mut Output) -> Result<bool> {
        let pairs = joining.pairs();
        if !pairs[0].is_empty() {
            self.emit(joining, pairs, out)?;
            return Ok(true);
        }
        for (side, rows) in joining.rows.iter().enumerate() {
            if self.pairs.spec.sides[side].alone == Alone::Emit {
                let places = joining.matched[side].iter().enumerate();
                let places = places.filter(|(_, matched)| !**matched);
                let places: UInt32Array = places.map(|(place, _)| place as u32).collect();
                let rows = take_record_batch(rows, &places)?;
                out.emit(Batch::derived(self.pairs.alone(side, &rows)?));
            }
        }
        Ok(false)
    }

    fn emit(&self, joining: &mut Joining, pairs: [Vec<u32>; 2], out: &mut Output) -> Result<()> {
        let [left, right] = pairs.map(UInt32Array::from);
        let rows = [
            take_record_batch(&joining.rows[0], &left)?,
            take_record_batch(&joining.rows[1], &right)?,
        ];
        let (joined, holds) = self.pairs.join([&rows[0], &rows[1]], out)?;
        for pair in holds.values().set_indices() {
            joining.matched[0][left.value(pair) as usize] = true;
            joining.matched[1][right.value(pair) as usize] = true;
        }
        out.emit(Batch::derived(joined));
        Ok(())
    }

    fn late(&self, side: usize, rows: &RecordBatch, out: &mut Output) -> Result<()> {
        let spec = &self.pairs.spec;
        let window = rows.column(spec.sides[side].time).as_struct();
        let bound = |index: usize| {
            window
                .column(index)
                .as_primitive::<TimestampMicrosecondType>()
        };
        let columns: Vec<usize> = (0..spec.sides[side].columns).collect();
        let late = LateRows {
            pipeline: &spec.pipeline,
            query: &spec.query,
            origin: &Origin::Derived,
            event_times: bound(0).clone(),
            ends: bound(1).clone(),
            offsets: None,
            watermark: self.closed_through.get(),
            reason: "window_closed",
            personal: &spec.sides[side].personal,
            rows: rows.project(&columns)?,
        };
        out.emit_to(Port::SIDE, Batch::derived(late.into_batch()?));
        Ok(())
    }
}

impl Joining {
    /// The positions of the next pairs with equal keys, at most [`MAX_PAIRS`].
    fn pairs(&mut self) -> [Vec<u32>; 2] {
        let mut pairs: [Vec<u32>; 2] = Default::default();
        let (mut row, mut met) = self.next;
        while row < self.rows[0].num_rows() && pairs[0].len() < MAX_PAIRS {
            let places = self
                .keys
                .get(row)
                .map_or(&[][..], |key| self.index.get(key));
            if let Some((place, _)) = places.get(met) {
                pairs[0].push(row as u32);
                pairs[1].push(*place as u32);
                met += 1;
            } else {
                (row, met) = (row + 1, 0);
            }
        }
        self.next = (row, met);
        pairs
    }
}

impl Operator for WindowJoin {
    fn on_batch(&mut self, input: Port, batch: Batch, out: &mut Output) -> Result<()> {
        let side = usize::from(input.0);
        let closed = self.closed_through.get().as_micros();
        let window = self.pairs.spec.sides[side].time;
        for (end, rows) in by_window_end(&batch.records, window)? {
            if end <= closed {
                self.late(side, &rows, out)?;
            } else {
                self.held[side].push(end, rows);
            }
        }
        Ok(())
    }

    fn on_watermark(&mut self, watermark: EventTime, _out: &mut Output) -> Result<()> {
        self.closed_through.advance(watermark);
        Ok(())
    }

    fn on_end(&mut self, out: &mut Output) -> Result<()> {
        let lasts = self.held.iter();
        let last = lasts.filter_map(|held| held.slots().last().map(|(end, _)| end));
        match last.max() {
            Some(end) => self.on_watermark(EventTime::from_micros(end), out),
            None => Ok(()),
        }
    }

    fn holds_rows(&self) -> bool {
        self.held.iter().any(|held| held.slots().next().is_some())
    }

    fn snapshot(&mut self) -> Result<Snapshot> {
        let mut snapshot = Snapshot::default();
        for held in &mut self.held {
            held.snapshot(&mut snapshot)?;
        }
        self.closed_through.snapshot(&mut snapshot)?;
        Ok(snapshot)
    }

    fn restore(&mut self, state: LaneState) -> Result<()> {
        for part in &state.parts {
            self.closed_through.restore(part, state.lanes)?;
        }
        self.held
            .iter_mut()
            .try_for_each(|held| held.restore(&state))
    }

    fn closed_through(&self) -> EventTime {
        self.closed_through.get()
    }

    fn state_bytes(&self) -> usize {
        self.held.iter().map(RowBuffer::bytes).sum()
    }

    fn paged_output(&mut self) -> Option<&mut dyn PagedOutput> {
        Some(self)
    }
}

impl PagedOutput for WindowJoin {
    fn poll_output(&mut self, out: &mut Output) -> Result<Progress> {
        if let Some(mut joining) = self.joining.take() {
            if self.join(&mut joining, out)? {
                self.joining = Some(joining);
            }
            return Ok(Progress::More);
        }
        let closing = match self.closing.take() {
            Some(closing) => Some(closing),
            None => self.close()?,
        };
        let Some(mut closing) = closing else {
            return Ok(Progress::Done);
        };
        self.joining = self.next(&mut closing)?;
        if self.joining.is_some() {
            self.closing = Some(closing);
        }
        Ok(Progress::More)
    }
}
