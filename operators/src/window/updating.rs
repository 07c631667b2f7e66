//! The stage after the exchange for aggregates without a window: adds panes up,
//! key by key, and emits what changed.

use std::{sync::Arc, time::Duration};

use arrow::{
    array::{
        Array, ArrayRef, AsArray, BooleanArray, StringArray, StructArray, TimestampMicrosecondArray,
    },
    compute::{filter_record_batch, not},
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
    finalize::{STRAGGLERS, by_pane},
    late,
    panes::{Panes, starting},
    spec::{Aggregation, LEAD, window_fields},
    totals::{Change, Expiry, Totals},
    watermark::StoredWatermark,
    windows::Span,
};

/// The aggregates of each key over all its rows.
///
/// Panes are as wide as changes are apart. When the watermark passes the end of
/// one, a *tick*, its groups are added to the totals of their keys, and keys whose
/// values changed come out: what a tick says depends on the rows before it alone,
/// not on how they came. Then the keys are forgotten whose last row lies more than
/// the time to live behind the tick.
///
/// A straggler of a pane that is over counts at the next tick, unless it lies more
/// than the time to live before that: its key may have been forgotten with what
/// it had. Then it is late.
pub(super) struct Updating {
    aggregation: Arc<Aggregation>,
    expiry: Expiry,
    panes: Panes,
    totals: Totals,
    closed_through: StoredWatermark,
    hasher: KeyHasher,
}

impl Updating {
    /// For keys that are forgotten after `ttl`.
    pub(super) fn new(aggregation: Arc<Aggregation>, ttl: Duration) -> Result<Self> {
        let every = aggregation.spec.emission.previews.unwrap_or_default();
        Ok(Self {
            expiry: Expiry {
                ttl_us: micros(ttl),
                every_us: micros(every),
            },
            panes: Panes::default(),
            totals: Totals::new(&aggregation)?,
            closed_through: StoredWatermark::default(),
            hasher: KeyHasher::new(aggregation.key_types())?,
            aggregation,
        })
    }

    fn on_states(&mut self, states: RecordBatch) -> Result<()> {
        let aggregation = Arc::clone(&self.aggregation);
        for (start, states) in by_pane(states)? {
            let span = aggregation.open_pane(start, self.closed_through.get())?;
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
            if span.end > watermark.as_micros() {
                self.count(span, batch, &rows, out)?;
                continue;
            }
            let next = aggregation.pane(watermark.as_micros())?;
            let times = rows.column(aggregation.group_width() + aggregation.spec.time);
            let late = BooleanArray::from_unary(
                times.as_primitive::<TimestampMicrosecondType>(),
                |time| self.expiry.is_over(time, next.end),
            );
            if late.has_true() {
                let rows = filter_record_batch(&rows, &late)?;
                out.late(&batch.origin, rows.num_rows());
                let rows = late::rows(&aggregation, &batch.origin, watermark, &rows)?;
                out.emit_to(Port::ASIDE, Batch::derived(rows));
            }
            if late.has_false() {
                let rows = filter_record_batch(&rows, &not(&late)?)?;
                let columns = starting(next.start, &rows);
                let rows = RecordBatch::try_new(rows.schema(), columns)?;
                self.count(next, batch, &rows, out)?;
            }
        }
        Ok(())
    }

    /// Adds stragglers to the pane `span`.
    fn count(
        &mut self,
        span: Span,
        batch: &Batch,
        rows: &RecordBatch,
        out: &mut Output,
    ) -> Result<()> {
        out.contributed(&batch.origin, rows.num_rows());
        let (groups, inputs) = self.aggregation.straggler(rows)?;
        let pane = self.panes.change(&self.aggregation.spec.windows, span);
        pane.update(&self.aggregation, &groups, &inputs)
    }

    /// Adds what came before `tick`, and emits what changed by it.
    fn add(&mut self, tick: i64, out: &mut Output) -> Result<()> {
        let aggregation = Arc::clone(&self.aggregation);
        let came = self.panes.seal(&aggregation, tick)?;
        for change in self.totals.add(&aggregation, &came, tick, self.expiry)? {
            self.emit(change, out)?;
        }
        self.totals.compact(&aggregation)
    }

