//! Emitted sessions that may still be corrected.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use arrow::{
    array::{Array, AsArray, BooleanArray, Int64Array, RecordBatch, UInt32Array},
    compute::{concat, concat_batches, filter, filter_record_batch, take_record_batch},
    datatypes::{DataType, Field, Int64Type, Schema},
    row::{OwnedRow, Rows},
};
use tagflow_engine::{
    Error, Result,
    state::{KeyHasher, Restore, Snapshot, StatePart},
};

use super::bounds::Bounds;
use crate::window::{pane::with_key_groups, spec::Aggregation, stored::Restored};

/// The prefix of the names of stored parts.
const PART: &str = "closed-";
/// The column of a stored part with the revision of each session.
const REVISION: &str = "_revision";

/// Emitted sessions are added to the last chunk while it has fewer rows than this.
const CHUNK_ROWS: usize = 8192;

/// The emitted sessions of a lane with their last results, for as long as a row may join them.
#[derive(Default)]
pub(super) struct Closed {
    /// By number, in the order of emission.
    chunks: BTreeMap<u64, Chunk>,
    next_chunk: u64,
    next_part: u64,
    /// Stored parts that are no longer needed.
    removed: Vec<String>,
}

/// Sessions that were emitted at about the same time.
struct Chunk {
    /// The name of the stored part; `None` before the first snapshot.
    key: Option<String>,
    /// States of [`Aggregation::partial_schema`].
    states: RecordBatch,
    revisions: Int64Array,
    /// From the first row of all its sessions to the last.
    bounds: Bounds,
    /// The rows whose sessions were removed.
    taken: BTreeSet<u32>,
    /// The rows of each key, computed on demand.
    index: Option<HashMap<OwnedRow, Vec<u32>>>,
}

/// The location of a closed session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    chunk: u64,
    row: u32,
}

/// Sessions that were closed.
pub(super) struct Taken {
    /// States of [`Aggregation::partial_schema`].
    pub(super) states: RecordBatch,
    pub(super) revisions: Vec<i64>,
}

impl Closed {
    /// Adds emitted sessions.
    pub(super) fn add(&mut self, states: RecordBatch, revisions: Int64Array) -> Result<()> {
        let Some(bounds) = Bounds::of(&states).reduce(Bounds::with) else {
            return Ok(());
        };
        if let Some(mut last) = self.chunks.last_entry()
            && last.get().key.is_none()
            && last.get().states.num_rows() < CHUNK_ROWS
        {
            let chunk = last.get_mut();
            chunk.states = concat_batches(&states.schema(), [&chunk.states, &states])?;
            let revisions = concat(&[&chunk.revisions, &revisions])?;
            chunk.revisions = revisions.as_primitive::<Int64Type>().clone();
            chunk.bounds = chunk.bounds.with(bounds);
            chunk.index = None;
            return Ok(());
        }
        self.push(None, states, revisions, bounds);
        Ok(())
    }

    /// The sessions of the same keys at most `gap` from `bounds`, each once.
    pub(super) fn near(
        &mut self,
        keys: &Rows,
        bounds: &[Bounds],
        gap: i64,
        keys_of: impl Fn(&RecordBatch) -> Result<Rows>,
    ) -> Result<Vec<Place>> {
        let mut places = BTreeSet::new();
        for (number, chunk) in &mut self.chunks {
            if !bounds.iter().any(|it| it.is_near(chunk.bounds, gap)) {
                continue;
            }
            let index = match &mut chunk.index {
                Some(index) => index,
                none => {
                    let mut index: HashMap<OwnedRow, Vec<u32>> = HashMap::new();
                    for (row, key) in (0..).zip(keys_of(&chunk.states)?.iter()) {
                        index.entry(key.owned()).or_default().push(row);
                    }
                    none.insert(index)
                }
            };
            let of_chunk: Vec<Bounds> = Bounds::of(&chunk.states).collect();
            for (key, bounds) in keys.iter().zip(bounds) {
                let known = index.get(&key.owned()).into_iter().flatten();
                let near = known.filter(|row| {
                    of_chunk[**row as usize].is_near(*bounds, gap) && !chunk.taken.contains(row)
                });
                places.extend(near.map(|row| Place {
                    chunk: *number,
                    row: *row,
                }));
            }
        }
        Ok(places.into_iter().collect())
    }

    /// The sessions at `places`, without removing them.
    pub(super) fn get(&self, aggregation: &Aggregation, places: &[Place]) -> Result<Taken> {
        let mut states = Vec::new();
        let mut revisions = Vec::with_capacity(places.len());
        for of_chunk in places.chunk_by(|one, other| one.chunk == other.chunk) {
            let chunk = &self.chunks[&of_chunk[0].chunk];
            let rows: UInt32Array = of_chunk.iter().map(|place| place.row).collect();
            states.push(take_record_batch(&chunk.states, &rows)?);
            let of_chunk = of_chunk.iter();
            revisions.extend(of_chunk.map(|place| chunk.revisions.value(place.row as usize)));
        }
        Ok(Taken {
            states: concat_batches(&aggregation.partial, &states)?,
            revisions,
        })
    }

