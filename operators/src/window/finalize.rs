//! The stage after the exchange: holds the panes of the open windows and closes
//! windows.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use arrow::{
    array::{
        Array, ArrayRef, AsArray, BooleanArray, Int64Array, StructArray, TimestampMicrosecondArray,
    },
    compute::{SortOptions, filter, partition, sort_to_indices, take_record_batch},
    datatypes::TimestampMicrosecondType,
    record_batch::RecordBatch,
};
use tagflow_engine::{
    Batch, EventTime, Port, Result,
    operator::{Operator, Output},
    state::{KeyHasher, LaneState, Snapshot},
    time::micros,
};

use super::{
    changes::{Changes, Revisions},
    late,
    panes::Panes,
    spec::{Aggregation, LEAD, window_fields},
    watermark::StoredWatermark,
    windows::Span,
};

/// The input of rows that may be late; [`Port::MAIN`] is the one of states.
pub(super) const STRAGGLERS: Port = Port::ASIDE;

/// Merges the partial stages' states into panes, and closes a window when the
/// watermark reaches its end: its rows go out. A pane goes when the last of its
/// windows takes no more rows. A window without rows emits nothing.
///
/// Only stragglers can be late. A state of a closed pane would mean that a
/// lane's partial stage was behind this one's watermark, which the exchange
/// rules out.
pub(super) struct Finalize {
    aggregation: Arc<Aggregation>,
    panes: Panes,
    /// Windows that end here or before are closed.
    closed_through: StoredWatermark,
    hasher: KeyHasher,
    /// What changed in windows that have closed, since they last came out.
    corrections: Changes,
    revisions: Revisions,
    /// What changed since the last previews.
    fresh: Changes,
    /// The ends of the open windows that have had a preview of all their keys.
    previewed: BTreeSet<i64>,
}

/// Which rows of a window come out.
#[derive(Debug, Clone, Copy)]
enum Keys {
    All,
    Corrected,
    Fresh,
}

impl Finalize {
    pub(super) fn new(aggregation: Arc<Aggregation>) -> Result<Self> {
        Ok(Self {
            hasher: KeyHasher::new(aggregation.key_types())?,
            corrections: Changes::new(aggregation.key_types())?,
            fresh: Changes::new(aggregation.key_types())?,
            previewed: BTreeSet::new(),
            panes: Panes::default(),
            closed_through: StoredWatermark::default(),
            revisions: Revisions::default(),
            aggregation,
        })
    }

    fn on_states(&mut self, states: RecordBatch) -> Result<()> {
        let aggregation = Arc::clone(&self.aggregation);
        for (start, states) in by_pane(states)? {
            let span = aggregation.open_pane(start, self.closed_through.get())?;
            self.remember(span, states.columns())?;
            let pane = self.panes.change(&aggregation.spec.windows, span);
            pane.merge(&aggregation, &states)?;
        }
        Ok(())
    }

    fn on_stragglers(&mut self, batch: &Batch, out: &mut Output) -> Result<()> {
        let aggregation = Arc::clone(&self.aggregation);
        let watermark = self.closed_through.get();
        for (start, rows) in by_pane(batch.records.clone())? {
            let span = aggregation.pane(start)?;
            if aggregation.closes(span) <= watermark {
                out.late(&batch.origin, rows.num_rows());
                let rows = late::rows(&aggregation, &batch.origin, watermark, &rows)?;
                out.emit_to(Port::ASIDE, Batch::derived(rows));
                continue;
            }
            out.contributed(&batch.origin, rows.num_rows());
            let (groups, inputs) = aggregation.straggler(&rows)?;
            self.remember(span, &groups)?;
            let pane = self.panes.change(&aggregation.spec.windows, span);
            pane.update(&aggregation, &groups, &inputs)?;
        }
        Ok(())
    }

