//! The stage after the exchange: holds the panes of the open windows and closes
//! windows.

use std::{sync::Arc, time::Duration};

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
    changes: Changes,
    revisions: Revisions,
}

/// Which rows of a window come out.
#[derive(Debug, Clone, Copy)]
enum Keys {
    All,
    Changed,
}

impl Finalize {
    pub(super) fn new(aggregation: Arc<Aggregation>) -> Result<Self> {
        Ok(Self {
            hasher: KeyHasher::new(aggregation.key_types())?,
            changes: Changes::new(aggregation.key_types())?,
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
        let again = emission.previews.is_some() || self.has_come_out(pane);
        if emission.revises() && again {
            let keys = &columns[LEAD..self.aggregation.group_width()];
            self.changes.add(pane.start, keys)?;
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
        let mut changed = self.changes.panes();
        changed.retain(|start| {
            aggregation
                .pane(*start)
                .is_ok_and(|pane| self.has_come_out(pane))
        });
        for start in &changed {
            let pane = aggregation.pane(*start)?;
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
            self.emit(window, Keys::Changed, revision, out)?;
        }
        for start in changed {
            self.changes.forget(start);
        }
        Ok(())
    }

    /// Emits what changed in windows that are open at `watermark`, if it has
    /// passed a multiple of `every` since `before`.
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
        for start in self.changes.panes() {
            let window = self.aggregation.pane(start)?;
            // The last preview before the window closes is number -1.
            let revision = now - tick(window.end - 1) - 1;
            self.emit(window, Keys::Changed, revision, out)?;
            self.changes.forget(start);
        }
        Ok(())
    }

    fn emit(&mut self, window: Span, keys: Keys, revision: i64, out: &mut Output) -> Result<()> {
        let aggregation = Arc::clone(&self.aggregation);
        let emission = aggregation.spec.emission;
        let one_pane = !aggregation.spec.windows.share_panes();
        let last = one_pane && emission.lateness.is_zero() && matches!(keys, Keys::All);
        let mut columns = if last {
            self.panes.take(&aggregation, window)?
        } else {
            self.panes.window(&aggregation, window)?
        };
        if let Keys::Changed = keys {
            let of = &columns[LEAD..aggregation.group_width()];
            let changed = self.changes.among(window.start, window.end, of)?;
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
            self.changes.forget(window.start);
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
