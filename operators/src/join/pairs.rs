//! Rows that belong together.

use std::{collections::HashMap, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray, BooleanArray, new_null_array},
    buffer::NullBuffer,
    compute::{filter_record_batch, prep_null_mask_filter},
    record_batch::RecordBatch,
    row::{RowConverter, Rows, SortField},
};
use tagflow_engine::{Error, Result};

use super::spec::JoinSpec;
use crate::{expr::evaluate, held::Held};

/// At most so many pairs are judged at once.
pub(super) const MAX_PAIRS: usize = 8192;

/// Makes rows of the output.
pub(super) struct Pairs {
    pub(super) spec: Arc<JoinSpec>,
    keys: RowConverter,
}

/// The places of rows by their keys, each with the row's time.
#[derive(Default)]
pub(super) struct Index(HashMap<Box<[u8]>, Vec<(usize, i64)>>);

/// Keys that can be looked up; a key with a null in it is none.
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
    /// Adds rows, whose places begin at `first`.
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

    /// What holds back the rows of both sides.
    pub(super) fn held(&self, lane: usize) -> Result<[Held; 2]> {
        let [left, right] = &self.spec.sides;
        Ok([
            Held::new("left", &left.input, left.hash_columns(), lane)?,
            Held::new("right", &right.input, right.hash_columns(), lane)?,
        ])
    }

    /// The keys of rows of a side.
    pub(super) fn keys(&self, side: usize, rows: &RecordBatch) -> Result<Keys> {
        let columns = rows.project(&self.spec.sides[side].hash_columns())?;
        let nulls = columns.columns().iter().fold(None, |nulls, column| {
            NullBuffer::union(nulls.as_ref(), column.logical_nulls().as_ref())
        });
        Ok(Keys {
            rows: self.keys.convert_columns(columns.columns())?,
            nulls,
        })
    }

    /// Rows with equal keys side by side, where they belong together; and where
    /// that is.
    pub(super) fn join(&self, sides: [&RecordBatch; 2]) -> Result<(RecordBatch, BooleanArray)> {
        let rows = sides[0].num_rows();
        let columns = (0..2).flat_map(|side| self.columns(side, sides[side]));
        let schema = Arc::clone(&self.spec.output);
        let joined = RecordBatch::try_new(schema, columns.collect())?;
        let Some(condition) = &self.spec.condition else {
            return Ok((joined, BooleanArray::from(vec![true; rows])));
        };
        let holds = evaluate(&self.spec.query, condition, &joined)?;
        let holds = holds.as_boolean_opt().ok_or_else(|| {
            Error::internal(format!(
                "the ON of `{}` is not a condition",
                self.spec.query
            ))
        })?;
        let holds = match holds.nulls() {
            Some(_) => prep_null_mask_filter(holds),
            None => holds.clone(),
        };
        Ok((filter_record_batch(&joined, &holds)?, holds))
    }

    /// Rows of a side to which no other belongs.
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