    /// Keeps in mind which keys of a pane must come out again.
    fn remember(&mut self, pane: Span, columns: &[ArrayRef]) -> Result<()> {
        let emission = self.aggregation.spec.emission;
        let keys = &columns[LEAD..self.aggregation.group_width()];
        if emission.previews.is_some() {
            self.fresh.add(pane.start, keys)?;
        }
        if !emission.lateness.is_zero() && self.has_come_out(pane) {
            self.corrections.add(pane.start, keys)?;
        }
        Ok(())
    }

    /// Whether a window of `pane` has closed.
    fn has_come_out(&self, pane: Span) -> bool {
        let first_end = self.aggregation.spec.windows.first_end(pane);
        first_end <= self.closed_through.get().as_micros()
    }

    /// Emits again what changed in windows that had closed.
    fn correct(&mut self, out: &mut Output) -> Result<()> {
        let aggregation = Arc::clone(&self.aggregation);
        let windows = &aggregation.spec.windows;
        let closed_through = self.closed_through.get().as_micros();
        let mut corrected = Vec::new();
        for start in self.corrections.panes() {
            let pane = aggregation.pane(start)?;
            let mut after = pane.start;
            while let Some(window) =
                windows.next_after(after, |from| (from <= pane.start).then_some(pane))
                && window.end <= closed_through
            {
                after = window.end;
                if window.end.saturating_add(aggregation.lateness_us) > closed_through {
                    corrected.push(window);
                }
            }
        }
        corrected.sort_unstable_by_key(|window| window.end);
        corrected.dedup();
        for window in corrected {
            let revision = self.revisions.next(window.end);
            self.emit(window, Keys::Corrected, revision, out)?;
        }
        self.corrections.clear();
        Ok(())
    }

    /// If `watermark` has passed a multiple of `every` since `before`, emits of the open
    /// windows those that have rows which none before them has: all keys the first time,
    /// and again after a restart; later those that changed.
    ///
    /// So of windows that overlap, not each comes out for each row, of which there may be
    /// thousands, but those that say the most.
    fn preview(
        &mut self,
        every: Duration,
        before: EventTime,
        watermark: EventTime,
        out: &mut Output,
    ) -> Result<()> {
        let tick = |time: i64| time.div_euclid(micros(every));
        let now = tick(watermark.as_micros());
        if now == tick(before.as_micros()) {
            return Ok(());
        }
        let leading = self
            .panes
            .leading(&self.aggregation.spec.windows, watermark);
        for window in leading {
            // The last preview before the window closes is number -1.
            let revision = now - tick(window.end - 1) - 1;
            if self.previewed.insert(window.end) {
                self.emit(window, Keys::All, revision, out)?;
            } else if self.fresh.any(window.start, window.end) {
                self.emit(window, Keys::Fresh, revision, out)?;
            }
        }
        self.fresh.clear();
        self.previewed.retain(|end| *end > watermark.as_micros());
        Ok(())
    }

    fn emit(&mut self, window: Span, keys: Keys, revision: i64, out: &mut Output) -> Result<()> {
        let aggregation = Arc::clone(&self.aggregation);
        let emission = aggregation.spec.emission;
        let one_pane = !aggregation.spec.windows.share_panes();
        let last = one_pane && emission.lateness.is_zero() && revision == 0;
        let mut columns = if last {
            self.panes.take(&aggregation, window)?
        } else {
            self.panes.window(&aggregation, window)?
        };
        let changes = match keys {
            Keys::All => None,
            Keys::Corrected => Some(&self.corrections),
            Keys::Fresh => Some(&self.fresh),
        };
        if let Some(changes) = changes {
            let of = &columns[LEAD..aggregation.group_width()];
            let changed = changes.among(window.start, window.end, of)?;
            for column in &mut columns {
                *column = filter(column, &changed)?;
            }
        }
        let rows = columns.first().map_or(0, Array::len);
        let bound = |micros: i64| -> ArrayRef {
            let bounds = TimestampMicrosecondArray::from_value(micros, rows);
            Arc::new(bounds.with_timezone("UTC"))
        };
        let bounds = vec![bound(window.start), bound(window.end)];
        columns[0] = Arc::new(StructArray::try_new(window_fields(), bounds, None)?);
        if aggregation.keyless {
            columns.remove(LEAD);
        }
        if emission.revises() {
            columns.push(Arc::new(Int64Array::from_value(revision, rows)));
            columns.push(Arc::new(BooleanArray::from(vec![revision >= 0; rows])));
        }
        out.emit(Batch::derived(RecordBatch::try_new(
            aggregation.output_schema(),
            columns,
        )?));
        Ok(())
    }
}

