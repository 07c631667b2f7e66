//! The stage after the exchange: holds the open windows and closes them.

use std::{collections::BTreeMap, sync::Arc};

use arrow::{
    array::{Array, AsArray, BooleanArray, StructArray, TimestampMicrosecondArray},
    compute::{
        SortOptions, filter_record_batch, not, partition, sort_to_indices, take_record_batch,
    },
    datatypes::{Schema, TimestampMicrosecondType},
    record_batch::RecordBatch,
};
use tagflow_engine::{
    Batch, Error, EventTime, Port, Result,
    operator::{Operator, Output},
    state::{KeyHasher, LaneState, Lanes, Snapshot},
};

use super::{
    late,
    panes::Pane,
    spec::{Tumble, window_fields},
    table::Inputs,
    watermark::StoredWatermark,
};

/// The input of rows that may be late; [`Port::MAIN`] is the one of states.
const STRAGGLERS: Port = Port::ASIDE;

/// Merges the partial stages' states into one pane a window, and closes a
/// window when the watermark reaches its end: its rows go out and its pane is
/// gone. A window without rows emits nothing.
///
/// Only stragglers can be late. A state of a closed window would mean that a
/// lane's partial stage was behind this one's watermark, which the exchange
/// rules out.
pub(super) struct Finalize {
    tumble: Arc<Tumble>,
    /// The open windows by their start.
    panes: BTreeMap<i64, Pane>,
    /// Windows that end here or before are closed.
    closed_through: StoredWatermark,
    hasher: KeyHasher,
    next_part: u64,
    /// Stored parts of panes that closed since the last snapshot.
    removed: Vec<String>,
}

impl Finalize {
    pub(super) fn new(tumble: Arc<Tumble>) -> Result<Self> {
        let columns = tumble.hash_columns().into_iter();
        let types = columns.map(|column| tumble.partial.field(column).data_type().clone());
        Ok(Self {
            hasher: KeyHasher::new(types)?,
            panes: BTreeMap::new(),
            closed_through: StoredWatermark::default(),
            next_part: 0,
            removed: Vec::new(),
            tumble,
        })
    }

    fn is_closed(&self, start_us: i64) -> bool {
        self.end_of(start_us) <= self.closed_through.get()
    }

    fn end_of(&self, start_us: i64) -> EventTime {
        EventTime::from_micros(start_us).saturating_add(self.tumble.spec.size)
    }

    fn on_states(&mut self, states: RecordBatch) -> Result<()> {
        for (start, states) in by_window(states)? {
            if self.is_closed(start) {
                return Err(Error::internal(format!(
                    "states of the window at {} came to `{}` after it had closed at {}",
                    EventTime::from_micros(start),
                    self.tumble.spec.query,
                    self.closed_through.get()
                )));
            }
            let pane = self.panes.entry(start).or_default();
            pane.merge(&self.tumble, &states)?;
        }
        Ok(())
    }

    fn on_stragglers(&mut self, batch: &Batch, out: &mut Output) -> Result<()> {
        let late = BooleanArray::from_unary(starts(&batch.records), |start| self.is_closed(start));
        if late.has_true() {
            let rows = filter_record_batch(&batch.records, &late)?;
            out.late(&batch.origin, rows.num_rows());
            let watermark = self.closed_through.get();
            let rows = late::rows(&self.tumble, &batch.origin, watermark, &rows)?;
            out.emit_to(Port::ASIDE, Batch::derived(rows));
        }
        if late.has_false() {
            let rows = filter_record_batch(&batch.records, &not(&late)?)?;
            out.contributed(&batch.origin, rows.num_rows());
            let groups = self.tumble.group_width();
            let input: Vec<usize> = (groups..rows.num_columns()).collect();
            for (start, rows) in by_window(rows)? {
                let inputs = Inputs::of(&self.tumble, &rows.project(&input)?)?;
                let pane = self.panes.entry(start).or_default();
                pane.update(&self.tumble, &rows.columns()[..groups], &inputs)?;
            }
        }
        Ok(())
    }

