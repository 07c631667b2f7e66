//! Rows that an operator buffers, by time.

use std::{collections::BTreeMap, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray, BooleanArray, UInt8Array, UInt32Array, new_null_array},
    compute::{concat_batches, interleave_record_batch, take_record_batch},
    datatypes::{DataType, Field, Schema, SchemaRef, TimestampMicrosecondType},
    record_batch::RecordBatch,
};
use tagflow_engine::{
    Error, Result,
    state::{KEY_GROUP_COLUMN, KeyHasher, LaneState, Restore, Snapshot, StatePart},
};

use crate::portions::{PORTION_BYTES, Portions, portions_of};

/// The column of a part that contains marks.
const MARK_COLUMN: &str = "_mark";

/// Rows in *slots*: spans of time that are dropped as a whole. Within its slot a row has
/// a *place*, counted in the order of arrival, and can be marked once.
///
/// Stored parts never change; a snapshot only stores the rows added since the one before.
/// The number of parts per slot is kept low as in a log-structured merge tree: a part is
/// merged with the one before it unless that one is at least twice as large. Marks are a
/// separate part, one bit per row.
pub(crate) struct RowBuffer {
    name: &'static str,
    lane: usize,
    schema: SchemaRef,
    stored: SchemaRef,
    /// The columns by which rows are exchanged.
    hash: Vec<usize>,
    hasher: KeyHasher,
    slots: BTreeMap<i64, Slot>,
    next_part: u64,
    /// Stored parts that are no longer needed.
    removed: Vec<String>,
}

/// The rows of one slot.
#[derive(Debug, Default)]
pub(crate) struct Slot {
    parts: Vec<Part>,
    marks: Vec<bool>,
    /// The name of the stored marks.
    marks_key: Option<String>,
    marks_changed: bool,
}

