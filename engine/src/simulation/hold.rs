//! Operators that buffer rows, and that drop rows.

use std::{collections::BTreeMap, sync::Arc};

use arrow::{
    array::{
        ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, StringArray,
        TimestampMicrosecondArray,
    },
    compute::filter_record_batch,
    datatypes::{DataType, Int64Type, TimestampMicrosecondType},
};

use crate::{
    Batch, EventTime, Origin, Port, Result,
    operator::{Operator, Output},
    source::PartitionId,
    state::{KeyHasher, LaneState, Snapshot, WholePart, with_key_groups},
    testing::script_schema,
};

/// The rows that pass the [`Sieve`].
pub(super) fn passes(value: i64) -> bool {
    value % 7 != 3
}

/// Drops some rows.
pub(super) struct Sieve;

impl Operator for Sieve {
    fn on_batch(&mut self, _: Port, batch: Batch, out: &mut Output) -> Result<()> {
        let values = batch.records.column(2).as_primitive::<Int64Type>();
        let pass: BooleanArray = values.iter().map(|value| value.map(passes)).collect();
        let rows = filter_record_batch(&batch.records, &pass)?;
        out.filtered(&batch.origin, batch.num_rows() - rows.num_rows());
        out.emit(batch.with_records(rows));
        Ok(())
    }
}

/// Buffers rows until the watermark has passed them, and emits them in the order of their times.
/// Rows behind the watermark are emitted at once.
#[derive(Default)]
pub(super) struct Hold {
    rows: BTreeMap<(i64, i64), Held>,
    watermark: i64,
    part: WholePart,
}

struct Held {
    key: String,
    partition: Arc<PartitionId>,
}

impl Hold {
    pub(super) fn new() -> Self {
        Self {
            watermark: i64::MIN,
            ..Self::default()
        }
    }

    fn release(&mut self, until: i64, out: &mut Output) -> Result<()> {
        let due: Vec<_> = self
            .rows
            .extract_if(..(until, i64::MIN), |_, _| true)
            .collect();
        if !due.is_empty() {
            self.part.change();
        }
        for due in due.chunk_by(|(_, one), (_, next)| one.partition == next.partition) {
            let origin = Origin::Partition(Arc::clone(&due[0].1.partition));
            out.released(&origin, due.len());
            let times = due.iter().map(|((time, _), _)| *time);
            let keys = due.iter().map(|(_, held)| Some(held.key.as_str()));
            let values = due.iter().map(|((_, value), _)| *value);
            let records = RecordBatch::try_new(
                script_schema(),
                vec![
                    Arc::new(
                        TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC"),
                    ),
                    Arc::new(keys.collect::<StringArray>()),
                    Arc::new(Int64Array::from_iter_values(values)),
                ],
            )?;
            out.emit(Batch { records, origin });
        }
        Ok(())
    }
}

impl Operator for Hold {
    fn on_batch(&mut self, _: Port, batch: Batch, out: &mut Output) -> Result<()> {
        let Origin::Partition(partition) = &batch.origin else {
            unreachable!("rows come from sources")
        };
        let columns = batch.records.columns();
        let times = columns[0].as_primitive::<TimestampMicrosecondType>();
        let keys = columns[1].as_string::<i32>();
        let values = columns[2].as_primitive::<Int64Type>();
        let waits = |row: &usize| times.value(*row) >= self.watermark;
        let (held, passed): (Vec<_>, Vec<_>) = (0..batch.num_rows()).partition(waits);
        out.held(&batch.origin, held.len());
        if !held.is_empty() {
            self.part.change();
        }
        for row in held {
            let held = Held {
                key: keys.value(row).to_owned(),
                partition: Arc::clone(partition),
            };
            self.rows
                .insert((times.value(row), values.value(row)), held);
        }
        let pass: BooleanArray = (0..batch.num_rows())
            .map(|row| Some(passed.contains(&row)))
            .collect();
        out.emit(batch.with_records(filter_record_batch(&batch.records, &pass)?));
        Ok(())
    }

    fn on_watermark(&mut self, watermark: EventTime, out: &mut Output) -> Result<()> {
        self.watermark = watermark.as_micros();
        self.release(self.watermark, out)
    }

    fn holds_rows(&self) -> bool {
        !self.rows.is_empty()
    }

    fn on_end(&mut self, out: &mut Output) -> Result<()> {
        self.release(i64::MAX, out)
    }

    fn snapshot(&mut self) -> Result<Snapshot> {
        let mut snapshot = Snapshot::default();
        self.part.snapshot("held", &mut snapshot, || {
            if self.rows.is_empty() {
                return Ok(None);
            }
            let rows = || self.rows.iter();
            let keys: ArrayRef = Arc::new(StringArray::from_iter_values(
                rows().map(|(_, held)| held.key.as_str()),
            ));
            let groups = KeyHasher::new([DataType::Utf8])?.key_groups(&[Arc::clone(&keys)])?;
            let number = |number: fn(&(i64, i64)) -> i64| -> ArrayRef {
                let numbers = rows().map(|(place, _)| number(place));
                Arc::new(Int64Array::from_iter_values(numbers))
            };
            let text = |name: fn(&Held) -> &str| -> ArrayRef {
                Arc::new(StringArray::from_iter_values(
                    rows().map(|(_, held)| name(held)),
                ))
            };
            let rows = RecordBatch::try_from_iter([
                ("time", number(|(time, _)| *time)),
                ("value", number(|(_, value)| *value)),
                ("key", keys),
                ("source", text(|held| &held.partition.source)),
                ("partition", text(|held| &held.partition.partition)),
            ])?;
            with_key_groups(&rows, groups.into()).map(Some)
        })?;
        Ok(snapshot)
    }

    fn restore(&mut self, state: LaneState) -> Result<()> {
        for part in state.parts {
            self.part.restore(&part.key, state.lanes);
            let columns = part.rows.columns();
            let times = columns[0].as_primitive::<Int64Type>();
            let values = columns[1].as_primitive::<Int64Type>();
            let text = |column: usize, row| columns[column].as_string::<i32>().value(row);
            for row in 0..part.rows.num_rows() {
                let held = Held {
                    key: text(2, row).to_owned(),
                    partition: Arc::new(PartitionId::new(text(3, row), text(4, row))),
                };
                self.rows
                    .insert((times.value(row), values.value(row)), held);
            }
        }
        Ok(())
    }
}
