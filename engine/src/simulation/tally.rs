//! A tumbling count by key with a state part for each window.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use arrow::{
    array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray, UInt8Array},
    datatypes::{DataType, Field, Int64Type, Schema, TimestampMicrosecondType},
};

use crate::{
    Batch, EventTime, Port, Result,
    operator::{EarlyOutput, Operator, Output, PartwiseRestore},
    state::{KEY_GROUP_COLUMN, KeyHasher, LaneState, NewRows, Restore, Snapshot},
};

/// The size of a window in microseconds.
pub(super) const WINDOW: i64 = 100;

/// Whether open windows emit previews at each barrier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Previews {
    Shown,
    None,
}

/// Counts rows and sums their values by window and key. Emits lines `start key count sum`, and the
/// values of late rows to the side output.
pub(super) struct Tally {
    previews: Previews,
    windows: BTreeMap<i64, BTreeMap<String, (i64, i64)>>,
    /// Windows that the next snapshot writes.
    dirty: BTreeSet<i64>,
    /// The changes since the last preview.
    unseen: BTreeSet<(i64, String)>,
    /// Windows with a stored part.
    stored: BTreeSet<i64>,
    /// Windows up to here are closed.
    closed: i64,
    closed_stored: Option<i64>,
}

const CLOSED: &str = "closed";

impl Tally {
    pub(super) fn new(previews: Previews) -> Self {
        Self {
            previews,
            windows: BTreeMap::new(),
            dirty: BTreeSet::new(),
            unseen: BTreeSet::new(),
            stored: BTreeSet::new(),
            closed: i64::MIN,
            closed_stored: None,
        }
    }

    fn close(&mut self, until: i64, out: &mut Output) -> Result<()> {
        let mut closed = Vec::new();
        while let Some(window) = self.windows.first_entry() {
            let start = *window.key();
            if start + WINDOW > until {
                break;
            }
            let counts = window.remove();
            closed.extend(counts.iter().map(|(key, count)| line(start, key, *count)));
            self.dirty.remove(&start);
        }
        self.closed = self
            .closed
            .max(until.div_euclid(WINDOW).saturating_mul(WINDOW));
        let closed_through = self.closed;
        self.unseen.retain(|(start, _)| *start >= closed_through);
        out.emit(Batch::derived(lines(closed)?));
        Ok(())
    }
}

fn line(start: i64, key: &str, (count, sum): (i64, i64)) -> String {
    format!("{start} {key} {count} {sum}")
}

impl Operator for Tally {
    fn on_batch(&mut self, _: Port, batch: Batch, out: &mut Output) -> Result<()> {
        let columns = batch.records.columns();
        let times = columns[0].as_primitive::<TimestampMicrosecondType>();
        let keys = columns[1].as_string::<i32>();
        let values = columns[2].as_primitive::<Int64Type>();
        let mut late = Vec::new();
        for row in 0..batch.num_rows() {
            let start = times.value(row).div_euclid(WINDOW) * WINDOW;
            if start + WINDOW <= self.closed {
                late.push(values.value(row).to_string());
                continue;
            }
            let key = keys.value(row).to_owned();
            self.dirty.insert(start);
            self.unseen.insert((start, key.clone()));
            let count = self.windows.entry(start).or_default();
            let count = count.entry(key).or_default();
            *count = (count.0 + 1, count.1 + values.value(row));
        }
        out.contributed(&batch.origin, batch.num_rows() - late.len());
        out.late(&batch.origin, late.len());
        out.emit_to(Port::SIDE, Batch::derived(lines(late)?));
        Ok(())
    }

    fn on_watermark(&mut self, watermark: EventTime, out: &mut Output) -> Result<()> {
        self.close(watermark.as_micros(), out)
    }

    fn on_end(&mut self, out: &mut Output) -> Result<()> {
        let last = self.windows.last_key_value().map(|(start, _)| *start);
        last.map_or(Ok(()), |start| self.close(start + WINDOW, out))
    }

