//! Finds rows that are revisions of each other.

use std::collections::{HashMap, hash_map::Entry};

use arrow::{
    array::{AsArray, BooleanArray, UInt32Array},
    compute::{not, take_record_batch},
    datatypes::{DataType, Int64Type, TimestampMicrosecondType},
    record_batch::RecordBatch,
    row::{RowConverter, Rows, SortField},
};
use tagflow_engine::{Error, Result, state::key_column, time::micros};

use crate::parquet::{config::Revisions, layout::Layout};

/// The indexes of the columns of [`Revisions`] in a table's rows.
#[derive(Debug)]
pub(in crate::parquet) struct RevisionColumns {
    /// The key columns that files contain; the others are in the folder's name.
    key: Vec<usize>,
    rows: RowConverter,
    window_end: usize,
    revision: usize,
    retracted: Option<usize>,
    lateness_us: i64,
}

impl RevisionColumns {
    /// Finds the columns of `revisions`.
    pub(in crate::parquet) fn new(revisions: &Revisions, layout: &Layout) -> Result<Self> {
        let place = |input: usize| {
            let place = layout.column_of(input);
            place.ok_or_else(|| Error::internal("a table lacks a column of its revisions"))
        };
        let (window_end, revision) = (place(revisions.window_end)?, place(revisions.revision)?);
        let retracted = revisions.retracted.map(place).transpose()?;
        let kind = |column: usize| layout.table.field(column).data_type();
        let times = matches!(kind(window_end), DataType::Timestamp(_, _));
        let in_file = |column: usize| column < layout.file.fields().len();
        let flags = retracted.is_none_or(|it| *kind(it) == DataType::Boolean && in_file(it));
        if !times || !flags || *kind(revision) != DataType::Int64 || !in_file(revision) {
            return Err(Error::internal(
                "revisions are told by columns of other types",
            ));
        }
        let mut key = revisions
            .key
            .iter()
            .map(|&input| place(input))
            .collect::<Result<Vec<_>>>()?;
        key.retain(|&column| column < layout.file.fields().len());
        if key.is_empty() {
            return Err(Error::config(
                "rows that replace others need a column of their window or key that is no \
                 partition column",
            ));
        }
        let fields = key
            .iter()
            .map(|&column| SortField::new(kind(column).clone()));
        Ok(Self {
            rows: RowConverter::new(fields.collect())?,
            key,
            window_end,
            revision,
            retracted,
            lateness_us: micros(revisions.lateness),
        })
    }

    /// The part of the fingerprint of the sink's state that is specific to revisions.
    pub(in crate::parquet) fn fingerprint(&self, layout: &Layout) -> String {
        let names = self.key.iter();
        let names = names.map(|&column| layout.table.field(column).name().as_str());
        format!("replaced by {}", names.collect::<Vec<_>>().join(", "))
    }

    /// The keys of the rows of a table or of a file, within one folder.
    pub(super) fn keys(&self, rows: &RecordBatch) -> Result<Rows> {
        let columns: Vec<_> = self
            .key
            .iter()
            .map(|&column| key_column(rows.column(column)))
            .collect();
        Ok(self.rows.convert_columns(&columns)?)
    }

    /// The end of each table row's window, in microseconds.
    pub(super) fn window_ends<'a>(&self, rows: &'a RecordBatch) -> &'a [i64] {
        let ends = rows.column(self.window_end);
        ends.as_primitive::<TimestampMicrosecondType>().values()
    }

    /// The newest row of each key, from rows of a single folder.
    pub(super) fn newest(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        let keys = self.keys(rows)?;
        let revisions = rows.column(self.revision).as_primitive::<Int64Type>();
        let mut newest = HashMap::with_capacity(rows.num_rows());
        for (row, key) in (0_u32..).zip(keys.iter()) {
            match newest.entry(key) {
                Entry::Vacant(vacant) => {
                    vacant.insert(row);
                }
                Entry::Occupied(mut known) => {
                    let before = revisions.value(*known.get() as usize);
                    if revisions.value(row as usize) >= before {
                        known.insert(row);
                    }
                }
            }
        }
        let mut newest: Vec<u32> = newest.into_values().collect();
        newest.sort_unstable();
        Ok(take_record_batch(rows, &UInt32Array::from(newest))?)
    }

    /// Which rows of a table or a file are present, and not retracted.
    pub(super) fn hold(&self, rows: &RecordBatch) -> Result<BooleanArray> {
        match self.retracted {
            Some(retracted) => Ok(not(rows.column(retracted).as_boolean())?),
            None => Ok(BooleanArray::from(vec![true; rows.num_rows()])),
        }
    }

    /// The latest end of a closed window among table rows.
    pub(super) fn closed_through(&self, rows: &RecordBatch) -> Option<i64> {
        let revisions = rows.column(self.revision).as_primitive::<Int64Type>();
        let ends = self.window_ends(rows).iter().zip(revisions.values());
        ends.filter(|(_, revision)| **revision >= 0)
            .map(|(end, _)| *end)
            .max()
    }

    /// Whether no window that ends at `end` or before is emitted again, once one that ends at
    /// `closed_through` has closed on all lanes.
    pub(super) fn has_settled(&self, end: i64, closed_through: i64) -> bool {
        end.saturating_add(self.lateness_us) <= closed_through
    }
}