    /// Removes the sessions at `places`, because other sessions replace them.
    pub(super) fn take(&mut self, places: impl IntoIterator<Item = Place>) {
        for place in places {
            if let Some(chunk) = self.chunks.get_mut(&place.chunk) {
                chunk.taken.insert(place.row);
            }
        }
    }

    /// Drops the chunks whose sessions all end before `first`.
    pub(super) fn retire(&mut self, first: i64) {
        let over = self
            .chunks
            .extract_if(.., |_, chunk| chunk.bounds.last < first);
        self.removed.extend(over.filter_map(|(_, chunk)| chunk.key));
    }

    /// Adds the parts that are not stored yet to `snapshot`.
    pub(super) fn snapshot(
        &mut self,
        aggregation: &Aggregation,
        hasher: &KeyHasher,
        snapshot: &mut Snapshot,
    ) -> Result<()> {
        snapshot.removed.append(&mut self.removed);
        for chunk in self.chunks.values_mut() {
            if !chunk.taken.is_empty() {
                snapshot.removed.extend(chunk.key.take());
                chunk.forget_taken()?;
            }
            if chunk.key.is_none() && chunk.states.num_rows() > 0 {
                self.next_part += 1;
                let key = format!("{PART}{}", self.next_part);
                let rows = with_revisions(
                    &with_key_groups(aggregation, hasher, &chunk.states)?,
                    &chunk.revisions,
                )?;
                snapshot.put_rows(key.clone(), rows);
                chunk.key = Some(key);
            }
        }
        self.chunks.retain(|_, chunk| chunk.states.num_rows() > 0);
        Ok(())
    }

    /// Restores a part. Returns whether it contains closed sessions.
    pub(super) fn restore(
        &mut self,
        aggregation: &Aggregation,
        part: &StatePart,
        lanes: Restore,
    ) -> Result<bool> {
        let Some(number) = part.key.strip_prefix(PART) else {
            return Ok(false);
        };
        let unreadable = || Error::data(format!("the stored state `{}` cannot be read", part.key));
        let number: u64 = number.parse().map_err(|_| unreadable())?;
        self.next_part = self.next_part.max(number);
        let at = part.rows.schema().index_of(REVISION)?;
        let mut rows = part.rows.clone();
        let revisions = rows.remove_column(at);
        let revisions = revisions.as_primitive_opt::<Int64Type>();
        let revisions = revisions.ok_or_else(unreadable)?.clone();
        let part = StatePart {
            key: part.key.clone(),
            rows,
        };
        let Restored { key, states } = aggregation.restored(part, lanes, &mut self.removed)?;
        if let Some(bounds) = Bounds::of(&states).reduce(Bounds::with) {
            self.push(key, states, revisions, bounds);
        }
        Ok(true)
    }

    /// Bytes in memory, an estimate.
    pub(super) fn bytes(&self) -> usize {
        let chunks = self.chunks.values();
        let bytes = chunks.map(|chunk| {
            chunk.states.get_array_memory_size() + chunk.revisions.get_array_memory_size()
        });
        bytes.sum()
    }

    fn push(
        &mut self,
        key: Option<String>,
        states: RecordBatch,
        revisions: Int64Array,
        bounds: Bounds,
    ) {
        self.next_chunk += 1;
        let chunk = Chunk {
            key,
            states,
            revisions,
            bounds,
            taken: BTreeSet::new(),
            index: None,
        };
        self.chunks.insert(self.next_chunk, chunk);
    }
}

impl Chunk {
    fn forget_taken(&mut self) -> Result<()> {
        let rows = 0..self.states.num_rows() as u32;
        let stays: BooleanArray = rows.map(|row| Some(!self.taken.contains(&row))).collect();
        self.states = filter_record_batch(&self.states, &stays)?;
        let revisions = filter(&self.revisions, &stays)?;
        self.revisions = revisions.as_primitive::<Int64Type>().clone();
        self.taken.clear();
        self.index = None;
        Ok(())
    }
}

fn with_revisions(stored: &RecordBatch, revisions: &Int64Array) -> Result<RecordBatch> {
    let mut fields = stored.schema().fields().to_vec();
    fields.push(Arc::new(Field::new(REVISION, DataType::Int64, false)));
    let mut columns = stored.columns().to_vec();
    columns.push(Arc::new(revisions.clone()));
    Ok(RecordBatch::try_new(
        Arc::new(Schema::new(fields)),
        columns,
    )?)
}