impl Operator for Finalize {
    fn on_batch(&mut self, input: Port, batch: Batch, out: &mut Output) -> Result<()> {
        if input == STRAGGLERS {
            self.on_stragglers(&batch, out)
        } else {
            self.on_states(batch.records)
        }
    }

    fn on_watermark(&mut self, watermark: EventTime, out: &mut Output) -> Result<()> {
        self.correct(out)?;
        let aggregation = Arc::clone(&self.aggregation);
        let windows = &aggregation.spec.windows;
        let before = self.closed_through.get();
        self.closed_through.advance(watermark);
        let watermark = self.closed_through.get();
        let mut after = before;
        while let Some(window) = self.panes.next_window(windows, after)
            && window.end <= watermark.as_micros()
        {
            self.emit(window, Keys::All, 0, out)?;
            after = EventTime::from_micros(window.end);
        }
        if let Some(every) = aggregation.spec.emission.previews {
            self.preview(every, before, watermark, out)?;
        }
        self.panes.retire(&aggregation, watermark);
        let through = watermark.saturating_sub(aggregation.spec.emission.lateness);
        self.revisions.retire(through);
        Ok(())
    }

    fn flush(&mut self, out: &mut Output) -> Result<()> {
        self.correct(out)
    }

    fn on_end(&mut self, out: &mut Output) -> Result<()> {
        match self.panes.last() {
            Some(last) => {
                let end = self.aggregation.spec.windows.last_end(last);
                self.on_watermark(EventTime::from_micros(end), out)
            }
            None => Ok(()),
        }
    }

    fn holds_rows(&self) -> bool {
        !self.panes.is_empty()
    }

    fn snapshot(&mut self) -> Result<Snapshot> {
        let mut snapshot = Snapshot::default();
        self.panes
            .snapshot(&self.aggregation, &self.hasher, &mut snapshot)?;
        self.closed_through.snapshot(&mut snapshot)?;
        self.revisions.snapshot(&mut snapshot)?;
        Ok(snapshot)
    }

    fn restore(&mut self, state: LaneState) -> Result<()> {
        for part in state.parts {
            if self.closed_through.restore(&part, state.lanes)?
                || self.revisions.restore(&part, state.lanes)?
            {
                continue;
            }
            self.panes.restore(&self.aggregation, part, state.lanes)?;
        }
        Ok(())
    }

    fn closed_through(&self) -> EventTime {
        self.closed_through.get()
    }

    fn state_bytes(&self) -> usize {
        self.panes.bytes()
    }
}

/// The pane starts of state and straggler rows.
fn starts(rows: &RecordBatch) -> &TimestampMicrosecondArray {
    rows.column(0).as_primitive::<TimestampMicrosecondType>()
}

/// Splits rows by their pane's start; mostly there is one.
pub(super) fn by_pane(rows: RecordBatch) -> Result<Vec<(i64, RecordBatch)>> {
    let mut values = starts(&rows).values().iter();
    let Some(&first) = values.next() else {
        return Ok(Vec::new());
    };
    if values.all(|start| *start == first) {
        return Ok(vec![(first, rows)]);
    }
    let order = sort_to_indices(rows.column(0), Some(SortOptions::default()), None)?;
    let rows = take_record_batch(&rows, &order)?;
    let sorted = starts(&rows).values();
    let ranges = partition(&rows.columns()[..1])?.ranges();
    Ok(ranges
        .into_iter()
        .map(|range| (sorted[range.start], rows.slice(range.start, range.len())))
        .collect())
}
