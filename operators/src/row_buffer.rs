//! Rows that an operator buffers, by time.

use std::{collections::BTreeMap, sync::Arc};

use arrow::{
    array::{ArrayRef, AsArray, BooleanArray, UInt32Array, new_null_array},
    compute::{concat_batches, interleave_record_batch, take_record_batch},
    datatypes::{SchemaRef, TimestampMicrosecondType},
    record_batch::RecordBatch,
};
use tagflow_engine::{
    Error, Result,
    state::{KeyHasher, LaneState, Parts, Snapshot, StatePart, WholePart, with_key_groups},
};

use crate::portions::{PORTION_BYTES, Portions, portions_of};

/// The column of a part that contains marks.
const MARK_COLUMN: &str = "_mark";

/// Rows in *slots*: spans of time that are dropped as a whole. Within its slot a row has
/// a *place*, counted in the order of arrival, and can be marked once.
///
/// A snapshot only stores the rows added since the one before, merged with parts that are
/// not larger. Marks are a separate part, one bit per row.
pub(crate) struct RowBuffer {
    name: &'static str,
    lane: usize,
    schema: SchemaRef,
    /// The columns by which rows are exchanged.
    hash: Vec<usize>,
    hasher: KeyHasher,
    slots: BTreeMap<i64, Slot>,
    /// Stored parts that are no longer needed.
    removed: Vec<String>,
}

/// The rows of one slot.
#[derive(Debug, Default)]
pub(crate) struct Slot {
    parts: Parts<Rows>,
    marks: Vec<bool>,
    marks_part: WholePart,
}

/// The rows of a part.
#[derive(Debug)]
struct Rows {
    /// The place of the first row.
    first: usize,
    rows: RecordBatch,
}

impl RowBuffer {
    /// Rows of `schema`, exchanged by the columns `hash`, on `lane`. `name` distinguishes
    /// them from other buffers of the same operator.
    pub(crate) fn new(
        name: &'static str,
        schema: &SchemaRef,
        hash: Vec<usize>,
        lane: usize,
    ) -> Result<Self> {
        let types = hash.iter().map(|it| schema.field(*it).data_type().clone());
        Ok(Self {
            name,
            lane,
            schema: Arc::clone(schema),
            hasher: KeyHasher::new(types)?,
            hash,
            slots: BTreeMap::new(),
            removed: Vec::new(),
        })
    }

    /// Adds rows to a slot, and returns the place of the first.
    pub(crate) fn push(&mut self, slot: i64, rows: RecordBatch) -> usize {
        self.slots.entry(slot).or_default().push(rows)
    }

    /// The slots, in order.
    pub(crate) fn slots(&self) -> impl Iterator<Item = (i64, &Slot)> {
        self.slots.iter().map(|(slot, rows)| (*slot, rows))
    }

    /// A slot, if it has rows.
    pub(crate) fn get(&self, slot: i64) -> Option<&Slot> {
        self.slots.get(&slot)
    }

    /// Marks a row.
    pub(crate) fn mark(&mut self, slot: i64, place: usize) {
        if let Some(slot) = self.slots.get_mut(&slot)
            && !slot.is_marked(place)
        {
            slot.marks.resize(slot.marks.len().max(place + 1), false);
            slot.marks[place] = true;
            slot.marks_part.change();
        }
    }

    /// Removes and returns the rows of the first slot, if it is at or before `until`.
    pub(crate) fn take_first(&mut self, until: i64) -> Option<(i64, Slot)> {
        let (&slot, _) = self.slots.first_key_value()?;
        (slot <= until).then(|| Some((slot, self.take(slot)?)))?
    }

    /// Removes and returns the rows of a slot.
    pub(crate) fn take(&mut self, slot: i64) -> Option<Slot> {
        let mut rows = self.slots.remove(&slot)?;
        self.removed.extend(rows.parts.take_names());
        self.removed.extend(rows.marks_part.take_name());
        Some(rows)
    }

    /// The rows of `slot` in one batch, in the order of their places.
    pub(crate) fn concat(&self, slot: &Slot) -> Result<RecordBatch> {
        let rows = slot.parts.iter().map(|part| &part.rows);
        Ok(concat_batches(&self.schema, rows)?)
    }

    /// The number of portions of the rows in `slot`.
    pub(crate) fn portions_of(slot: &Slot) -> usize {
        let rows = slot.parts.iter().map(|part| part.rows.clone());
        portions_of(&rows.collect::<Vec<_>>(), PORTION_BYTES)
    }

