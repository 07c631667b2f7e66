//! Rows that are buffered until the watermark passes them.

use std::sync::Arc;

use arrow::{
    array::{Array, AsArray, BooleanArray, StringArray, UInt8Array},
    compute::{concat, concat_batches, not, partition},
    datatypes::{DataType, Field, Schema},
    record_batch::RecordBatch,
};
use tagflow_engine::{
    Batch, Error, Origin, Result,
    source::PartitionId,
    state::{KeyHash, KeyHasher, Parts, Restore, Snapshot, StatePart, with_key_groups},
};

use super::{keyed_rows::Keyed, timeline::Timeline};

/// How the names of stored parts begin.
const PART: &str = "held-";

/// The buffered rows. Rows from before the watermark have been emitted, so a stored part
/// stays unchanged while its rows leave one by one: a restore ignores its rows from
/// before the watermark.
#[derive(Default)]
pub(crate) struct SortedBuffer {
    waiting: Vec<Waiting>,
    /// The latest time in each part.
    parts: Parts<i64>,
}

/// Rows of a single origin.
struct Waiting {
    rows: Keyed,
    first: i64,
    last: i64,
    is_stored: bool,
}

impl SortedBuffer {
    /// Buffers `rows`, which has at least one row.
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

    /// A time up to `watermark` before which about `rows` rows are buffered, or all of
    /// them.
    pub(crate) fn stop(&self, watermark: i64, rows: usize) -> i64 {
        let ready = || self.waiting.iter().filter(|it| it.first < watermark);
        let count = |waiting: &Waiting| waiting.rows.keys.len();
        if ready().map(count).sum::<usize>() <= rows {
            return watermark;
        }
        let mut by_last: Vec<(i64, usize)> = ready().map(|it| (it.last, count(it))).collect();
        by_last.sort_unstable();
        let mut before = 0;
        let stop = by_last.into_iter().find(|(_, count)| {
            before += count;
            before >= rows
        });
        stop.map_or(watermark, |(last, _)| watermark.min(last.saturating_add(1)))
    }

    /// The buffered rows of `key` with a time up to `to`.
    pub(crate) fn of_key(&self, timeline: &Timeline, key: KeyHash, to: i64) -> Result<Vec<Keyed>> {
        let mut found = Vec::new();
        for Waiting { rows, first, .. } in &self.waiting {
            if *first > to || !rows.keys.contains(&Some(key)) {
                continue;
            }
            let times = timeline.times(&rows.batch.records).values();
            let is_meant = |(of, time): (&Option<KeyHash>, &i64)| *of == Some(key) && *time <= to;
            let meant = rows.keys.iter().zip(times).map(|row| Some(is_meant(row)));
            let meant: BooleanArray = meant.collect();
            if meant.has_true() {
                found.push(rows.filter(&meant)?);
            }
        }
        Ok(found)
    }

    /// Whether a stored part belongs to this buffer.
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

    /// Stores the rows added since the last snapshot as one part.
    pub(crate) fn snapshot(
        &mut self,
        timeline: &Timeline,
        watermark: i64,
        snapshot: &mut Snapshot,
    ) -> Result<()> {
        self.parts.remove_if(|_, last| *last < watermark);
        let fresh = self.waiting.iter_mut().filter(|waiting| !waiting.is_stored);
        let mut fresh: Vec<&mut Waiting> = fresh.collect();
        let last = fresh.iter().map(|waiting| waiting.last).max();
        if let Some(last) = last {
            self.parts.push(last);
        }
        self.parts.snapshot(PART, snapshot, |_| {
            let rows: Vec<&Keyed> = fresh.iter().map(|waiting| &waiting.rows).collect();
            encode(timeline, &rows)
        })?;
        for waiting in &mut fresh {
            waiting.is_stored = true;
        }
        Ok(())
    }

    /// Restores the rows of `part` that had not been emitted at `watermark`. Returns
    /// false if the part does not belong to this buffer.
    pub(crate) fn restore(
        &mut self,
        timeline: &Timeline,
        hasher: &KeyHasher,
        watermark: i64,
        part: &StatePart,
        lanes: Restore,
    ) -> Result<bool> {
        if !part.key.starts_with(PART) {
            return Ok(false);
        }
        let is_stored = lanes == Restore::InPlace;
        let mut latest = i64::MIN;
        for batch in decode(timeline, part)? {
            let times = timeline.times(&batch.records);
            latest = times.values().iter().copied().fold(latest, i64::max);
            let waits = BooleanArray::from_unary(times, |time| time >= watermark);
            if waits.has_true() {
                let rows = Keyed::new(&timeline.key, hasher, batch)?.filter(&waits)?;
                self.add(timeline, rows, is_stored);
            }
        }
        if is_stored {
            self.parts.restore(part.key.clone(), lanes, latest);
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
    let mut fields = input.fields().to_vec();
    for name in ["_source", "_partition"] {
        fields.push(Arc::new(Field::new(name, DataType::Utf8, true)));
    }
    let rows = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?;
    with_key_groups(&rows, groups)
}

/// The rows of a part, with a batch for each run of rows from the same origin.
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
