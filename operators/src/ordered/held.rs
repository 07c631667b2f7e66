//! Rows that wait for the watermark.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, BooleanArray, StringArray, UInt8Array},
    compute::{concat, concat_batches, filter_record_batch, not, partition},
    datatypes::{DataType, Field, Schema},
    record_batch::RecordBatch,
};
use tagflow_engine::{
    Batch, Error, Origin, Result,
    source::PartitionId,
    state::{KEY_GROUP_COLUMN, KeyHash, KeyHasher, Lanes, Snapshot, StatePart, part_number},
};

use super::timeline::Timeline;

/// How the names of stored parts begin.
const PART: &str = "held-";

/// Rows with their keys.
pub(crate) struct Keyed {
    pub(crate) batch: Batch,
    pub(crate) keys: Vec<Option<KeyHash>>,
}

/// The rows that wait. Those from before the watermark have gone on, so a stored
/// part stays as it is while its rows leave one by one: what a restore finds in
/// it from before the watermark is not there any more.
#[derive(Default)]
pub(crate) struct Held {
    waiting: Vec<Waiting>,
    /// The stored parts with the latest time in each.
    parts: Vec<(String, i64)>,
    next_part: u64,
}

/// Rows of one origin.
struct Waiting {
    rows: Keyed,
    first: i64,
    last: i64,
    is_stored: bool,
}

impl Keyed {
    pub(crate) fn new(timeline: &Timeline, hasher: &KeyHasher, batch: Batch) -> Result<Self> {
        let columns = timeline.key.iter();
        let columns: Vec<ArrayRef> = columns
            .map(|key| Arc::clone(batch.records.column(*key)))
            .collect();
        let keys = hasher.hashes(&columns)?;
        Ok(Self { batch, keys })
    }

    /// The rows for which `keep` is true.
    pub(crate) fn filter(&self, keep: &BooleanArray) -> Result<Self> {
        let keys = self.keys.iter().zip(keep.values());
        Ok(Self {
            batch: self
                .batch
                .with_records(filter_record_batch(&self.batch.records, keep)?),
            keys: keys
                .filter(|(_, keep)| *keep)
                .map(|(key, _)| *key)
                .collect(),
        })
    }
}

impl Held {
    /// Makes `rows`, at least one, wait.
    pub(crate) fn push(&mut self, timeline: &Timeline, rows: Keyed) {
        self.add(timeline, rows, false);
    }

    /// Takes out the rows from before `watermark`.
    pub(crate) fn take_before(
        &mut self,
        timeline: &Timeline,
        watermark: i64,
    ) -> Result<Vec<Keyed>> {
        let mut ready = Vec::new();
        for waiting in std::mem::take(&mut self.waiting) {
            if waiting.first >= watermark {
                self.waiting.push(waiting);
            } else if waiting.last < watermark {
                ready.push(waiting.rows);
            } else {
                let times = timeline.times(&waiting.rows.batch.records);
                let before = BooleanArray::from_unary(times, |time| time < watermark);
                ready.push(waiting.rows.filter(&before)?);
                let rest = waiting.rows.filter(&not(&before)?)?;
                self.add(timeline, rest, waiting.is_stored);
            }
        }
        Ok(ready)
    }

    /// Whether a stored part is one of these.
    pub(crate) fn is_part(key: &str) -> bool {
        key.starts_with(PART)
    }

    /// The time of the first row.
    pub(crate) fn first(&self) -> Option<i64> {
        self.waiting.iter().map(|waiting| waiting.first).min()
    }

    /// The time of the last row.
    pub(crate) fn last(&self) -> Option<i64> {
        self.waiting.iter().map(|waiting| waiting.last).max()
    }

    /// Puts the rows that came since the last snapshot as one part.
    pub(crate) fn snapshot(
        &mut self,
        timeline: &Timeline,
        watermark: i64,
        snapshot: &mut Snapshot,
    ) -> Result<()> {
        let gone = self.parts.extract_if(.., |(_, last)| *last < watermark);
        snapshot.removed.extend(gone.map(|(key, _)| key));
        let fresh = self.waiting.iter_mut().filter(|waiting| !waiting.is_stored);
        let mut fresh: Vec<&mut Waiting> = fresh.collect();
        let Some(last) = fresh.iter().map(|waiting| waiting.last).max() else {
            return Ok(());
        };
        self.next_part += 1;
        let key = format!("{PART}{}", self.next_part);
        let rows: Vec<&Keyed> = fresh.iter().map(|waiting| &waiting.rows).collect();
        snapshot.put_rows(key.clone(), encode(timeline, &rows)?);
        self.parts.push((key, last));
        for waiting in &mut fresh {
            waiting.is_stored = true;
        }
        Ok(())
    }