    /// The rows of `slot` split into `count` portions by the columns of the exchange.
    pub(crate) fn portions(&self, mut slot: Slot, count: usize) -> Result<Portions> {
        let rows = slot.parts.take_all().into_iter().map(|part| part.rows);
        Portions::new(rows.collect(), count, &self.hasher, &self.hash)
    }

    /// No rows, or the rows of `batches` as one batch.
    pub(crate) fn one_batch(&self, batches: &[RecordBatch]) -> Result<RecordBatch> {
        Ok(concat_batches(&self.schema, batches)?)
    }

    /// The rows at `places`, each with its slot.
    pub(crate) fn rows_at(&self, places: &[(i64, usize)]) -> Result<RecordBatch> {
        let mut batches: Vec<&RecordBatch> = Vec::new();
        // The index of each slot's first batch, and the place of the first row of each batch.
        let mut slots: BTreeMap<i64, (usize, Vec<usize>)> = BTreeMap::new();
        let mut found = Vec::with_capacity(places.len());
        for &(slot, place) in places {
            let (index, firsts) = slots.entry(slot).or_insert_with(|| {
                let rows = self.slots.get(&slot);
                let rows = rows.expect("a place is in a slot of the buffer");
                let index = batches.len();
                batches.extend(rows.batches().map(|(_, rows)| rows));
                (index, rows.batches().map(|(first, _)| first).collect())
            });
            let part = firsts.partition_point(|first| *first <= place) - 1;
            found.push((*index + part, place - firsts[part]));
        }
        if batches.is_empty() {
            return Ok(RecordBatch::new_empty(Arc::clone(&self.schema)));
        }
        Ok(interleave_record_batch(&batches, &found)?)
    }

    /// Adds everything that is not stored yet to `snapshot`.
    pub(crate) fn snapshot(&mut self, snapshot: &mut Snapshot) -> Result<()> {
        snapshot.removed.append(&mut self.removed);
        for (at, slot) in &mut self.slots {
            slot.merge(&self.schema)?;
            let prefix = format!("{}.{at}.{}-", self.name, self.lane);
            let Slot {
                parts,
                marks,
                marks_part,
            } = slot;
            parts.snapshot(&prefix, snapshot, |part| {
                self.hasher.with_key_groups(&part.rows, &self.hash)
            })?;
            marks_part.snapshot(format!("{prefix}marks"), snapshot, || {
                if marks.is_empty() {
                    return Ok(None);
                }
                let mut groups = Vec::with_capacity(marks.len());
                for part in parts.iter() {
                    let keys = part.rows.project(&self.hash)?;
                    groups.extend(self.hasher.key_groups(keys.columns())?);
                }
                groups.truncate(marks.len());
                let marks: ArrayRef = Arc::new(BooleanArray::from(marks.clone()));
                let marks = RecordBatch::try_from_iter([(MARK_COLUMN, marks)])?;
                with_key_groups(&marks, groups.into()).map(Some)
            })?;
        }
        Ok(())
    }

    /// Restores the rows from snapshots.
    pub(crate) fn restore(&mut self, state: &LaneState) -> Result<()> {
        // Each lane counts its own places, so its parts stay together.
        type Stored<'a> = (BTreeMap<u64, &'a StatePart>, Option<&'a StatePart>);
        let mut stored: BTreeMap<(i64, &str), Stored<'_>> = BTreeMap::new();
        for part in &state.parts {
            let Some(rest) = part.key.strip_prefix(self.name) else {
                continue;
            };
            let (slot, lane, which) = parse(rest).ok_or_else(|| self.unknown(part))?;
            let of_lane = stored.entry((slot, lane)).or_default();
            if which == "marks" {
                of_lane.1 = Some(part);
            } else {
                let number = which.parse().map_err(|_| self.unknown(part))?;
                of_lane.0.insert(number, part);
            }
        }
        for ((at, _), (parts, marks)) in stored {
            let mut first = None;
            for part in parts.into_values() {
                let rows = self.restored(part)?;
                let slot = self.slots.entry(at).or_default();
                let place = slot.len();
                let rows = Rows { first: place, rows };
                slot.parts.restore(part.key.clone(), state.lanes, rows);
                first.get_or_insert(place);
            }
            if let (Some(part), Some(first)) = (marks, first) {
                let marks = part.rows.column_by_name(MARK_COLUMN);
                let marks = marks.and_then(|column| column.as_boolean_opt());
                let marks = marks.ok_or_else(|| self.unknown(part))?;
                let set: Vec<usize> = marks.values().set_indices().collect();
                for place in set {
                    self.mark(at, first + place);
                }
                if let Some(slot) = self.slots.get_mut(&at) {
                    slot.marks_part.restore(&part.key, state.lanes);
                }
            }
        }
        Ok(())
    }

