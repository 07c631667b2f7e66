//! Merges groups from several parts, one portion of the keys at a time.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef},
    compute::concat,
    datatypes::SchemaRef,
    record_batch::RecordBatch,
};
use tagflow_engine::{Result, state::KeyHasher};

use super::{panes::starting, spec::Aggregation, table::Table};
use crate::portions::{Portions, portions_of};

impl Aggregation {
    /// `states`, divided by key into portions of bounded size.
    pub(super) fn portions(
        &self,
        hasher: &KeyHasher,
        states: Vec<RecordBatch>,
    ) -> Result<Portions> {
        let count = portions_of(&states, self.portion_bytes);
        Portions::new(states, count, hasher, &self.hash_columns())
    }

    /// The groups of `parts` as groups of the pane that starts at `start`, each group once.
    pub(super) fn merged(
        &self,
        hasher: &KeyHasher,
        start: i64,
        parts: Vec<RecordBatch>,
    ) -> Result<RecordBatch> {
        let mut portions = self.portions(hasher, parts)?;
        let mut merged = Vec::new();
        while let Some(parts) = portions.next_filled()? {
            merged.push(self.table(start, &parts)?.into_states(self)?);
        }
        // The parts are as large as the result.
        drop(portions);
        concat_and_free(&self.partial, merged)
    }

    /// A table with the groups of `parts`, as groups of the pane that starts at `start`.
    pub(super) fn table(&self, start: i64, parts: &[RecordBatch]) -> Result<Table> {
        let mut table = Table::new(self)?;
        for part in parts {
            table.merge(self, &starting(start, part))?;
        }
        Ok(table)
    }
}

/// The rows of `batches` in one batch. The columns are freed one after the other, so no more
/// than one of them is in memory twice.
fn concat_and_free(schema: &SchemaRef, mut batches: Vec<RecordBatch>) -> Result<RecordBatch> {
    if batches.len() == 1
        && let Some(only) = batches.pop()
    {
        return Ok(only);
    }
    let mut rest: Vec<_> = batches
        .into_iter()
        .map(|batch| batch.into_parts().1.into_iter())
        .collect();
    let columns = schema.fields().iter().map(|_| {
        let parts: Vec<ArrayRef> = rest.iter_mut().filter_map(Iterator::next).collect();
        let parts: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
        concat(&parts)
    });
    let columns = columns.collect::<Result<_, _>>()?;
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}
