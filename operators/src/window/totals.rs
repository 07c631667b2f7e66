//! The state of each key of an aggregate without a window.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use arrow::{
    array::{Array, AsArray, BooleanArray, TimestampMicrosecondArray, new_null_array},
    compute::interleave_record_batch,
    datatypes::{DataType, TimestampMicrosecondType},
    record_batch::RecordBatch,
    row::{RowConverter, Rows, SortField},
};
use tagflow_engine::{
    Result,
    state::{KeyHasher, Parts, Restore, Snapshot, StatePart},
};

use super::{
    panes::starting,
    spec::{Aggregation, LEAD},
    table::{Results, Table},
};

/// The state of each key, in immutable parts. A newer part contains the changed keys, and replaces
/// their states in older parts. For a forgotten key it contains a *tombstone*: states that are
/// null. Parts are merged when the newer ones together are as large as the one before. There are
/// therefore few parts, a snapshot stores only the changes, and each state is written again a
/// logarithmic number of times.
pub(super) struct Totals {
    /// Converts keys.
    keys: RowConverter,
    /// Converts keys and results.
    values: RowConverter,
    places: HashMap<Arc<[u8]>, Place>,
    /// The keys by a tick at which each may be forgotten. By that tick the key may have a later
    /// row, or may no longer exist.
    expiries: BTreeMap<i64, Vec<Arc<[u8]>>>,
    /// States of [`Aggregation::partial_schema`]. The first column is the same in all rows.
    parts: Parts<RecordBatch>,
}

/// The location of a key's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    /// The number of the part.
    part: u64,
    row: usize,
    /// The event time of the key's last row.
    last: i64,
}

/// When keys are forgotten.
#[derive(Debug, Clone, Copy)]
pub(super) struct Expiry {
    /// The time to live after its last row.
    pub(super) ttl_us: i64,
    /// Ticks are the multiples of this.
    pub(super) every_us: i64,
}

/// The changes of some keys.
pub(super) struct Change {
    /// The time of the change.
    pub(super) tick: i64,
    pub(super) op: &'static str,
    /// The keys with their visible aggregates.
    pub(super) results: Results,
}

/// The number of keys to forget at a time.
const EXPIRED_KEYS: usize = 8192;

const PART: &str = "totals-";
const INSERT: &str = "insert";
const UPDATE: &str = "update";
const DELETE: &str = "delete";

impl Expiry {
    /// Whether a row at `last` is older than the time to live at `tick`.
    pub(super) fn is_over(self, last: i64, tick: i64) -> bool {
        last.saturating_add(self.ttl_us) < tick
    }

    /// The first tick at which a key with its last row at `last` is forgotten.
    fn tick(self, last: i64) -> i64 {
        let ticks = last.saturating_add(self.ttl_us).div_euclid(self.every_us);
        ticks.saturating_add(1).saturating_mul(self.every_us)
    }
}

impl Totals {
    pub(super) fn new(aggregation: &Aggregation) -> Result<Self> {
        let converter = |types: &mut dyn Iterator<Item = DataType>| {
            RowConverter::new(types.map(SortField::new).collect())
        };
        let visible = aggregation.visible().iter();
        let visible = visible.map(|aggregate| aggregate.function.field().data_type().clone());
        let mut values = aggregation.key_types().chain(visible);
        Ok(Self {
            keys: converter(&mut aggregation.key_types())?,
            values: converter(&mut values)?,
            places: HashMap::new(),
            expiries: BTreeMap::new(),
            parts: Parts::default(),
        })
    }

