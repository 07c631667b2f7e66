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
    operator::{Operator, Output},
    state::{LaneState, Snapshot},
};

use super::{
    pairs::{Index, MAX_PAIRS, Pairs},
    spec::{Alone, JoinSpec},
};
use crate::{
    held::{Held, Slot, by_window_end},
    late::LateRows,
    window::StoredWatermark,
};

/// Holds the rows of both sides until their window has closed, then joins them
/// by a hash table of the right side.
pub(super) struct WindowJoin {
    pairs: Pairs,
    /// The sides' rows by the end of their window.
    held: [Held; 2],
    closed_through: StoredWatermark,
}

impl WindowJoin {
    pub(super) fn new(spec: Arc<JoinSpec>, lane: usize) -> Result<Self> {
        let pairs = Pairs::new(spec)?;
        Ok(Self {
            held: pairs.held(lane)?,
            pairs,
            closed_through: StoredWatermark::default(),
        })
    }

    /// Joins what is held of one window.
    fn close(&self, slots: [Option<Slot>; 2], out: &mut Output) -> Result<()> {
        let rows = |side: usize| {
            let empty = || RecordBatch::new_empty(Arc::clone(&self.pairs.spec.sides[side].input));
            match &slots[side] {
                Some(slot) => self.held[side].concat(slot),
                None => Ok(empty()),
            }
        };
        let (left, right) = (rows(0)?, rows(1)?);
        let mut index = Index::default();
        let times = vec![0; right.num_rows()];
        index.add(&self.pairs.keys(1, &right)?, &times, 0);

        let mut matched = [vec![false; left.num_rows()], vec![false; right.num_rows()]];
        let mut pairs: [Vec<u32>; 2] = Default::default();
        let keys = self.pairs.keys(0, &left)?;
        for row in 0..left.num_rows() {
            let places = keys.get(row).map_or(&[][..], |key| index.get(key));
            for (place, _) in places {
                pairs[0].push(row as u32);
                pairs[1].push(*place as u32);
                if pairs[0].len() == MAX_PAIRS {
                    self.emit([&left, &right], &mut pairs, &mut matched, out)?;
                }
            }
        }
        self.emit([&left, &right], &mut pairs, &mut matched, out)?;
        for (side, rows) in [left, right].iter().enumerate() {
            if self.pairs.spec.sides[side].alone == Alone::Emit {
                let places = matched[side].iter().enumerate();
                let places = places.filter(|(_, matched)| !**matched);
                let places: UInt32Array = places.map(|(place, _)| place as u32).collect();
                let rows = take_record_batch(rows, &places)?;
                out.emit(Batch::derived(self.pairs.alone(side, &rows)?));
            }
        }
        Ok(())
    }

    fn emit(
        &self,
        sides: [&RecordBatch; 2],
        pairs: &mut [Vec<u32>; 2],
        matched: &mut [Vec<bool>; 2],
        out: &mut Output,
    ) -> Result<()> {
        let [left, right] = pairs
            .each_mut()
            .map(|it| UInt32Array::from(std::mem::take(it)));
        let rows = [
            take_record_batch(sides[0], &left)?,
            take_record_batch(sides[1], &right)?,
        ];
        let (joined, holds) = self.pairs.join([&rows[0], &rows[1]])?;
        for pair in holds.values().set_indices() {
            matched[0][left.value(pair) as usize] = true;
            matched[1][right.value(pair) as usize] = true;
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
        out.emit_to(Port::ASIDE, Batch::derived(late.into_batch()?));
        Ok(())
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

    fn on_watermark(&mut self, watermark: EventTime, out: &mut Output) -> Result<()> {
        self.closed_through.advance(watermark);
        let closed = self.closed_through.get().as_micros();
        loop {
            let firsts = self.held.iter();
            let first = firsts.filter_map(|held| held.slots().next().map(|(end, _)| end));
            let Some(end) = first.min().filter(|end| *end <= closed) else {
                return Ok(());
            };
            let slots = self.held.each_mut().map(|held| held.take(end));
            self.close(slots, out)?;
        }
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
        self.held.iter().map(Held::bytes).sum()
    }
}
