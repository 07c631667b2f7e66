//! The stage after the exchange: holds the panes of the open windows and closes windows.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use arrow::{
    array::{
        Array, ArrayRef, AsArray, BooleanArray, Int64Array, StructArray, TimestampMicrosecondArray,
    },
    compute::{SortOptions, partition, sort_to_indices, take_record_batch},
    datatypes::TimestampMicrosecondType,
    record_batch::RecordBatch,
};
use tagflow_engine::{
    Batch, EventTime, Port, Result,
    operator::{EarlyOutput, Operator, Output, PagedOutput, Progress},
    state::{KeyHasher, LaneState, Snapshot, StoredWatermark},
    time::micros,
};

use super::{
    changes::{Changes, Revisions},
    closing::{Due, DueWindows, Keys, Part, Sweep},
    columns::window_fields,
    late,
    panes::Panes,
    span::Span,
    spec::{Aggregation, LEAD},
    table::{Inputs, Results},
};

/// The input for rows that may be late; [`Port::MAIN`] is the input for states.
pub(super) const STRAGGLERS: Port = Port::SIDE;

/// Merges the partial stages' states into panes. Closes a window when the watermark reaches its
/// end, and emits its rows. A pane is dropped when the last of its windows accepts no more rows. A
/// window without rows emits nothing.
///
/// One step of the watermark may close many windows that share their panes. The output is then far
/// larger than the state, and is emitted in parts ([`Sweep`]).
///
/// Only rows of the straggler input can be late. A state of a closed pane would mean that a lane's
/// partial stage was behind this stage's watermark, which the exchange rules out.
pub(super) struct Finalize {
    aggregation: Arc<Aggregation>,
    panes: Panes,
    /// Windows that end here or before are closed.
    closed_through: StoredWatermark,
    hasher: KeyHasher,
    /// Changes in closed windows since their last emission.
    corrections: Changes,
    revisions: Revisions,
    /// Changes since the last previews.
    fresh: Changes,
    /// The ends of the open windows that have had a preview with all keys.
    previewed: BTreeSet<i64>,
    /// Windows to emit before the next call.
    due: VecDeque<DueWindows>,
    /// The windows that are being emitted.
    sweep: Option<Sweep>,
    /// Whether to drop closed panes when all of `due` is emitted.
    retires: bool,
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
            due: VecDeque::new(),
            sweep: None,
            retires: false,
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
                out.emit_to(Port::SIDE, Batch::derived(rows));
                continue;
            }
            out.contributed(&batch.origin, rows.num_rows());
            let (groups, inputs) = Inputs::straggler(&aggregation, &rows)?;
            self.remember(span, &groups)?;
            let pane = self.panes.change(&aggregation.spec.windows, span);
            pane.update(&aggregation, &groups, &inputs)?;
        }
        Ok(())
    }

    /// Records the keys of a pane that must be emitted again.
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

    /// Queues the corrections of closed windows.
    fn correct(&mut self) -> Result<()> {
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
        if corrected.is_empty() {
            self.corrections.clear();
            return Ok(());
        }
        let corrected = corrected.into_iter().map(|window| Due {
            window,
            keys: Keys::Corrected,
            revision: self.revisions.next(window.end),
        });
        let corrected = corrected.collect();
        self.due.push_back(DueWindows::Corrections(corrected));
        Ok(())
    }

    /// If `watermark` has passed a multiple of `every` since `before`, emits previews of the open
    /// windows with rows that no earlier window has. The first preview, and the first one after a
    /// restart, has all keys; later ones have the changed keys.
    ///
    /// A row may be in thousands of overlapping windows. Only the windows with the most information
    /// have previews.
    fn preview(&mut self, every: Duration, before: EventTime, watermark: EventTime) {
        let tick = |time: i64| time.div_euclid(micros(every));
        let now = tick(watermark.as_micros());
        if now == tick(before.as_micros()) {
            return;
        }
        let leading = self
            .panes
            .leading(&self.aggregation.spec.windows, watermark);
        let mut previews = VecDeque::new();
        for window in leading {
            let keys = if self.previewed.insert(window.end) {
                Keys::All
            } else if self.fresh.any(window.start, window.end) {
                Keys::Fresh
            } else {
                continue;
            };
            previews.push_back(Due {
                window,
                keys,
                // The last preview before the window closes has number -1.
                revision: now - tick(window.end - 1) - 1,
            });
        }
        self.due.push_back(DueWindows::Previews(previews));
        self.previewed.retain(|end| *end > watermark.as_micros());
    }

    /// Emits due windows until the output is about a portion. Returns false if no window is due.
    fn emit_some(&mut self, out: &mut Output) -> Result<bool> {
        let mut bytes = 0;
        while bytes < self.aggregation.portion_bytes {
            let aggregation = Arc::clone(&self.aggregation);
            let sweep = match &mut self.sweep {
                Some(sweep) => sweep,
                none => {
                    let Some(due) = self.due.pop_front() else {
                        return Ok(false);
                    };
                    let sweep = Sweep::new(due, &aggregation, &self.hasher, &mut self.panes)?;
                    none.insert(sweep)
                }
            };
            if let Some(part) = sweep.next(&aggregation, &self.hasher, &mut self.panes)? {
                let rows = self.rows(part, out)?;
                bytes += rows.get_array_memory_size();
                out.emit(Batch::derived(rows));
                continue;
            }
            match sweep.due {
                DueWindows::Closing(..) => {}
                DueWindows::Corrections(_) => self.corrections.clear(),
                DueWindows::Previews(_) => self.fresh.clear(),
            }
            self.sweep = None;
        }
        Ok(true)
    }

    fn rows(&self, part: Part, out: &mut Output) -> Result<RecordBatch> {
        let aggregation = &self.aggregation;
        let emission = aggregation.spec.emission;
        let Part {
            due:
                Due {
                    window,
                    keys,
                    revision,
                },
            mut results,
        } = part;
        let changes = match keys {
            Keys::All => None,
            Keys::Corrected => Some(&self.corrections),
            Keys::Fresh => Some(&self.fresh),
        };
        if let Some(changes) = changes {
            let of = &results.columns[LEAD..aggregation.group_width()];
            let changed = changes.among(window.start, window.end, of)?;
            results = results.filtered(&changed)?;
        }
        let Results { mut columns, unfit } = results;
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
        let rows = RecordBatch::try_new(aggregation.output_schema(), columns)?;
        aggregation.report(&unfit, &rows, out)?;
        Ok(rows)
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

    fn on_watermark(&mut self, watermark: EventTime, _out: &mut Output) -> Result<()> {
        self.correct()?;
        let windows = &self.aggregation.spec.windows;
        let before = self.closed_through.get();
        self.closed_through.advance(watermark);
        let watermark = self.closed_through.get();
        let first = self.panes.next_window(windows, before);
        if first.is_some_and(|window| window.end <= watermark.as_micros()) {
            self.due.push_back(DueWindows::Closing(before, watermark));
        }
        if let Some(every) = self.aggregation.spec.emission.previews {
            self.preview(every, before, watermark);
        }
        self.retires = true;
        Ok(())
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

    fn paged_output(&mut self) -> Option<&mut dyn PagedOutput> {
        Some(self)
    }

    fn early_output(&mut self) -> Option<&mut dyn EarlyOutput> {
        Some(self)
    }
}

impl PagedOutput for Finalize {
    fn poll_output(&mut self, out: &mut Output) -> Result<Progress> {
        if self.emit_some(out)? {
            return Ok(Progress::More);
        }
        if std::mem::take(&mut self.retires) {
            let watermark = self.closed_through.get();
            self.panes.retire(&self.aggregation, watermark);
            let lateness = self.aggregation.spec.emission.lateness;
            self.revisions.retire(watermark.saturating_sub(lateness));
        }
        Ok(Progress::Done)
    }
}

impl EarlyOutput for Finalize {
    fn flush(&mut self, _out: &mut Output) -> Result<()> {
        self.correct()
    }
}

/// The pane starts of state and straggler rows.
fn starts(rows: &RecordBatch) -> &TimestampMicrosecondArray {
    rows.column(0).as_primitive::<TimestampMicrosecondType>()
}

/// Splits rows by their pane's start; mostly there is a single pane.
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