    /// Adds the states of the pane before `tick`, where several may belong to the same key. Returns
    /// the new keys, and the keys with changed values. Keys that should have been forgotten before
    /// begin again.
    pub(super) fn add(
        &mut self,
        aggregation: &Aggregation,
        came: &[RecordBatch],
        tick: i64,
        expiry: Expiry,
    ) -> Result<Vec<Change>> {
        if came.is_empty() {
            return Ok(Vec::new());
        }
        let mut table = Table::new(aggregation)?;
        for states in came {
            table.merge(aggregation, &starting(0, states))?;
        }
        let came = table.into_states(aggregation)?;
        let keys = self.keys(aggregation, &came)?;
        let mut over: BTreeMap<i64, Vec<Place>> = BTreeMap::new();
        for key in &keys {
            if let Some(place) = self.places.get(key.as_ref())
                && expiry.tick(place.last) < tick
            {
                let of_tick = over.entry(expiry.tick(place.last)).or_default();
                of_tick.extend(self.places.remove(key.as_ref()));
            }
        }
        let mut changes = Vec::new();
        for (tick, over) in over {
            changes.push(self.bury(aggregation, over, tick)?);
        }

        let places: Vec<Option<Place>> = keys
            .iter()
            .map(|key| self.places.get(key.as_ref()).copied())
            .collect();
        let known = self.gather(aggregation, places.iter().flatten().copied())?;
        let mut before = None;

        // Groups keep the order of their first occurrence.
        let mut table = Table::new(aggregation)?;
        table.merge(aggregation, came.columns())?;
        if known.num_rows() > 0 {
            table.merge(aggregation, known.columns())?;
            let known = results(aggregation, &known)?;
            before = Some(self.values.convert_columns(&known.columns[LEAD..])?);
        }
        let states = table.into_states(aggregation)?;
        let now = results(aggregation, &states)?;
        self.put(&keys, states, expiry);

        let values = self.values.convert_columns(&now.columns[LEAD..])?;
        let mut before = before.iter().flatten();
        let ops = places.iter().zip(values.iter());
        let ops: Vec<Option<&'static str>> = ops
            .map(|(place, value)| match place {
                None => Some(INSERT),
                Some(_) => (before.next() != Some(value)).then_some(UPDATE),
            })
            .collect();
        for op in [INSERT, UPDATE] {
            let of_op: BooleanArray = ops.iter().map(|it| Some(*it == Some(op))).collect();
            if of_op.has_true() {
                let results = now.filtered(&of_op)?;
                changes.push(Change { tick, op, results });
            }
        }
        Ok(changes)
    }

    /// The first tick at which a key may be forgotten.
    pub(super) fn next_expiry(&self) -> Option<i64> {
        self.expiries.keys().next().copied()
    }

    /// Forgets some of the expired keys at `tick`, and returns their last values; `None` if no such
    /// key is left.
    pub(super) fn expire(
        &mut self,
        aggregation: &Aggregation,
        tick: i64,
        expiry: Expiry,
    ) -> Result<Option<Change>> {
        let mut over = Vec::new();
        while over.len() < EXPIRED_KEYS
            && let Some(mut first) = self.expiries.first_entry()
            && *first.key() <= tick
        {
            let keys = first.get_mut();
            let some = keys.len().min(EXPIRED_KEYS - over.len());
            let some: Vec<Arc<[u8]>> = keys.drain(..some).collect();
            if keys.is_empty() {
                first.remove();
            }
            for key in some {
                let Some(place) = self.places.get(&key).copied() else {
                    continue;
                };
                if expiry.is_over(place.last, tick) {
                    self.places.remove(&key);
                    over.push(place);
                } else {
                    let tick = expiry.tick(place.last);
                    self.expiries.entry(tick).or_default().push(key);
                }
            }
        }
        if over.is_empty() {
            return Ok(None);
        }
        self.bury(aggregation, over, tick).map(Some)
    }

    /// Adds tombstones for the keys at `over`, and returns their last values.
    fn bury(&mut self, aggregation: &Aggregation, over: Vec<Place>, tick: i64) -> Result<Change> {
        let states = self.gather(aggregation, over.into_iter())?;
        let groups = aggregation.group_width();
        let mut tombstones = states.columns()[..groups].to_vec();
        let nulls = states.columns()[groups..].iter();
        tombstones.extend(nulls.map(|it| new_null_array(it.data_type(), it.len())));
        let tombstones = RecordBatch::try_new(states.schema(), tombstones)?;
        self.parts.push(tombstones);
        Ok(Change {
            tick,
            op: DELETE,
            results: Results {
                // They were reported when they were output before.
                unfit: Vec::new(),
                ..results(aggregation, &states)?
            },
        })
    }

    /// Merges the newer parts while they are as large as the one before.
    pub(super) fn compact(&mut self, aggregation: &Aggregation) -> Result<()> {
        let merged = self.parts.take_newest(1, RecordBatch::num_rows);
        let number = self.parts.next_number();
        let mut kept = Vec::new();
        for (index, (before, states)) in merged.iter().enumerate() {
            let keys = self.keys(aggregation, states)?;
            let last = last_times(states);
            for (row, key) in keys.iter().enumerate() {
                match self.places.get_mut(key.as_ref()) {
                    Some(place) if (place.part, place.row) == (*before, row) => {
                        (place.part, place.row) = (number, kept.len());
                        kept.push((index, row));
                    }
                    // Older parts may contain states of the key.
                    None if !self.parts.is_empty() && last.is_null(row) => kept.push((index, row)),
                    _ => {}
                }
            }
        }
        if !kept.is_empty() {
            let states: Vec<&RecordBatch> = merged.iter().map(|(_, states)| states).collect();
            self.parts.push(interleave_record_batch(&states, &kept)?);
        }
        Ok(())
    }