    /// Takes back the rows of `part` that had not gone on at `watermark`; false
    /// if it is none of these parts.
    pub(crate) fn restore(
        &mut self,
        timeline: &Timeline,
        hasher: &KeyHasher,
        watermark: i64,
        part: &StatePart,
        lanes: Lanes,
    ) -> Result<bool> {
        if !part.key.starts_with(PART) {
            return Ok(false);
        }
        let is_stored = lanes == Lanes::Same;
        let mut latest = i64::MIN;
        for batch in decode(timeline, part)? {
            let times = timeline.times(&batch.records);
            latest = times.values().iter().copied().fold(latest, i64::max);
            let waits = BooleanArray::from_unary(times, |time| time >= watermark);
            if waits.has_true() {
                let rows = Keyed::new(timeline, hasher, batch)?.filter(&waits)?;
                self.add(timeline, rows, is_stored);
            }
        }
        if is_stored {
            self.next_part = self.next_part.max(part_number(&part.key));
            self.parts.push((part.key.clone(), latest));
        }
        Ok(true)
    }

    /// Bytes in memory, an estimate.
    pub(crate) fn bytes(&self) -> usize {
        // Batches may be slices of the same chunk: each counts for its own rows.
        let bytes = |rows: &Keyed| {
            let columns = rows.batch.records.columns().iter();
            let columns = columns.map(|it| it.to_data().get_slice_memory_size().unwrap_or(0));
            columns.sum::<usize>() + rows.keys.capacity() * size_of::<Option<KeyHash>>()
        };
        let waiting = self.waiting.iter();
        waiting.map(|waiting| bytes(&waiting.rows)).sum()
    }

    fn add(&mut self, timeline: &Timeline, rows: Keyed, is_stored: bool) {
        let times = timeline.times(&rows.batch.records).values().iter();
        let (first, last) = times.fold((i64::MAX, i64::MIN), |(first, last), time| {
            (first.min(*time), last.max(*time))
        });
        self.waiting.push(Waiting {
            rows,
            first,
            last,
            is_stored,
        });
    }
}

/// The columns of the rows, then source, partition and key group.
fn encode(timeline: &Timeline, held: &[&Keyed]) -> Result<RecordBatch> {
    let input = &timeline.input;
    let records = concat_batches(input, held.iter().map(|rows| &rows.batch.records))?;
    let names = |name: fn(&PartitionId) -> &str| {
        let columns = held.iter().map(|rows| {
            let name = match &rows.batch.origin {
                Origin::Partition(id) => Some(name(id)),
                Origin::Derived => None,
            };
            StringArray::from(vec![name; rows.keys.len()])
        });
        let columns: Vec<StringArray> = columns.collect();
        concat(
            &columns
                .iter()
                .map(|it| it as &dyn Array)
                .collect::<Vec<_>>(),
        )
    };
    let groups = held.iter().flat_map(|rows| &rows.keys);
    let groups: UInt8Array = groups.map(|key| key.map(KeyHash::key_group)).collect();
    let mut columns = records.columns().to_vec();
    columns.push(names(|id| &id.source)?);
    columns.push(names(|id| &id.partition)?);
    columns.push(Arc::new(groups));
    let mut fields = input.fields().to_vec();
    for (name, kind) in [
        ("_source", DataType::Utf8),
        ("_partition", DataType::Utf8),
        (KEY_GROUP_COLUMN, DataType::UInt8),
    ] {
        fields.push(Arc::new(Field::new(name, kind, true)));
    }
    Ok(RecordBatch::try_new(
        Arc::new(Schema::new(fields)),
        columns,
    )?)
}

/// The rows of a part, a batch for each run of one origin.
fn decode(timeline: &Timeline, part: &StatePart) -> Result<Vec<Batch>> {
    let unreadable = || {
        Error::data(format!(
            "the stored rows `{}` are not of the step `{}`",
            part.key, timeline.step
        ))
    };
    let width = timeline.input.fields().len();
    let columns = part.rows.columns();
    let [source, name, _] = columns.get(width..).unwrap_or_default() else {
        return Err(unreadable());
    };
    let columns = columns[..width].to_vec();
    let records = RecordBatch::try_new(Arc::clone(&timeline.input), columns)
        .map_err(|error| unreadable().with_source(error))?;
    let runs = partition(&[Arc::clone(source), Arc::clone(name)])?.ranges();
    let (Some(source), Some(name)) = (source.as_string_opt::<i32>(), name.as_string_opt::<i32>())
    else {
        return Err(unreadable());
    };
    let batches = runs.into_iter().map(|run| {
        let rows = records.slice(run.start, run.len());
        if source.is_null(run.start) {
            return Batch::derived(rows);
        }
        let id = PartitionId::new(source.value(run.start), name.value(run.start));
        Batch::of_partition(rows, Arc::new(id))
    });
    Ok(batches.collect())
}
