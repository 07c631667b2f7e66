//! The operator: makes rows wait for their turn, and does what was decided.

use std::sync::Arc;

use arrow::{array::BooleanArray, compute::not};
use tagflow_engine::{
    Batch, EventTime, Port, Result,
    operator::{Operator, Output},
    state::{KeyHasher, LaneState, Snapshot, part_number},
};

use super::{
    held::{Held, Keyed},
    judge::{Judge, Verdict},
    late,
    spec::Ordered,
};
use crate::window::StoredWatermark;

/// Rows from the watermark on are held until it has passed them; then they are
/// judged in the order of their event time, those of the same time by partition
/// and offset. Rows behind the watermark are judged when they come, and rows
/// without a key are not judged at all.
pub(super) struct Sequencer {
    ordered: Arc<Ordered>,
    hasher: KeyHasher,
    judge: Box<dyn Judge>,
    held: Held,
    /// Rows from before this have been judged.
    watermark: StoredWatermark,
}

impl Sequencer {
    pub(super) fn new(ordered: Arc<Ordered>) -> Result<Self> {
        Ok(Self {
            hasher: ordered.timeline.hasher()?,
            judge: ordered.judge(),
            held: Held::default(),
            watermark: StoredWatermark::default(),
            ordered,
        })
    }

    /// Judges the held rows from before the watermark.
    fn release(&mut self, out: &mut Output) -> Result<()> {
        let watermark = self.watermark.get().as_micros();
        let ready = self.held.take_before(&self.ordered.timeline, watermark)?;
        let verdicts = ready
            .iter()
            .map(|rows| vec![Verdict::Late; rows.keys.len()]);
        let mut verdicts: Vec<Vec<Verdict>> = verdicts.collect();
        for turn in self.ordered.timeline.turns(&ready) {
            let key = ready[turn.batch].keys[turn.row].expect("a row without a key never waits");
            verdicts[turn.batch][turn.row] = self.judge.on_time(key, turn.time);
        }
        for (rows, verdicts) in ready.iter().zip(&verdicts) {
            out.released(&rows.batch.origin, rows.keys.len());
            self.settle(rows, verdicts, out)?;
        }
        self.judge.advance(watermark);
        Ok(())
    }

    /// Does with each of `rows` what was decided.
    fn settle(&self, rows: &Keyed, verdicts: &[Verdict], out: &mut Output) -> Result<()> {
        let is = |is_it: fn(&Verdict) -> bool| {
            let verdicts = verdicts.iter().map(|verdict| Some(is_it(verdict)));
            verdicts.collect::<BooleanArray>()
        };
        let origin = &rows.batch.origin;
        let duplicates = is(|verdict| *verdict == Verdict::Duplicate);
        out.duplicate(origin, duplicates.true_count());
        let late = is(|verdict| *verdict == Verdict::Late);
        if late.has_true() {
            let rows = rows.filter(&late)?;
            out.late(origin, rows.keys.len());
            let watermark = self.watermark.get().as_micros();
            let reach_us = self.judge.reach_us();
            let rows = late::rows(&self.ordered.timeline, &rows.batch, watermark, reach_us)?;
            out.emit_to(Port::ASIDE, Batch::derived(rows));
        }
        let passed = is(|verdict| matches!(verdict, Verdict::Pass(_)));
        if passed.has_true() {
            let rows = rows.filter(&passed)?;
            let found = verdicts.iter().filter_map(|verdict| match verdict {
                Verdict::Pass(found) => Some(*found),
                _ => None,
            });
            let found: Vec<_> = found.collect();
            let records = self
                .ordered
                .output(&rows.batch.records, &rows.keys, &found)?;
            out.emit(rows.batch.with_records(records));
        }
        Ok(())
    }
}

impl Operator for Sequencer {
    fn on_batch(&mut self, _input: Port, batch: Batch, out: &mut Output) -> Result<()> {
        let rows = Keyed::new(&self.ordered.timeline, &self.hasher, batch)?;
        let watermark = self.watermark.get().as_micros();
        let times = self.ordered.timeline.times(&rows.batch.records).values();
        let waits: BooleanArray = rows
            .keys
            .iter()
            .zip(times)
            .map(|(key, time)| Some(key.is_some() && *time >= watermark))
            .collect();
        if waits.has_false() {
            let now = rows.filter(&not(&waits)?)?;
            let times = self.ordered.timeline.times(&now.batch.records).values();
            let verdicts = now.keys.iter().zip(times).map(|(key, time)| match key {
                Some(key) => self.judge.behind(*key, *time, watermark),
                None => Verdict::Pass(None),
            });
            let verdicts: Vec<Verdict> = verdicts.collect();
            self.settle(&now, &verdicts, out)?;
        }
        if waits.has_true() {
            let rows = if waits.has_false() {
                rows.filter(&waits)?
            } else {
                rows
            };
            out.held(&rows.batch.origin, rows.keys.len());
            self.held.push(&self.ordered.timeline, rows);
        }
        Ok(())
    }

    fn on_watermark(&mut self, watermark: EventTime, out: &mut Output) -> Result<()> {
        self.watermark.advance(watermark);
        self.release(out)
    }

    fn on_end(&mut self, out: &mut Output) -> Result<()> {
        match self.held.last() {
            Some(last) => self.on_watermark(EventTime::from_micros(last.saturating_add(1)), out),
            None => Ok(()),
        }
    }

    fn holds_rows(&self) -> bool {
        self.held.last().is_some()
    }

    fn snapshot(&mut self) -> Result<Snapshot> {
        let mut snapshot = Snapshot::default();
        let watermark = self.watermark.get().as_micros();
        self.held
            .snapshot(&self.ordered.timeline, watermark, &mut snapshot)?;
        self.judge.snapshot(&mut snapshot)?;
        self.watermark.snapshot(&mut snapshot)?;
        Ok(snapshot)
    }

    fn restore(&mut self, state: LaneState) -> Result<()> {
        let lanes = state.lanes;
        let mut parts = Vec::with_capacity(state.parts.len());
        for part in state.parts {
            if !self.watermark.restore(&part, lanes)? {
                parts.push(part);
            }
        }
        parts.sort_by_key(|part| part_number(&part.key));
        let watermark = self.watermark.get().as_micros();
        let mut judged = Vec::with_capacity(parts.len());
        for part in parts {
            let held = &mut self.held;
            if !held.restore(
                &self.ordered.timeline,
                &self.hasher,
                watermark,
                &part,
                lanes,
            )? {
                judged.push(part);
            }
        }
        self.judge.restore(judged, lanes)?;
        self.judge.advance(watermark);
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        self.held.bytes() + self.judge.bytes()
    }
}