#[derive(Debug)]
struct Part {
    /// The place of the first row.
    first: usize,
    /// The name of the part in the store; none before a snapshot has stored it.
    key: Option<String>,
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
            stored: with_key_group(schema.fields().iter().map(|it| it.as_ref().clone())),
            hasher: KeyHasher::new(types)?,
            hash,
            slots: BTreeMap::new(),
            next_part: 0,
            removed: Vec::new(),
        })
    }

    /// Adds rows to a slot, and returns the place of the first.
    pub(crate) fn push(&mut self, slot: i64, rows: RecordBatch) -> usize {
        self.slots.entry(slot).or_default().push(None, rows)
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
            slot.marks_changed = true;
        }
    }

    /// Removes and returns the rows of the first slot, if it is at or before `until`.
    pub(crate) fn take_first(&mut self, until: i64) -> Option<(i64, Slot)> {
        let (&slot, _) = self.slots.first_key_value()?;
        (slot <= until).then(|| Some((slot, self.take(slot)?)))?
    }

    /// Removes and returns the rows of a slot.
    pub(crate) fn take(&mut self, slot: i64) -> Option<Slot> {
        let rows = self.slots.remove(&slot)?;
        let parts = rows.parts.iter().filter_map(|part| part.key.clone());
        self.removed.extend(parts.chain(rows.marks_key.clone()));
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
    pub(crate) fn portions(&self, slot: Slot, count: usize) -> Result<Portions> {
        let rows = slot.parts.into_iter().map(|part| part.rows);
        Portions::new(rows.collect(), count, &self.hasher, &self.hash)
    }

    /// No rows, or the rows of `batches` as one batch.
    pub(crate) fn one_batch(&self, batches: &[RecordBatch]) -> Result<RecordBatch> {
        Ok(concat_batches(&self.schema, batches)?)
    }

    /// The rows at `places`, each with its slot.
    pub(crate) fn rows_at(&self, places: &[(i64, usize)]) -> Result<RecordBatch> {
        let mut batches: Vec<&RecordBatch> = Vec::new();
        let mut first_of: BTreeMap<i64, usize> = BTreeMap::new();
        let mut found = Vec::with_capacity(places.len());
        for &(slot, place) in places {
            let rows = self.slots.get(&slot);
            let parts = &rows.expect("a place is of a slot that is held").parts;
            let first = *first_of.entry(slot).or_insert_with(|| {
                batches.extend(parts.iter().map(|part| &part.rows));
                batches.len() - parts.len()
            });
            let part = parts.partition_point(|part| part.first <= place) - 1;
            found.push((first + part, place - parts[part].first));
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
            let stored = slot.parts.iter().take_while(|part| part.key.is_some());
            let stored = stored.count();
            if stored < slot.parts.len() {
                slot.merge_from(stored, &self.schema)?;
                while let [.., before, last] = slot.parts.as_slice()
                    && before.rows.num_rows() < 2 * last.rows.num_rows()
                {
                    snapshot.removed.extend(before.key.clone());
                    slot.merge_from(slot.parts.len() - 2, &self.schema)?;
                }
            }
            let first_name = format!("{}.{at}.{}-", self.name, self.lane);
            if let Some(part) = slot.parts.last_mut()
                && part.key.is_none()
            {
                self.next_part += 1;
                let key = format!("{first_name}{}", self.next_part);
                let groups = key_groups(&self.hasher, &self.hash, &part.rows)?;
                let columns = [part.rows.columns(), &[groups]].concat();
                snapshot.put_rows(
                    key.clone(),
                    RecordBatch::try_new(Arc::clone(&self.stored), columns)?,
                );
                part.key = Some(key);
            }
            if std::mem::take(&mut slot.marks_changed) {
                let key = format!("{first_name}marks");
                let parts = slot.parts.iter();
                let groups = parts.map(|part| key_groups(&self.hasher, &self.hash, &part.rows));
                let groups: Vec<ArrayRef> = groups.collect::<Result<_>>()?;
                let groups: Vec<&dyn Array> = groups.iter().map(AsRef::as_ref).collect();
                let groups = arrow::compute::concat(&groups)?.slice(0, slot.marks.len());
                let marks = Arc::new(BooleanArray::from(slot.marks.clone()));
                snapshot.removed.extend(slot.marks_key.take());
                snapshot.put_rows(
                    key.clone(),
                    RecordBatch::try_new(marks_schema(), vec![marks, groups])?,
                );
                slot.marks_key = Some(key);
            }
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
            for (number, part) in parts {
                let rows = self.restored(part)?;
                let key = match state.lanes {
                    Restore::InPlace => {
                        self.next_part = self.next_part.max(number);
                        Some(part.key.clone())
                    }
                    Restore::Rescaled => None,
                };
                let slot = self.slots.entry(at).or_default();
                let place = slot.push(key, rows);
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
                if let (Restore::InPlace, Some(slot)) = (state.lanes, self.slots.get_mut(&at)) {
                    slot.marks_key = Some(part.key.clone());
                    slot.marks_changed = false;
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
        self.parts
            .last()
            .map_or(0, |part| part.first + part.rows.num_rows())
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

    fn push(&mut self, key: Option<String>, rows: RecordBatch) -> usize {
        let first = self.len();
        self.parts.push(Part { first, key, rows });
        first
    }

    /// Merges the parts from `index` on into one part that is not stored yet.
    fn merge_from(&mut self, index: usize, schema: &SchemaRef) -> Result<()> {
        let parts = self.parts.split_off(index);
        let rows = concat_batches(schema, parts.iter().map(|part| &part.rows))?;
        self.push(None, rows);
        Ok(())
    }
}

/// The slot, the lane and the rest of a part's name: `.60000000.2-17`.
fn parse(name: &str) -> Option<(i64, &str, &str)> {
    let (slot, rest) = name.strip_prefix('.')?.split_once('.')?;
    let (lane, which) = rest.split_once('-')?;
    Some((slot.parse().ok()?, lane, which))
}

fn with_key_group(fields: impl Iterator<Item = Field>) -> SchemaRef {
    let group = Field::new(KEY_GROUP_COLUMN, DataType::UInt8, true);
    Arc::new(Schema::new(fields.chain([group]).collect::<Vec<_>>()))
}

fn marks_schema() -> SchemaRef {
    with_key_group([Field::new(MARK_COLUMN, DataType::Boolean, false)].into_iter())
}

fn key_groups(hasher: &KeyHasher, hash: &[usize], rows: &RecordBatch) -> Result<ArrayRef> {
    let keys = rows.project(hash)?;
    let groups = hasher.key_groups(keys.columns())?;
    Ok(Arc::new(UInt8Array::from(groups)))
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
    use arrow::{array::Int64Array, compute::filter_record_batch, datatypes::Int64Type};

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
