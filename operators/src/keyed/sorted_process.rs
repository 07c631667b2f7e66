//! The operator: buffers rows until the watermark passes them, and applies the decisions
//! of the judge.

use std::sync::Arc;

use arrow::{array::BooleanArray, compute::not};
use tagflow_engine::{
    Batch, EventTime, Port, Result,
    operator::{Operator, Output, PagedOutput, Progress},
    state::{KeyHasher, LaneState, Snapshot, StoredWatermark, part_number},
};

use super::{
    keyed_rows::Keyed,
    late,
    rule::{KeyedRule, RowOutcome},
    sorted_buffer::SortedBuffer,
    spec::Ordered,
};

/// Buffers rows at or after the watermark until it has passed them. Then judges them in
/// the order of their event time; rows of the same time by partition and offset. Rows
/// behind the watermark are judged on arrival. Rows without a key are not judged at all.
pub(super) struct SortedProcess {
    ordered: Arc<Ordered>,
    hasher: KeyHasher,
    rule: Box<dyn KeyedRule>,
    held: SortedBuffer,
    /// Rows from before this have been judged.
    watermark: StoredWatermark,
    /// Whether rows from before the watermark may still be buffered.
    releases: bool,
}

/// About this many rows are judged at a time.
const RELEASED_ROWS: usize = 16 * 1024;

impl SortedProcess {
    pub(super) fn new(ordered: Arc<Ordered>) -> Result<Self> {
        Ok(Self {
            hasher: ordered.timeline.hasher()?,
            rule: ordered.rule(),
            held: SortedBuffer::default(),
            watermark: StoredWatermark::default(),
            releases: false,
            ordered,
        })
    }

    /// Judges the held rows from before `watermark`.
    fn release(&mut self, watermark: i64, out: &mut Output) -> Result<()> {
        let ready = self.held.take_before(&self.ordered.timeline, watermark)?;
        let outcomes = ready
            .iter()
            .map(|rows| vec![RowOutcome::Late; rows.keys.len()]);
        let mut outcomes: Vec<Vec<RowOutcome>> = outcomes.collect();
        for turn in self.ordered.timeline.turns(&ready) {
            let key = ready[turn.batch].keys[turn.row].expect("a row without a key never waits");
            outcomes[turn.batch][turn.row] = self.rule.on_time(key, turn.time);
        }
        for (rows, outcomes) in ready.iter().zip(&outcomes) {
            out.released(&rows.batch.origin, rows.keys.len());
            self.settle(rows, outcomes, out)?;
        }
        self.rule.advance(watermark);
        Ok(())
    }

    /// Applies the decision about each of `rows`.
    fn settle(&self, rows: &Keyed, outcomes: &[RowOutcome], out: &mut Output) -> Result<()> {
        let is = |is_it: fn(&RowOutcome) -> bool| {
            let outcomes = outcomes.iter().map(|outcome| Some(is_it(outcome)));
            outcomes.collect::<BooleanArray>()
        };
        let origin = &rows.batch.origin;
        let duplicates = is(|outcome| *outcome == RowOutcome::Duplicate);
        out.duplicate(origin, duplicates.true_count());
        let late = is(|outcome| *outcome == RowOutcome::Late);
        if late.has_true() {
            let rows = rows.filter(&late)?;
            out.late(origin, rows.keys.len());
            let watermark = self.watermark.get().as_micros();
            let reach_us = self.rule.reach_us();
            let rows = late::rows(&self.ordered.timeline, &rows.batch, watermark, reach_us)?;
            out.emit_to(Port::SIDE, Batch::derived(rows));
        }
        let passed = is(|outcome| matches!(outcome, RowOutcome::Pass(_)));
        if passed.has_true() {
            let rows = rows.filter(&passed)?;
            let found = outcomes.iter().filter_map(|outcome| match outcome {
                RowOutcome::Pass(found) => Some(*found),
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

impl Operator for SortedProcess {
    fn on_batch(&mut self, _input: Port, batch: Batch, out: &mut Output) -> Result<()> {
        let rows = Keyed::new(&self.ordered.timeline.key, &self.hasher, batch)?;
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
            let outcomes = now.keys.iter().zip(times).map(|(key, time)| match key {
                Some(key) => self.rule.behind(*key, *time, watermark),
                None => RowOutcome::Pass(None),
            });
            let outcomes: Vec<RowOutcome> = outcomes.collect();
            self.settle(&now, &outcomes, out)?;
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

    fn on_watermark(&mut self, watermark: EventTime, _out: &mut Output) -> Result<()> {
        self.watermark.advance(watermark);
        self.releases = true;
        Ok(())
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
        self.rule.snapshot(&mut snapshot)?;
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
        self.rule.restore(judged, lanes)?;
        self.rule.advance(watermark);
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        self.held.bytes() + self.rule.bytes()
    }

    fn paged_output(&mut self) -> Option<&mut dyn PagedOutput> {
        Some(self)
    }
}

impl PagedOutput for SortedProcess {
    fn poll_output(&mut self, out: &mut Output) -> Result<Progress> {
        if !self.releases {
            return Ok(Progress::Done);
        }
        let watermark = self.watermark.get().as_micros();
        let stop = self.held.stop(watermark, RELEASED_ROWS);
        self.release(stop, out)?;
        self.releases = stop < watermark;
        Ok(Progress::More)
    }
}
