//! Restores stored states of earlier definitions.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, RecordBatch},
    datatypes::{DataType, Schema},
};
use tagflow_engine::{
    Error, Result,
    state::{Parts, Restore, StatePart},
};

use super::{spec::Aggregation, table::Table};
use crate::aggregate::exact;

/// A stored part in the form of an aggregation.
pub(super) struct Restored {
    key: String,
    lanes: Restore,
    /// Whether it was stored in this form.
    is_same: bool,
    /// States of [`Aggregation::partial_schema`].
    pub(super) states: RecordBatch,
}

impl Restored {
    /// Adds the part to `parts`, and returns its number. A part that was stored in another form is
    /// stored again.
    pub(super) fn add_to<T>(
        self,
        parts: &mut Parts<T>,
        content: impl FnOnce(RecordBatch) -> T,
    ) -> u64 {
        let number = parts.restore(self.key, self.lanes, content(self.states));
        if !self.is_same {
            parts.change(number);
        }
        number
    }
}

impl Aggregation {
    /// Restores a part of groups. Aggregates with a known definition continue from their states.
    /// New ones begin with empty groups, and removed ones are dropped. Sums that were stored in a
    /// narrower type are widened. After a change the part must be stored again: an aggregate that is
    /// added again later also begins empty.
    ///
    /// # Errors
    /// `Config` if no aggregate is known; `Data` if the groups differ.
    pub(super) fn restored(&self, part: StatePart, lanes: Restore) -> Result<Restored> {
        let StatePart { key, rows } = part;
        let groups = self.group_width();
        let types = |schema: &Schema| -> Vec<DataType> {
            let fields = schema.fields().iter().take(groups);
            fields.map(|field| field.data_type().clone()).collect()
        };
        if types(&rows.schema()) != types(&self.partial) {
            return Err(Error::data(format!(
                "the stored state `{key}` is not of the query `{}`",
                self.spec.query
            )));
        }
        let mut columns = rows.columns()[..groups].to_vec();
        let mut is_widened = false;
        let mut known = Vec::with_capacity(self.state_widths.len());
        for aggregate in 0..self.state_widths.len() {
            let fields = self.partial.fields()[self.states(aggregate)].iter();
            let stored: Option<Vec<ArrayRef>> = fields
                .map(|field| {
                    let column = rows.column_by_name(field.name())?;
                    let is_same = column.data_type() == field.data_type();
                    is_widened |= !is_same;
                    if is_same {
                        return Some(Arc::clone(column));
                    }
                    exact::widened(column, field.data_type())
                })
                .collect();
            known.push(stored.is_some());
            columns.extend(match stored {
                Some(states) => states,
                None => Table::empty_states(self, aggregate, rows.num_rows())?,
            });
        }
        let visible = &known[..self.visible().len()];
        if !visible.is_empty() && !visible.contains(&true) {
            return Err(Error::config(format!(
                "no aggregate of `{0}` is what it was when its state was stored; undo the \
                 change, give it a new name to start it afresh, or drop its state (open windows) \
                 with the `--reset` that `tagflow diff` names",
                self.spec.query
            )));
        }
        // The last column contains the key groups.
        let has_all = rows.num_columns() == self.partial.fields().len() + 1;
        Ok(Restored {
            key,
            lanes,
            is_same: has_all && !is_widened && !known.contains(&false),
            states: RecordBatch::try_new(Arc::clone(&self.partial), columns)?,
        })
    }
}