    /// Bytes in memory, an estimate.
    pub(crate) fn bytes(&self) -> usize {
        let slots = self.slots.values();
        slots
            .map(|slot| {
                let parts = slot.parts.iter();
                let parts = parts.map(|part| part.rows.get_array_memory_size());
                parts.sum::<usize>() + slot.marks.len()
            })
            .sum()
    }

    /// The rows of a part. A column that they lack, because it was not read when they
    /// arrived, is null.
    fn restored(&self, part: &StatePart) -> Result<RecordBatch> {
        let fields = self.schema.fields().iter();
        let columns = fields.map(|field| match part.rows.column_by_name(field.name()) {
            Some(column) if column.data_type() == field.data_type() => Ok(Arc::clone(column)),
            None if field.is_nullable() => {
                Ok(new_null_array(field.data_type(), part.rows.num_rows()))
            }
            _ => Err(self.unknown(part)),
        });
        let columns = columns.collect::<Result<_>>()?;
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }

    fn unknown(&self, part: &StatePart) -> Error {
        Error::data(format!(
            "the stored state `{}` does not fit the query's `{}` rows",
            part.key, self.name
        ))
    }
}

impl Slot {
    /// The number of rows.
    pub(crate) fn len(&self) -> usize {
        let last = self.parts.iter().next_back();
        last.map_or(0, |part| part.first + part.rows.num_rows())
    }

    /// Whether the row at `place` is marked.
    pub(crate) fn is_marked(&self, place: usize) -> bool {
        self.marks.get(place).copied().unwrap_or(false)
    }

    /// The places of the rows that are not marked.
    pub(crate) fn unmarked(&self) -> UInt32Array {
        let places = 0..self.len();
        places
            .filter(|place| !self.is_marked(*place))
            .map(|place| place as u32)
            .collect()
    }

    /// The rows, batch by batch, each with the place of its first row.
    pub(crate) fn batches(&self) -> impl Iterator<Item = (usize, &RecordBatch)> {
        self.parts.iter().map(|part| (part.first, &part.rows))
    }

    fn push(&mut self, rows: RecordBatch) -> usize {
        let first = self.len();
        self.parts.push(Rows { first, rows });
        first
    }

    /// Merges the rows that are not stored yet into one part.
    fn merge(&mut self, schema: &SchemaRef) -> Result<()> {
        let size = |part: &Rows| part.rows.num_rows();
        let merged = self.parts.take_newest(self.parts.unstored(), size);
        if !merged.is_empty() {
            let rows = merged.iter().map(|(_, part)| &part.rows);
            self.push(concat_batches(schema, rows)?);
        }
        Ok(())
    }
}

/// The slot, the lane and the rest of a part's name: `.60000000.2-17`.
fn parse(name: &str) -> Option<(i64, &str, &str)> {
    let (slot, rest) = name.strip_prefix('.')?.split_once('.')?;
    let (lane, which) = rest.split_once('-')?;
    Some((slot.parse().ok()?, lane, which))
}

/// Splits rows of windows by the end of their window, which is the struct at
/// `column`.
pub(crate) fn by_window_end(rows: &RecordBatch, column: usize) -> Result<Vec<(i64, RecordBatch)>> {
    let window = rows.column(column).as_struct();
    let ends = window.column(1).as_primitive::<TimestampMicrosecondType>();
    by_slot(rows, ends.values().iter().copied())
}

/// Splits rows by the slot of each.
pub(crate) fn by_slot(
    rows: &RecordBatch,
    slots: impl Iterator<Item = i64>,
) -> Result<Vec<(i64, RecordBatch)>> {
    let mut places: BTreeMap<i64, Vec<u32>> = BTreeMap::new();
    for (place, slot) in slots.enumerate() {
        places.entry(slot).or_default().push(place as u32);
    }
    let split = places.into_iter().map(|(slot, places)| {
        let rows = if places.len() == rows.num_rows() {
            rows.clone()
        } else {
            take_record_batch(rows, &UInt32Array::from(places))?
        };
        Ok((slot, rows))
    });
    split.collect()
}

#[cfg(test)]
mod tests {
    use arrow::{
        array::Int64Array,
        compute::filter_record_batch,
        datatypes::{DataType, Field, Int64Type, Schema},
    };
    use tagflow_engine::state::{KEY_GROUP_COLUMN, Restore};

    use super::*;

