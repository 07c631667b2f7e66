//! The operator of the tests: counts and sums by window and key, row by row.

use std::{collections::BTreeMap, sync::Arc};

use arrow::{
    array::{Array, AsArray, Int64Array, RecordBatch, StringArray, UInt8Array},
    datatypes::{DataType, Field, Int64Type, Schema, TimestampMicrosecondType},
};

use crate::{
    Batch, EventTime, Port, Result,
    operator::{Operator, Output},
    state::{KEY_GROUP_COLUMN, KeyHasher, LaneState, NewPart, Snapshot},
};

/// A tumbling count with its whole state in one part.
pub(super) struct Tally {
    window: i64,
    fault: Fault,
    counts: BTreeMap<(i64, String), (i64, i64)>,
    closed: i64,
    written: bool,
}

/// A defect that the tests must find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    None,
    LosesRows,
    CountsTwice,
}

impl Tally {
    pub(super) fn new(window: i64, fault: Fault) -> Self {
        Self {
            window,
            fault,
            counts: BTreeMap::new(),
            closed: i64::MIN,
            written: false,
        }
    }

    fn close(&mut self, until: i64, out: &mut Output) -> Result<()> {
        let window = self.window;
        let closed: Vec<_> = self
            .counts
            .extract_if(.., |(start, _), _| *start + window <= until)
            .collect();
        self.closed = self.closed.max(until);
        let line = |((start, key), (count, sum))| format!("{start} {key} {count} {sum}");
        out.emit(Batch::derived(lines(closed.into_iter().map(line))?));
        Ok(())
    }
}

impl Operator for Tally {
    fn on_batch(&mut self, _: Port, batch: Batch, out: &mut Output) -> Result<()> {
        let times = batch
            .records
            .column(0)
            .as_primitive::<TimestampMicrosecondType>();
        let keys = batch.records.column(1).as_string::<i32>();
        let values = batch.records.column(2).as_primitive::<Int64Type>();
        let mut late = Vec::new();
        for row in 0..batch.num_rows() {
            let start = times.value(row).div_euclid(self.window) * self.window;
            if start + self.window <= self.closed {
                late.push(format!("{} {}", times.value(row), keys.value(row)));
                continue;
            }
            let count = self
                .counts
                .entry((start, keys.value(row).to_owned()))
                .or_default();
            *count = (count.0 + 1, count.1 + values.value(row));
        }
        let in_time = batch.num_rows() - late.len();
        match self.fault {
            Fault::None => out.contributed(&batch.origin, in_time),
            Fault::LosesRows => out.contributed(&batch.origin, in_time - 1),
            Fault::CountsTwice => out.contributed(&batch.origin, in_time * 2),
        }
        out.late(&batch.origin, late.len());
        out.emit_to(Port::SIDE, Batch::derived(lines(late.into_iter())?));
        Ok(())
    }

    fn on_watermark(&mut self, watermark: EventTime, out: &mut Output) -> Result<()> {
        self.close(watermark.as_micros(), out)
    }

    fn on_end(&mut self, out: &mut Output) -> Result<()> {
        if let Some(((start, _), _)) = self.counts.last_key_value() {
            self.close(start + self.window, out)?;
        }
        Ok(())
    }

    fn snapshot(&mut self) -> Result<Snapshot> {
        let keys: StringArray = self
            .counts
            .keys()
            .map(|(_, key)| Some(key.as_str()))
            .collect();
        let hasher = KeyHasher::new([DataType::Utf8])?;
        let mut groups: Vec<Option<u8>> = hasher
            .key_groups(&[Arc::new(keys)])?
            .into_iter()
            .map(Some)
            .collect();
        // The last row is the watermark, for every lane.
        groups.push(None);
        let counts = || self.counts.iter();
        let starts = counts().map(|((start, _), _)| *start).chain([self.closed]);
        let keys = counts()
            .map(|((_, key), _)| Some(key.as_str()))
            .chain([None]);
        let rows = RecordBatch::try_new(
            Arc::new(Schema::new(vec![
                Field::new("start", DataType::Int64, false),
                Field::new("key", DataType::Utf8, true),
                Field::new("count", DataType::Int64, false),
                Field::new("sum", DataType::Int64, false),
                Field::new(KEY_GROUP_COLUMN, DataType::UInt8, true),
            ])),
            vec![
                Arc::new(starts.collect::<Int64Array>()),
                Arc::new(keys.collect::<StringArray>()),
                Arc::new(
                    counts()
                        .map(|(_, count)| count.0)
                        .chain([0])
                        .collect::<Int64Array>(),
                ),
                Arc::new(
                    counts()
                        .map(|(_, count)| count.1)
                        .chain([0])
                        .collect::<Int64Array>(),
                ),
                Arc::new(UInt8Array::from(groups)),
            ],
        )?;
        let removed = if self.written {
            vec!["all".to_owned()]
        } else {
            Vec::new()
        };
        self.written = true;
        Ok(Snapshot {
            put: vec![NewPart::new("all", rows)],
            removed,
        })
    }

    fn restore(&mut self, state: LaneState) -> Result<()> {
        self.written = true;
        for part in state.parts {
            let starts = part.rows.column(0).as_primitive::<Int64Type>();
            let keys = part.rows.column(1).as_string::<i32>();
            let counts = part.rows.column(2).as_primitive::<Int64Type>();
            let sums = part.rows.column(3).as_primitive::<Int64Type>();
            for row in 0..part.rows.num_rows() {
                if keys.is_null(row) {
                    self.closed = self.closed.max(starts.value(row));
                    continue;
                }
                let key = (starts.value(row), keys.value(row).to_owned());
                let count = self.counts.entry(key).or_default();
                *count = (count.0 + counts.value(row), count.1 + sums.value(row));
            }
        }
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        self.counts.len() * 64
    }
}

/// A batch with one text column.
pub(super) fn lines(lines: impl Iterator<Item = String>) -> Result<RecordBatch> {
    let schema = Schema::new(vec![Field::new("line", DataType::Utf8, false)]);
    let lines: StringArray = lines.map(Some).collect();
    Ok(RecordBatch::try_new(
        Arc::new(schema),
        vec![Arc::new(lines)],
    )?)
}
