//! Stored states, whatever the aggregates were when they were stored.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, RecordBatch},
    datatypes::{DataType, Field, Schema},
};
use tagflow_engine::{
    Error, Result,
    state::{Lanes, StatePart},
};

use super::{spec::Aggregation, table::Table};

/// A stored part as an aggregation has it.
pub(super) struct Restored {
    /// Its name, where it stays stored as it is.
    pub(super) key: Option<String>,
    /// Of [`Aggregation::partial_schema`].
    pub(super) states: RecordBatch,
}

impl Aggregation {
    /// Takes back a part of groups. Aggregates that are known by their definitions go
    /// on from their states; those that are new begin with groups of which no row
    /// counts; those that are gone are dropped. Then the part must be stored anew, and
    /// its name goes to `removed`: who comes back later begins anew, too.
    ///
    /// # Errors
    /// `Config` where no aggregate is known; `Data` where the groups are others.
    pub(super) fn restored(
        &self,
        part: StatePart,
        lanes: Lanes,
        removed: &mut Vec<String>,
    ) -> Result<Restored> {
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
        let mut known = Vec::with_capacity(self.state_widths.len());
        for aggregate in 0..self.state_widths.len() {
            let fields = self.partial.fields()[self.states(aggregate)].iter();
            let stored: Option<Vec<ArrayRef>> = fields.map(|it| column(&rows, it)).collect();
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
        let is_same = !known.contains(&false) && rows.num_columns() == self.stored.fields().len();
        let key = match lanes {
            Lanes::Same if is_same => Some(key),
            Lanes::Same => {
                removed.push(key);
                None
            }
            Lanes::Changed => None,
        };
        Ok(Restored {
            key,
            states: RecordBatch::try_new(Arc::clone(&self.partial), columns)?,
        })
    }
}

/// The column of `rows` with the name and type of `field`. Of several, any: those of
/// one name are of one definition, so they are equal.
fn column(rows: &RecordBatch, field: &Field) -> Option<ArrayRef> {
    let column = rows.column_by_name(field.name())?;
    (column.data_type() == field.data_type()).then(|| Arc::clone(column))
}