    fn schema() -> SchemaRef {
        Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true)]))
    }

    fn rows(from: i64, count: i64) -> RecordBatch {
        let values = Int64Array::from_iter_values(from..from + count);
        RecordBatch::try_new(schema(), vec![Arc::new(values)]).unwrap()
    }

    /// The buffered rows of a slot with their marks, sorted.
    fn content(held: &[RowBuffer], slot: i64) -> Vec<(i64, bool)> {
        let mut content = Vec::new();
        for held in held {
            let Some(slot) = held.get(slot) else { continue };
            let rows = held.concat(slot).unwrap();
            let values = rows.column(0).as_primitive::<Int64Type>().values().iter();
            let values = values.enumerate();
            content.extend(values.map(|(place, value)| (*value, slot.is_marked(place))));
        }
        content.sort_unstable();
        content
    }

    fn apply(store: &mut BTreeMap<String, RecordBatch>, snapshot: Snapshot) {
        for key in snapshot.removed {
            assert!(store.remove(&key).is_some(), "`{key}` was not there");
        }
        for part in snapshot.put {
            let part = part.load().unwrap();
            assert!(store.insert(part.key, part.rows).is_none());
        }
    }

    /// The parts with the rows whose key group is `of_lane`.
    fn parts(
        store: &BTreeMap<String, RecordBatch>,
        of_lane: impl Fn(u8) -> bool,
    ) -> Vec<StatePart> {
        let part = |(key, rows): (&String, &RecordBatch)| {
            let groups = rows.column_by_name(KEY_GROUP_COLUMN).unwrap();
            let groups = groups.as_primitive::<arrow::datatypes::UInt8Type>();
            let mine: BooleanArray = groups
                .values()
                .iter()
                .map(|it| Some(of_lane(*it)))
                .collect();
            StatePart {
                key: key.clone(),
                rows: filter_record_batch(rows, &mine).unwrap(),
            }
        };
        store.iter().map(part).collect()
    }

    #[test]
    fn rows_and_marks_come_back_on_any_number_of_lanes() {
        let held = |lane| RowBuffer::new("left", &schema(), vec![0], lane).unwrap();
        let mut first = held(0);
        let mut store = BTreeMap::new();
        let mut next = 0;
        for round in 0..9 {
            for slot in [-1, 7] {
                let place = first.push(slot, rows(next, round + 1));
                first.mark(slot, place);
                first.mark(slot, place / 2);
                next += round + 1;
            }
            let mut snapshot = Snapshot::default();
            first.snapshot(&mut snapshot).unwrap();
            apply(&mut store, snapshot);
        }
        let expected = [-1, 7].map(|slot| content(std::slice::from_ref(&first), slot));
        assert!(expected[0].iter().any(|row| row.1) && expected[0].iter().any(|row| !row.1));
        assert!(store.len() < 12, "{:?}", store.keys());

        let mut same = held(0);
        let lanes = Restore::InPlace;
        same.restore(&LaneState {
            parts: parts(&store, |_| true),
            lanes,
        })
        .unwrap();
        assert_eq!(
            [-1, 7].map(|slot| content(std::slice::from_ref(&same), slot)),
            expected
        );
        let mut snapshot = Snapshot::default();
        same.snapshot(&mut snapshot).unwrap();
        assert!(snapshot.is_empty(), "nothing has changed");

        // To two lanes, with parts of the same names as before, and back to one.
        let lanes = Restore::Rescaled;
        let mut two = [held(0), held(1)];
        let mut stored = Vec::new();
        for (lane, held) in two.iter_mut().enumerate() {
            let parts = parts(&store, |group| usize::from(group) / 128 == lane);
            held.restore(&LaneState { parts, lanes }).unwrap();
            let mut snapshot = Snapshot::default();
            held.snapshot(&mut snapshot).unwrap();
            stored.extend(snapshot.put.into_iter().map(|part| part.load().unwrap()));
        }
        assert_eq!([-1, 7].map(|slot| content(&two, slot)), expected);
        let mut one = held(0);
        one.restore(&LaneState {
            parts: stored,
            lanes,
        })
        .unwrap();
        assert_eq!(
            [-1, 7].map(|slot| content(std::slice::from_ref(&one), slot)),
            expected
        );

        // Rows that were taken are also removed from the store.
        assert!(first.take_first(-1).is_some() && first.take_first(6).is_none());
        let mut snapshot = Snapshot::default();
        first.snapshot(&mut snapshot).unwrap();
        apply(&mut store, snapshot);
        assert!(
            store.keys().all(|key| key.starts_with("left.7.")),
            "{:?}",
            store.keys()
        );
    }
}
