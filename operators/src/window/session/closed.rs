//! Emitted sessions that may still be corrected.

use std::{
    collections::{BTreeSet, HashMap},
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
    state::{KeyHasher, Parts, Restore, Snapshot, StatePart},
};

use super::bounds::Bounds;
use crate::window::spec::Aggregation;

/// The prefix of the names of stored parts.
const PART: &str = "closed-";
/// The column of a stored part with the revision of each session.
const REVISION: &str = "_revision";

/// Emitted sessions are added to the last chunk while it has fewer rows than this.
const CHUNK_ROWS: usize = 8192;

/// The emitted sessions of a lane with their last results, for as long as a row may join them.
#[derive(Default)]
pub(super) struct Closed {
    /// In the order of emission.
    chunks: Parts<Chunk>,
}

/// Sessions that were emitted at about the same time.
struct Chunk {
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
        if let Some(chunk) = self.chunks.unstored_mut()
            && chunk.states.num_rows() < CHUNK_ROWS
        {
            chunk.states = concat_batches(&states.schema(), [&chunk.states, &states])?;
            let revisions = concat(&[&chunk.revisions, &revisions])?;
            chunk.revisions = revisions.as_primitive::<Int64Type>().clone();
            chunk.bounds = chunk.bounds.with(bounds);
            chunk.index = None;
            return Ok(());
        }
        self.chunks.push(Chunk::new(states, revisions, bounds));
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
        for (number, chunk) in self.chunks.iter_mut() {
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
                    chunk: number,
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
            let chunk = self.chunks.get(of_chunk[0].chunk);
            let chunk = chunk.expect("a place is in a chunk");
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
            if let Some(chunk) = self.chunks.change(place.chunk) {
                chunk.taken.insert(place.row);
            }
        }
    }

    /// Drops the chunks whose sessions all end before `first`.
    pub(super) fn retire(&mut self, first: i64) {
        self.chunks.remove_if(|_, chunk| chunk.bounds.last < first);
    }

    /// Adds the parts that are not stored yet to `snapshot`.
    pub(super) fn snapshot(
        &mut self,
        aggregation: &Aggregation,
        hasher: &KeyHasher,
        snapshot: &mut Snapshot,
    ) -> Result<()> {
        self.chunks
            .remove_if(|_, chunk| chunk.taken.len() == chunk.states.num_rows());
        let keys = aggregation.hash_columns();
        self.chunks.snapshot(PART, snapshot, |chunk| {
            chunk.forget_taken()?;
            let rows = hasher.with_key_groups(&chunk.states, &keys)?;
            with_revisions(&rows, &chunk.revisions)
        })
    }

    /// Restores a part. Returns whether it contains closed sessions.
    pub(super) fn restore(
        &mut self,
        aggregation: &Aggregation,
        part: &StatePart,
        lanes: Restore,
    ) -> Result<bool> {
        if !part.key.starts_with(PART) {
            return Ok(false);
        }
        let unreadable = || Error::data(format!("the stored state `{}` cannot be read", part.key));
        let at = part.rows.schema().index_of(REVISION)?;
        let mut rows = part.rows.clone();
        let revisions = rows.remove_column(at);
        let revisions = revisions.as_primitive_opt::<Int64Type>();
        let revisions = revisions.ok_or_else(unreadable)?.clone();
        let part = StatePart {
            key: part.key.clone(),
            rows,
        };
        let part = aggregation.restored(part, lanes)?;
        if let Some(bounds) = Bounds::of(&part.states).reduce(Bounds::with) {
            part.add_to(&mut self.chunks, |states| {
                Chunk::new(states, revisions, bounds)
            });
        }
        Ok(true)
    }

    /// Bytes in memory, an estimate.
    pub(super) fn bytes(&self) -> usize {
        let chunks = self.chunks.iter();
        let bytes = chunks.map(|chunk| {
            chunk.states.get_array_memory_size() + chunk.revisions.get_array_memory_size()
        });
        bytes.sum()
    }
}

impl Chunk {
    fn new(states: RecordBatch, revisions: Int64Array, bounds: Bounds) -> Self {
        Self {
            states,
            revisions,
            bounds,
            taken: BTreeSet::new(),
            index: None,
        }
    }

    fn forget_taken(&mut self) -> Result<()> {
        if self.taken.is_empty() {
            return Ok(());
        }
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
