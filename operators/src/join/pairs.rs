//! Pairs of rows that match.

use std::{collections::HashMap, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, BooleanArray, new_null_array},
    buffer::NullBuffer,
    compute::filter_record_batch,
    record_batch::RecordBatch,
    row::{RowConverter, Rows, SortField},
};
use tagflow_engine::{Origin, Result, operator::Output, state::key_column};

use super::spec::JoinSpec;
use crate::{expr::holds, row_buffer::RowBuffer, row_errors::attempt};

/// At most this many pairs are evaluated at once.
pub(super) const MAX_PAIRS: usize = 8192;

/// Makes output rows.
pub(super) struct Pairs {
    pub(super) spec: Arc<JoinSpec>,
    keys: RowConverter,
}

/// The positions of rows by their keys, each with the row's time.
#[derive(Default)]
pub(super) struct Index(HashMap<Box<[u8]>, Vec<(usize, i64)>>);

/// Keys for look-ups. A key that contains a null matches nothing.
pub(super) struct Keys {
    rows: Rows,
    nulls: Option<NullBuffer>,
}

impl Keys {
    /// The key of a row.
    pub(super) fn get(&self, row: usize) -> Option<&[u8]> {
        let is_null = self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row));
        (!is_null).then(|| self.rows.row(row).data())
    }
}

impl Index {
    /// Adds rows, whose positions start at `first`.
    pub(super) fn add(&mut self, keys: &Keys, times: &[i64], first: usize) {
        for (row, time) in times.iter().enumerate() {
            if let Some(key) = keys.get(row) {
                let entry = (first + row, *time);
                match self.0.get_mut(key) {
                    Some(places) => places.push(entry),
                    None => drop(self.0.insert(Box::from(key), vec![entry])),
                }
            }
        }
    }

    /// The rows with `key`.
    pub(super) fn get(&self, key: &[u8]) -> &[(usize, i64)] {
        self.0.get(key).map_or(&[], Vec::as_slice)
    }
}

impl Pairs {
    pub(super) fn new(spec: Arc<JoinSpec>) -> Result<Self> {
        let left = &spec.sides[0];
        let types = left.hash_columns().into_iter();
        let types = types.map(|column| left.input.field(column).data_type().clone());
        Ok(Self {
            keys: RowConverter::new(types.map(SortField::new).collect())?,
            spec,
        })
    }

    /// The buffers for the rows of both sides.
    pub(super) fn held(&self, lane: usize) -> Result<[RowBuffer; 2]> {
        let [left, right] = &self.spec.sides;
        Ok([
            RowBuffer::new("left", &left.input, left.hash_columns(), lane)?,
            RowBuffer::new("right", &right.input, right.hash_columns(), lane)?,
        ])
    }

    /// The keys of a side's rows.
    pub(super) fn keys(&self, side: usize, rows: &RecordBatch) -> Result<Keys> {
        let columns = rows.project(&self.spec.sides[side].hash_columns())?;
        let nulls = columns.columns().iter().fold(None, |nulls, column| {
            NullBuffer::union(nulls.as_ref(), column.logical_nulls().as_ref())
        });
        let keys: Vec<ArrayRef> = columns.columns().iter().map(key_column).collect();
        Ok(Keys {
            rows: self.keys.convert_columns(&keys)?,
            nulls,
        })
    }

    /// Pairs of rows with equal keys that match, and which of the pairs match. A pair on
    /// which the condition fails is a dead letter, and does not match.
    pub(super) fn join(
        &self,
        sides: [&RecordBatch; 2],
        out: &mut Output,
    ) -> Result<(RecordBatch, BooleanArray)> {
        let rows = sides[0].num_rows();
        let columns = (0..2).flat_map(|side| self.columns(side, sides[side]));
        let schema = Arc::clone(&self.spec.output);
        let joined = RecordBatch::try_new(schema, columns.collect())?;
        let Some(condition) = &self.spec.condition else {
            return Ok((joined, BooleanArray::from(vec![true; rows])));
        };
        let attempt = attempt(&joined, |pairs| holds(condition, pairs))?;
        self.spec
            .errors
            .set_aside(&self.spec.query, &Origin::Derived, &attempt.failed, out)?;
        let mut verdicts = attempt.parts.iter().flat_map(BooleanArray::iter);
        let mut failed = attempt.failed.iter().map(|row| row.place).peekable();
        let holds = (0..rows).map(|pair| match failed.next_if_eq(&pair) {
            Some(_) => Some(false),
            None => verdicts.next().flatten(),
        });
        let holds: BooleanArray = holds.collect();
        Ok((filter_record_batch(&joined, &holds)?, holds))
    }

    /// Rows of a side without a match.
    pub(super) fn alone(&self, side: usize, rows: &RecordBatch) -> Result<RecordBatch> {
        let mut columns = self.columns(side, rows);
        let schema = &self.spec.output;
        let others = match side {
            0 => columns.len()..schema.fields().len(),
            _ => 0..schema.fields().len() - columns.len(),
        };
        let nulls = schema.fields()[others].iter();
        let nulls = nulls.map(|field| new_null_array(field.data_type(), rows.num_rows()));
        match side {
            0 => columns.extend(nulls),
            _ => drop(columns.splice(0..0, nulls.collect::<Vec<_>>())),
        }
        Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
    }

    fn columns(&self, side: usize, rows: &RecordBatch) -> Vec<ArrayRef> {
        rows.columns()[..self.spec.sides[side].columns].to_vec()
    }
}