    fn snapshot(&mut self) -> Result<Snapshot> {
        let mut snapshot = Snapshot::default();
        let closed: Vec<i64> = self.stored.iter().copied().collect();
        for start in closed {
            if !self.windows.contains_key(&start) {
                self.stored.remove(&start);
                snapshot.removed.push(start.to_string());
            }
        }
        for start in std::mem::take(&mut self.dirty) {
            if !self.stored.insert(start) {
                snapshot.removed.push(start.to_string());
            }
            let counts = self.windows[&start].clone();
            let make = move || {
                let counts = counts.iter();
                rows(counts.map(|(key, count)| (start, Some(key.as_str()), *count)))
            };
            snapshot.put_rows(start.to_string(), NewRows::later(1, make));
        }
        if self.closed_stored != Some(self.closed) {
            snapshot.removed.push(CLOSED.to_owned());
            let key = CLOSED.to_owned();
            let rows = rows([(self.closed, None, (0, 0))])?;
            snapshot.put_rows(key, rows);
            self.closed_stored = Some(self.closed);
        }
        Ok(snapshot)
    }

    fn restore(&mut self, state: LaneState) -> Result<()> {
        for part in state.parts {
            let columns = part.rows.columns();
            let starts = columns[0].as_primitive::<Int64Type>();
            let keys = columns[1].as_string::<i32>();
            let counts = columns[2].as_primitive::<Int64Type>();
            let sums = columns[3].as_primitive::<Int64Type>();
            for row in 0..part.rows.num_rows() {
                let start = starts.value(row);
                if keys.is_null(row) {
                    self.closed = self.closed.max(start);
                    if state.lanes == Restore::InPlace {
                        self.closed_stored = Some(start);
                    }
                    continue;
                }
                let key = keys.value(row).to_owned();
                self.unseen.insert((start, key.clone()));
                let count = self.windows.entry(start).or_default();
                let count = count.entry(key).or_default();
                *count = (count.0 + counts.value(row), count.1 + sums.value(row));
                match state.lanes {
                    Restore::InPlace => self.stored.insert(start),
                    Restore::Rescaled => self.dirty.insert(start),
                };
            }
        }
        Ok(())
    }

    fn early_output(&mut self) -> Option<&mut dyn EarlyOutput> {
        Some(self)
    }

    fn partwise_restore(&mut self) -> Option<&mut dyn PartwiseRestore> {
        Some(self)
    }
}

impl EarlyOutput for Tally {
    fn flush(&mut self, out: &mut Output) -> Result<()> {
        if self.previews == Previews::Shown {
            let unseen = std::mem::take(&mut self.unseen).into_iter();
            let shown = unseen.map(|(start, key)| line(start, &key, self.windows[&start][&key]));
            out.emit(Batch::derived(lines(shown.collect())?));
        }
        Ok(())
    }
}

impl PartwiseRestore for Tally {
    fn restores_alone(&self, part: &str) -> bool {
        part != CLOSED
    }
}

/// Rows of state: start, key, and counts.
fn rows<'a>(
    rows: impl IntoIterator<Item = (i64, Option<&'a str>, (i64, i64))>,
) -> Result<RecordBatch> {
    let rows: Vec<_> = rows.into_iter().collect();
    let starts: Int64Array = rows.iter().map(|row| row.0).collect();
    let keys: StringArray = rows.iter().map(|row| row.1).collect();
    let counts: Int64Array = rows.iter().map(|row| row.2.0).collect();
    let sums: Int64Array = rows.iter().map(|row| row.2.1).collect();
    let keys: ArrayRef = Arc::new(keys);
    let groups = KeyHasher::new([DataType::Utf8])?.key_groups(&[Arc::clone(&keys)])?;
    let groups = rows.iter().zip(groups);
    let groups: UInt8Array = groups.map(|(row, group)| row.1.map(|_| group)).collect();
    let schema = Schema::new(vec![
        Field::new("start", DataType::Int64, false),
        Field::new("key", DataType::Utf8, true),
        Field::new("count", DataType::Int64, false),
        Field::new("sum", DataType::Int64, false),
        Field::new(KEY_GROUP_COLUMN, DataType::UInt8, true),
    ]);
    Ok(RecordBatch::try_new(
        Arc::new(schema),
        vec![
            Arc::new(starts),
            keys,
            Arc::new(counts),
            Arc::new(sums),
            Arc::new(groups),
        ],
    )?)
}

/// A batch with one text column.
pub(super) fn lines(lines: Vec<String>) -> Result<RecordBatch> {
    let schema = Schema::new(vec![Field::new("line", DataType::Utf8, false)]);
    let lines: StringArray = lines.into_iter().map(Some).collect();
    Ok(RecordBatch::try_new(
        Arc::new(schema),
        vec![Arc::new(lines)],
    )?)
}