    /// Adds the changes since the last snapshot to `snapshot`.
    pub(super) fn snapshot(
        &mut self,
        aggregation: &Aggregation,
        hasher: &KeyHasher,
        snapshot: &mut Snapshot,
    ) -> Result<()> {
        let keys = aggregation.hash_columns();
        self.parts.snapshot(PART, snapshot, |states| {
            hasher.with_key_groups(states, &keys)
        })
    }

    /// The number of a stored part, if it is a part of totals.
    pub(super) fn number(key: &str) -> Option<u64> {
        key.strip_prefix(PART)?.parse().ok()
    }

    /// Restores stored parts, with their numbers. A key belongs to a single lane. If parts of
    /// several lanes meet, the numbers therefore still determine its newest state.
    pub(super) fn restore(
        &mut self,
        aggregation: &Aggregation,
        mut parts: Vec<(u64, StatePart)>,
        lanes: Restore,
        expiry: Expiry,
    ) -> Result<()> {
        parts.sort_unstable_by_key(|(number, ..)| *number);
        for (_, part) in parts {
            let part = aggregation.restored(part, lanes)?;
            let states = part.states.clone();
            let number = part.add_to(&mut self.parts, |states| states);
            let keys = self.keys(aggregation, &states)?;
            for (row, (key, last)) in keys.iter().zip(&last_times(&states)).enumerate() {
                match last {
                    Some(last) => {
                        let part = number;
                        let place = Place { part, row, last };
                        self.places.insert(key.as_ref().into(), place);
                    }
                    None => {
                        self.places.remove(key.as_ref());
                    }
                }
            }
        }
        for (key, place) in &self.places {
            let tick = self.expiries.entry(expiry.tick(place.last));
            tick.or_default().push(Arc::clone(key));
        }
        Ok(())
    }

    /// Bytes in memory, an estimate.
    pub(super) fn bytes(&self) -> usize {
        let parts = self.parts.iter();
        let states = parts.map(RecordBatch::get_array_memory_size);
        // Each key with the counters of its `Arc`, here and among the expiries.
        let each = size_of::<(Arc<[u8]>, Place)>() + 1;
        let keys = self.places.keys();
        let keys = keys.map(|key| key.len() + 2 * size_of::<usize>() + size_of::<Arc<[u8]>>());
        states.sum::<usize>() + keys.sum::<usize>() + self.places.capacity() * each * 8 / 7
    }

    /// Makes the states of `keys` the newest.
    fn put(&mut self, keys: &Rows, states: RecordBatch, expiry: Expiry) {
        let last = last_times(&states);
        let part = self.parts.next_number();
        self.parts.push(states);
        for (row, (key, last)) in keys.iter().zip(last.values()).enumerate() {
            let place = Place {
                part,
                row,
                last: *last,
            };
            if let Some(known) = self.places.get_mut(key.as_ref()) {
                *known = place;
                continue;
            }
            let key: Arc<[u8]> = key.as_ref().into();
            let tick = self.expiries.entry(expiry.tick(*last));
            tick.or_default().push(Arc::clone(&key));
            self.places.insert(key, place);
        }
    }

    /// The states at `places`.
    fn gather(
        &self,
        aggregation: &Aggregation,
        places: impl Iterator<Item = Place>,
    ) -> Result<RecordBatch> {
        let index = |place: Place| {
            let part = self.parts.index_of(place.part);
            (part.expect("a place is in a part"), place.row)
        };
        let rows: Vec<(usize, usize)> = places.map(index).collect();
        if rows.is_empty() {
            return Ok(RecordBatch::new_empty(aggregation.partial_schema()));
        }
        let states: Vec<&RecordBatch> = self.parts.iter().collect();
        Ok(interleave_record_batch(&states, &rows)?)
    }

    fn keys(&self, aggregation: &Aggregation, states: &RecordBatch) -> Result<Rows> {
        let keys = &states.columns()[LEAD..aggregation.group_width()];
        Ok(self.keys.convert_columns(keys)?)
    }
}

/// The visible results of `states`, which have distinct keys.
fn results(aggregation: &Aggregation, states: &RecordBatch) -> Result<Results> {
    let mut table = Table::new(aggregation)?;
    table.merge(aggregation, states.columns())?;
    let mut results = table.into_results(aggregation)?;
    let width = aggregation.group_width() + aggregation.visible().len();
    results.columns.truncate(width);
    Ok(results)
}

/// The event times of the last rows: the last column of states, null in
/// tombstones.
fn last_times(states: &RecordBatch) -> TimestampMicrosecondArray {
    let last = states.column(states.num_columns() - 1);
    last.as_primitive::<TimestampMicrosecondType>().clone()
}
