//! The stage after the exchange for aggregates without a window: adds panes up, key by key, and
//! emits the changes.

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
    operator::{Operator, Output, PagedOutput, Progress},
    state::{KeyHasher, LaneState, Snapshot, StoredWatermark},
    time::micros,
};

use super::{
    columns::window_fields,
    finalize::{STRAGGLERS, by_pane},
    late,
    panes::{Panes, starting},
    span::Span,
    spec::{Aggregation, LEAD},
    table::{Inputs, Results},
    totals::{Change, Expiry, Totals},
};
use crate::portions::Portions;

/// The aggregates of each key over all its rows.
///
/// A pane has the width of the emission interval. When the watermark passes the end of a pane, a
/// *tick*, its groups are added to the totals of their keys. Keys with changed values are emitted:
/// the result of a tick depends on the rows before it, not on their arrival. Then the keys are
/// forgotten whose last row is older than the time to live at the tick.
///
/// A straggler of a closed pane counts at the next tick, unless it is older than the time to live
/// at that tick: its key may have been forgotten with its totals. Then it is late.
pub(super) struct Updating {
    aggregation: Arc<Aggregation>,
    expiry: Expiry,
    panes: Panes,
    totals: Totals,
    closed_through: StoredWatermark,
    hasher: KeyHasher,
    /// The remaining ticks of the last watermark.
    advance: Option<Advance>,
    /// The current tick.
    ticking: Option<Ticking>,
}

/// The ticks of a step of the watermark.
#[derive(Debug, Clone, Copy)]
struct Advance {
    /// The watermark before it.
    before: EventTime,
    through: i64,
    forgets: Forgets,
}

/// Whether expired keys are forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Forgets {
    Expired,
    Nothing,
}

/// A tick, processed for some keys at a time.
struct Ticking {
    tick: i64,
    /// Rows that are not in the totals yet.
    came: Option<Portions>,
    forgets: Forgets,
}

impl Updating {
    /// The stage for keys that are forgotten after `ttl`.
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
            advance: None,
            ticking: None,
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
                out.emit_to(Port::SIDE, Batch::derived(rows));
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
        let (groups, inputs) = Inputs::straggler(&self.aggregation, rows)?;
        let pane = self.panes.change(&self.aggregation.spec.windows, span);
        pane.update(&self.aggregation, &groups, &inputs)
    }

    /// Begins the next tick of `advance`, if there is one.
    fn begin(&mut self, advance: Advance) -> Result<Option<Ticking>> {
        let windows = &self.aggregation.spec.windows;
        let pane = self.panes.next_window(windows, advance.before);
        let expiry = match advance.forgets {
            Forgets::Expired => self.totals.next_expiry(),
            Forgets::Nothing => None,
        };
        let tick = pane.map(|pane| pane.end).into_iter().chain(expiry).min();
        let Some(tick) = tick.filter(|tick| *tick <= advance.through) else {
            return Ok(None);
        };
        let came = self.panes.seal(&self.aggregation, tick)?;
        let came = self.aggregation.portions(&self.hasher, came)?;
        Ok(Some(Ticking {
            tick,
            came: Some(came),
            forgets: advance.forgets,
        }))
    }

    /// Adds one portion of the tick's rows, or forgets some expired keys, and emits the changes.
    /// Returns whether the tick has more.
    fn tick(&mut self, ticking: &mut Ticking, out: &mut Output) -> Result<bool> {
        let aggregation = Arc::clone(&self.aggregation);
        let tick = ticking.tick;
        if let Some(portions) = &mut ticking.came {
            if let Some(came) = portions.next_filled()? {
                for change in self.totals.add(&aggregation, &came, tick, self.expiry)? {
                    self.emit(change, out)?;
                }
                return Ok(true);
            }
            ticking.came = None;
            self.totals.compact(&aggregation)?;
        }
        if ticking.forgets == Forgets::Nothing {
            return Ok(false);
        }
        let change = self.totals.expire(&aggregation, tick, self.expiry)?;
        let Some(change) = change else {
            self.totals.compact(&aggregation)?;
            return Ok(false);
        };
        self.emit(change, out)?;
        Ok(true)
    }

    fn emit(&self, change: Change, out: &mut Output) -> Result<()> {
        let Change { tick, op, results } = change;
        let Results { mut columns, unfit } = results;
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
        aggregation.report(&unfit, &rows, out)?;
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

    fn on_watermark(&mut self, watermark: EventTime, _out: &mut Output) -> Result<()> {
        let before = self.closed_through.get();
        self.closed_through.advance(watermark);
        self.advance = Some(Advance {
            before,
            through: self.closed_through.get().as_micros(),
            forgets: Forgets::Expired,
        });
        Ok(())
    }

    /// Forgets nothing: that would depend on the last pane of this lane, and the output does not
    /// depend on lanes.
    fn on_end(&mut self, _out: &mut Output) -> Result<()> {
        if let Some(last) = self.panes.last() {
            let before = self.closed_through.get();
            self.closed_through
                .advance(EventTime::from_micros(last.end));
            self.advance = Some(Advance {
                before,
                through: last.end,
                forgets: Forgets::Nothing,
            });
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

    fn paged_output(&mut self) -> Option<&mut dyn PagedOutput> {
        Some(self)
    }
}

impl PagedOutput for Updating {
    fn poll_output(&mut self, out: &mut Output) -> Result<Progress> {
        let Some(advance) = self.advance else {
            return Ok(Progress::Done);
        };
        let ticking = match self.ticking.take() {
            Some(ticking) => Some(ticking),
            None => self.begin(advance)?,
        };
        let Some(mut ticking) = ticking else {
            self.advance = None;
            return Ok(Progress::Done);
        };
        if self.tick(&mut ticking, out)? {
            self.ticking = Some(ticking);
        }
        Ok(Progress::More)
    }
}
