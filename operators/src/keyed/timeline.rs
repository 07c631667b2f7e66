//! Rows with a key and a place in time.

use std::{cmp::Ordering, collections::BTreeSet, sync::Arc};

use arrow::{
    array::{Array, AsArray, RecordBatch, TimestampMicrosecondArray},
    datatypes::{DataType, Int64Type, SchemaRef, TimeUnit, TimestampMicrosecondType},
};
use tagflow_engine::{
    Error, Origin, Result, graph::OFFSET_COLUMN, source::PartitionId, state::KeyHasher,
};

use super::keyed_rows::Keyed;

/// How the rows of a node are put in order.
#[derive(Debug, Clone)]
pub(crate) struct Timeline {
    /// The pipeline's name, for late rows.
    pub(crate) pipeline: Arc<str>,
    /// The node's name, for late rows and errors.
    pub(crate) step: Arc<str>,
    /// The rows, with [`OFFSET_COLUMN`] last where the source stamps it.
    pub(crate) input: SchemaRef,
    /// The column with the event time: a `Timestamp(µs, "UTC")` without nulls.
    pub(crate) time: usize,
    /// The columns of the key.
    pub(crate) key: Vec<usize>,
    /// The column that precedes partition and offset in the order of rows with the same time.
    pub(crate) id: Option<usize>,
    /// The number of columns in late rows, from the first one.
    pub(crate) shown: usize,
    /// The shown columns whose values are withheld.
    pub(crate) personal: BTreeSet<String>,
}

/// A row to be judged: the batch, and the row in it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RowRef {
    pub(crate) time: i64,
    offset: i64,
    pub(crate) batch: usize,
    pub(crate) row: usize,
}

impl Timeline {
    /// Checks that there is an event time.
    ///
    /// # Errors
    /// `Internal` if there is none.
    pub(crate) fn check(&self) -> Result<()> {
        let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let field = self.input.fields().get(self.time);
        match field {
            Some(field) if *field.data_type() == utc && !field.is_nullable() => Ok(()),
            _ => {
                let step = &self.step;
                Err(Error::internal(format!("`{step}` is given no event time")))
            }
        }
    }

    /// Hashes the key.
    pub(crate) fn hasher(&self) -> Result<KeyHasher> {
        let columns = self.key.iter();
        KeyHasher::new(columns.map(|key| self.input.field(*key).data_type().clone()))
    }

    /// The event times of `rows`.
    pub(crate) fn times<'a>(&self, rows: &'a RecordBatch) -> &'a TimestampMicrosecondArray {
        rows.column(self.time)
            .as_primitive::<TimestampMicrosecondType>()
    }

    /// The place of the source offset in a row.
    pub(crate) fn offset(&self) -> Option<usize> {
        let last = self.input.fields().len().checked_sub(1)?;
        (self.input.field(last).name() == OFFSET_COLUMN).then_some(last)
    }

    /// All rows of `ready` in order: by event time; rows with the same time by their id, then by
    /// partition and offset. Rows that are equal in all of these keep the order of their
    /// arrival.
    pub(crate) fn turns(&self, ready: &[Keyed]) -> Vec<RowRef> {
        let mut turns = Vec::with_capacity(ready.iter().map(|rows| rows.keys.len()).sum());
        for (batch, rows) in ready.iter().enumerate() {
            let records = &rows.batch.records;
            let offsets = self
                .offset()
                .map(|column| records.column(column).as_primitive::<Int64Type>().values());
            for (row, time) in self.times(records).values().iter().enumerate() {
                turns.push(RowRef {
                    time: *time,
                    offset: offsets.map_or(0, |offsets| offsets[row]),
                    batch,
                    row,
                });
            }
        }
        turns.sort_by_key(|turn| turn.time);
        for ties in turns.chunk_by_mut(|one, other| one.time == other.time) {
            ties.sort_by(|one, other| {
                let ids = self.id(ready, one).cmp(&self.id(ready, other));
                ids.then_with(|| by_offset(ready, one, other))
            });
        }
        turns
    }

    /// The id of a row.
    fn id<'a>(&self, ready: &'a [Keyed], turn: &RowRef) -> Id<'a> {
        let Some(id) = self.id else { return Id::None };
        let column = ready[turn.batch].batch.records.column(id);
        match column.data_type() {
            _ if column.is_null(turn.row) => Id::None,
            DataType::Int64 => Id::Int(column.as_primitive::<Int64Type>().value(turn.row)),
            DataType::Utf8 => Id::Text(column.as_string::<i32>().value(turn.row)),
            _ => Id::None,
        }
    }
}

/// Distinguishes rows with the same time.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Id<'a> {
    None,
    Int(i64),
    Text(&'a str),
}

fn by_offset(ready: &[Keyed], one: &RowRef, other: &RowRef) -> Ordering {
    let partition = |turn: &RowRef| partition(&ready[turn.batch]);
    partition(one)
        .cmp(&partition(other))
        .then_with(|| one.offset.cmp(&other.offset))
}

fn partition(rows: &Keyed) -> Option<&PartitionId> {
    match &rows.batch.origin {
        Origin::Partition(id) => Some(id.as_ref()),
        Origin::Derived => None,
    }
}
