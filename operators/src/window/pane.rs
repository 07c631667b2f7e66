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
    spec::Aggregation,
    table::{Inputs, Table},
    windows::Span,
};

/// A pane with more stored parts than this merges them into one.
const MAX_FROZEN: usize = 4;

/// The groups of one pane on one lane, kept like a log-structured merge tree: a
/// live table takes what comes in; a snapshot freezes it into a part that never
/// changes, so that only what came since is written; reading merges the frozen
/// parts with the live table.
pub(super) struct Pane {
    /// What it is of event time.
    pub(super) span: Span,
    live: Option<Table>,
    frozen: Vec<Frozen>,
}

/// A part of a pane: states of [`Aggregation::partial_schema`].
struct Frozen {
    /// The name of the part in the store; none before a snapshot has put it.
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

    /// Takes in rows, evaluated.
    pub(super) fn update(
        &mut self,
        aggregation: &Aggregation,
        groups: &[ArrayRef],
        inputs: &Inputs,
    ) -> Result<()> {
        self.live(aggregation)?.update(aggregation, groups, inputs)
    }

    /// Takes in states.
    pub(super) fn merge(&mut self, aggregation: &Aggregation, states: &RecordBatch) -> Result<()> {
        self.live(aggregation)?.merge(aggregation, states.columns())
    }

    /// Takes back states that are stored as `key`, or that must be stored anew.
    pub(super) fn restore(&mut self, key: Option<String>, states: RecordBatch) {
        self.frozen.push(Frozen { key, states });
    }

    /// Freezes what came in since the last snapshot, and adds to `snapshot` what
    /// is not stored yet. `next_key` names a new part.
    pub(super) fn snapshot(
        &mut self,
        aggregation: &Aggregation,
        hasher: &KeyHasher,
        mut next_key: impl FnMut() -> String,
        snapshot: &mut Snapshot,
    ) -> Result<()> {
        self.freeze(aggregation)?;
        if self.frozen.len() > MAX_FROZEN {
            let mut merged = Table::new(aggregation)?;
            for part in std::mem::take(&mut self.frozen) {
                merged.merge(aggregation, part.states.columns())?;
                snapshot.removed.extend(part.key);
            }
            let states = merged.into_states(aggregation)?;
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

    /// Its groups in parts, of which several may hold one group.
    pub(super) fn states(&mut self, aggregation: &Aggregation) -> Result<Vec<RecordBatch>> {
        self.freeze(aggregation)?;
        let parts = self.frozen.iter();
        Ok(parts.map(|part| part.states.clone()).collect())
    }

    /// Makes a part of what came in, or adds it to the last part where that is
    /// not stored.
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

    /// The names of its stored parts, which nothing needs any more.
    pub(super) fn stored(self) -> impl Iterator<Item = String> {
        self.frozen.into_iter().filter_map(|part| part.key)
    }

    /// The group columns and results; the names of the stored parts go to
    /// `removed`.
    pub(super) fn close(
        self,
        aggregation: &Aggregation,
        removed: &mut Vec<String>,
    ) -> Result<Vec<ArrayRef>> {
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

/// `states` as they are stored: with the key group of each row.
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
