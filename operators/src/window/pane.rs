//! A pane: its groups, and their stored parts.

use arrow::{
    array::{ArrayRef, UInt8Array},
    record_batch::RecordBatch,
};
use std::sync::Arc;
use tagflow_engine::{
    Result,
    state::{KeyHasher, Snapshot},
};

use super::{
    span::Span,
    spec::Aggregation,
    table::{Inputs, Results, Table},
};

/// A pane with more stored parts than this merges the newer ones.
const MAX_FROZEN: usize = 4;

/// The groups of a pane on a lane, kept like a log-structured merge tree. A live table receives new
/// rows. A snapshot freezes it into an immutable part, so only the changes are written. A read
/// merges the frozen parts with the live table.
pub(super) struct Pane {
    /// The span of event time that the pane covers.
    pub(super) span: Span,
    live: Option<Table>,
    frozen: Vec<Frozen>,
}

/// A part of a pane: states of [`Aggregation::partial_schema`].
struct Frozen {
    /// The name of the stored part; `None` before the first snapshot.
    key: Option<String>,
    states: RecordBatch,
}

impl Pane {
    pub(super) fn new(span: Span) -> Self {
        Self {
            span,
            live: None,
            frozen: Vec::new(),
        }
    }

    /// Adds evaluated rows.
    pub(super) fn update(
        &mut self,
        aggregation: &Aggregation,
        groups: &[ArrayRef],
        inputs: &Inputs,
    ) -> Result<()> {
        self.live(aggregation)?.update(aggregation, groups, inputs)
    }

    /// Adds states.
    pub(super) fn merge(&mut self, aggregation: &Aggregation, states: &RecordBatch) -> Result<()> {
        self.live(aggregation)?.merge(aggregation, states.columns())
    }

    /// Restores states that are stored as `key`, or that must be stored again.
    pub(super) fn restore(&mut self, key: Option<String>, states: RecordBatch) {
        self.frozen.push(Frozen { key, states });
    }

    /// Freezes the changes since the last snapshot, and adds the parts that are not stored yet to
    /// `snapshot`. `next_key` names a new part.
    pub(super) fn snapshot(
        &mut self,
        aggregation: &Aggregation,
        hasher: &KeyHasher,
        mut next_key: impl FnMut() -> String,
        snapshot: &mut Snapshot,
    ) -> Result<()> {
        self.freeze(aggregation)?;
        if self.frozen.len() > MAX_FROZEN {
            let mut parts = Vec::with_capacity(self.frozen.len());
            for part in self.frozen.split_off(self.merged_from()) {
                parts.push(part.states);
                snapshot.removed.extend(part.key);
            }
            let states = aggregation.merged(hasher, self.span.start, parts)?;
            self.frozen.push(Frozen { key: None, states });
        }
        for part in &mut self.frozen {
            if part.key.is_none() {
                let key = next_key();
                snapshot.put_rows(
                    key.clone(),
                    with_key_groups(aggregation, hasher, &part.states)?,
                );
                part.key = Some(key);
            }
        }
        Ok(())
    }

    /// The first part to merge. A part that is more than twice as large as all newer parts together
    /// stays, so large parts are rarely written again.
    fn merged_from(&self) -> usize {
        let mut from = self.frozen.len();
        let mut newer = 0;
        for part in self.frozen.iter().rev() {
            let rows = part.states.num_rows();
            if self.frozen.len() - from >= 2 && rows > 2 * newer {
                break;
            }
            from -= 1;
            newer += rows;
        }
        from
    }

    /// Its groups in parts. Several parts may contain the same group.
    pub(super) fn states(&mut self, aggregation: &Aggregation) -> Result<Vec<RecordBatch>> {
        self.freeze(aggregation)?;
        let parts = self.frozen.iter();
        Ok(parts.map(|part| part.states.clone()).collect())
    }

    /// Freezes the live table into a new part, or into the last part if that is not stored.
    fn freeze(&mut self, aggregation: &Aggregation) -> Result<()> {
        let Some(mut live) = self.live.take() else {
            return Ok(());
        };
        if let Some(last) = self.frozen.pop_if(|last| last.key.is_none()) {
            live.merge(aggregation, last.states.columns())?;
        }
        let states = live.into_states(aggregation)?;
        self.frozen.push(Frozen { key: None, states });
        Ok(())
    }

    /// The names of its stored parts, which are no longer needed.
    pub(super) fn stored(self) -> impl Iterator<Item = String> {
        self.frozen.into_iter().filter_map(|part| part.key)
    }

    /// The groups with their results. The names of the stored parts are added to `removed`.
    pub(super) fn close(
        self,
        aggregation: &Aggregation,
        removed: &mut Vec<String>,
    ) -> Result<Results> {
        let mut table = match self.live {
            Some(live) => live,
            None => Table::new(aggregation)?,
        };
        for part in self.frozen {
            table.merge(aggregation, part.states.columns())?;
            removed.extend(part.key);
        }
        table.into_results(aggregation)
    }

    /// Bytes in memory, an estimate.
    pub(super) fn bytes(&self) -> usize {
        let frozen = self.frozen.iter();
        self.live.as_ref().map_or(0, Table::bytes)
            + frozen
                .map(|part| part.states.get_array_memory_size())
                .sum::<usize>()
    }

    fn live(&mut self, aggregation: &Aggregation) -> Result<&mut Table> {
        if self.live.is_none() {
            self.live = Some(Table::new(aggregation)?);
        }
        Ok(self.live.as_mut().expect("made above"))
    }
}

/// `states` in the stored form, with the key group of each row.
pub(super) fn with_key_groups(
    aggregation: &Aggregation,
    hasher: &KeyHasher,
    states: &RecordBatch,
) -> Result<RecordBatch> {
    let keys: Vec<_> = aggregation
        .hash_columns()
        .into_iter()
        .map(|column| Arc::clone(states.column(column)))
        .collect();
    let mut columns = states.columns().to_vec();
    columns.push(Arc::new(UInt8Array::from(hasher.key_groups(&keys)?)));
    Ok(RecordBatch::try_new(
        Arc::clone(&aggregation.stored),
        columns,
    )?)
}