    /// Closes the earliest window.
    fn close_first(&mut self, out: &mut Output) -> Result<()> {
        let Some((start, pane)) = self.panes.pop_first() else {
            return Ok(());
        };
        let mut columns = pane.close(&self.tumble, &mut self.removed)?;
        let rows = columns.first().map_or(0, Array::len);
        let end = self.end_of(start).as_micros();
        let ends = TimestampMicrosecondArray::from_value(end, rows).with_timezone("UTC");
        if let Some(lead) = columns.first_mut() {
            let bounds = vec![Arc::clone(lead), Arc::new(ends) as _];
            *lead = Arc::new(StructArray::try_new(window_fields(), bounds, None)?);
        }
        out.emit(Batch::derived(RecordBatch::try_new(
            self.tumble.output_schema(),
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
        self.closed_through.advance(watermark);
        while let Some((&start, _)) = self.panes.first_key_value()
            && self.is_closed(start)
        {
            self.close_first(out)?;
        }
        Ok(())
    }

    fn on_end(&mut self, out: &mut Output) -> Result<()> {
        if let Some((&last, _)) = self.panes.last_key_value() {
            self.on_watermark(self.end_of(last), out)?;
        }
        Ok(())
    }

    fn holds_rows(&self) -> bool {
        !self.panes.is_empty()
    }

    fn snapshot(&mut self) -> Result<Snapshot> {
        let mut snapshot = Snapshot {
            removed: std::mem::take(&mut self.removed),
            ..Snapshot::default()
        };
        for (start, pane) in &mut self.panes {
            let next_key = || {
                self.next_part += 1;
                part_key(*start, self.next_part)
            };
            pane.snapshot(&self.tumble, &self.hasher, next_key, &mut snapshot)?;
        }
        self.closed_through.snapshot(&mut snapshot)?;
        Ok(snapshot)
    }

    fn restore(&mut self, state: LaneState) -> Result<()> {
        let states: Vec<usize> = (0..self.tumble.partial.fields().len()).collect();
        for part in state.parts {
            if self.closed_through.restore(&part, state.lanes)? {
                continue;
            }
            if !same_types(&part.rows.schema(), &self.tumble.stored) {
                return Err(Error::data(format!(
                    "the stored state `{}` is not of the query `{}`",
                    part.key, self.tumble.spec.query
                )));
            }
            let rows = part.rows.project(&states)?;
            let Some(&start) = starts(&rows).values().first() else {
                // All its rows went to other lanes.
                continue;
            };
            let key = match state.lanes {
                Lanes::Same => {
                    self.next_part = self.next_part.max(part_number(&part.key));
                    Some(part.key)
                }
                Lanes::Changed => None,
            };
            self.panes.entry(start).or_default().restore(key, rows);
        }
        Ok(())
    }

    fn closed_through(&self) -> EventTime {
        self.closed_through.get()
    }

    fn state_bytes(&self) -> usize {
        self.panes.values().map(Pane::bytes).sum()
    }
}

/// `w60000000-3`: the third part that this lane stored, of the window at one
/// minute past the epoch.
fn part_key(start_us: i64, number: u64) -> String {
    format!("w{start_us}-{number}")
}

fn part_number(key: &str) -> u64 {
    key.rsplit_once('-')
        .and_then(|(_, number)| number.parse().ok())
        .unwrap_or(0)
}

/// Whether the columns have the same types, in the same order.
fn same_types(stored: &Schema, expected: &Schema) -> bool {
    let types = |schema: &Schema| {
        let fields = schema.fields().iter();
        fields
            .map(|field| field.data_type().clone())
            .collect::<Vec<_>>()
    };
    types(stored) == types(expected)
}

/// The window starts of state and straggler rows.
fn starts(rows: &RecordBatch) -> &TimestampMicrosecondArray {
    rows.column(0).as_primitive::<TimestampMicrosecondType>()
}

/// Splits rows by their window's start; mostly there is one.
fn by_window(rows: RecordBatch) -> Result<Vec<(i64, RecordBatch)>> {
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