    /// Forgets the keys whose time is over at `tick`.
    fn expire(&mut self, tick: i64, out: &mut Output) -> Result<()> {
        let aggregation = Arc::clone(&self.aggregation);
        if let Some(change) = self.totals.expire(&aggregation, tick, self.expiry)? {
            self.emit(change, out)?;
        }
        self.totals.compact(&aggregation)
    }

    fn emit(&self, change: Change, out: &mut Output) -> Result<()> {
        let Change {
            tick,
            op,
            mut columns,
        } = change;
        let aggregation = &self.aggregation;
        let rows = columns.first().map_or(0, Array::len);
        let time = |time: i64| -> ArrayRef {
            let times = TimestampMicrosecondArray::from_value(time, rows);
            Arc::new(times.with_timezone("UTC"))
        };
        let bounds = vec![time(tick.saturating_sub(self.expiry.every_us)), time(tick)];
        columns[0] = Arc::new(StructArray::try_new(window_fields(), bounds, None)?);
        if aggregation.keyless {
            columns.remove(LEAD);
        }
        columns.push(Arc::new(StringArray::from(vec![op; rows])));
        columns.push(time(tick));
        let rows = RecordBatch::try_new(aggregation.output_schema(), columns)?;
        out.emit(Batch::derived(rows));
        Ok(())
    }
}

impl Operator for Updating {
    fn on_batch(&mut self, input: Port, batch: Batch, out: &mut Output) -> Result<()> {
        if input == STRAGGLERS {
            self.on_stragglers(&batch, out)
        } else {
            self.on_states(batch.records)
        }
    }

    fn on_watermark(&mut self, watermark: EventTime, out: &mut Output) -> Result<()> {
        let before = self.closed_through.get();
        self.closed_through.advance(watermark);
        let through = self.closed_through.get().as_micros();
        loop {
            let windows = &self.aggregation.spec.windows;
            let pane = self.panes.next_window(windows, before);
            let expiry = self.totals.next_expiry();
            let tick = pane.map(|pane| pane.end).into_iter().chain(expiry).min();
            let Some(tick) = tick.filter(|tick| *tick <= through) else {
                return Ok(());
            };
            self.add(tick, out)?;
            self.expire(tick, out)?;
        }
    }

    /// Forgets nothing: that would go by the last pane of this lane, and what comes
    /// out does not depend on lanes.
    fn on_end(&mut self, out: &mut Output) -> Result<()> {
        let before = self.closed_through.get();
        let aggregation = Arc::clone(&self.aggregation);
        while let Some(pane) = self.panes.next_window(&aggregation.spec.windows, before) {
            self.closed_through
                .advance(EventTime::from_micros(pane.end));
            self.add(pane.end, out)?;
        }
        Ok(())
    }

    fn holds_rows(&self) -> bool {
        !self.panes.is_empty()
    }

    fn snapshot(&mut self) -> Result<Snapshot> {
        let mut snapshot = Snapshot::default();
        self.panes
            .snapshot(&self.aggregation, &self.hasher, &mut snapshot)?;
        self.totals
            .snapshot(&self.aggregation, &self.hasher, &mut snapshot)?;
        self.closed_through.snapshot(&mut snapshot)?;
        Ok(snapshot)
    }

    fn restore(&mut self, state: LaneState) -> Result<()> {
        let mut totals = Vec::new();
        for part in state.parts {
            if self.closed_through.restore(&part, state.lanes)? {
                continue;
            }
            match Totals::number(&part.key) {
                Some(number) => totals.push((number, part)),
                None => self.panes.restore(&self.aggregation, part, state.lanes)?,
            }
        }
        self.totals
            .restore(&self.aggregation, totals, state.lanes, self.expiry)
    }

    fn closed_through(&self) -> EventTime {
        self.closed_through.get()
    }

    fn state_bytes(&self) -> usize {
        self.panes.bytes() + self.totals.bytes()
    }
}
