//! A pane: the groups of one open window, and their stored parts.

use arrow::{
    array::{ArrayRef, UInt8Array},
    record_batch::RecordBatch,
};
use std::sync::Arc;
use tagflow_engine::{
    Result,
    state::{KeyHasher, Snapshot, StatePart},
};

use super::{
    spec::Tumble,
    table::{Inputs, Table},
};

/// A pane with more stored parts than this merges them into one.
const MAX_FROZEN: usize = 4;

/// The groups of one open window on one lane, kept like a log-structured merge
/// tree: a live table takes what comes in; a snapshot freezes it into a part
/// that never changes, so that only what came since is written; reading merges
/// the frozen parts with the live table.
#[derive(Default)]
pub(super) struct Pane {
    live: Option<Table>,
    frozen: Vec<Frozen>,
}

/// A part of a pane: states of [`Tumble::partial_schema`].
struct Frozen {
    /// The name of the part in the store; none before a snapshot has put it.
    key: Option<String>,
    states: RecordBatch,
}

impl Pane {
    /// Takes in rows, evaluated.
    pub(super) fn update(
        &mut self,
        tumble: &Tumble,
        groups: &[ArrayRef],
        inputs: &Inputs,
    ) -> Result<()> {
        self.live(tumble)?.update(tumble, groups, inputs)
    }

    /// Takes in states.
    pub(super) fn merge(&mut self, tumble: &Tumble, states: &RecordBatch) -> Result<()> {
        self.live(tumble)?.merge(tumble, states.columns())
    }

    /// Takes back states that are stored as `key`, or that must be stored anew.
    pub(super) fn restore(&mut self, key: Option<String>, states: RecordBatch) {
        self.frozen.push(Frozen { key, states });
    }

    /// Freezes what came in since the last snapshot, and adds to `snapshot` what
    /// is not stored yet. `next_key` names a new part.
    pub(super) fn snapshot(
        &mut self,
        tumble: &Tumble,
        hasher: &KeyHasher,
        mut next_key: impl FnMut() -> String,
        snapshot: &mut Snapshot,
    ) -> Result<()> {
        if let Some(live) = self.live.take() {
            let states = live.into_states(tumble)?;
            self.frozen.push(Frozen { key: None, states });
        }
        if self.frozen.len() > MAX_FROZEN {
            let mut merged = Table::new(tumble)?;
            for part in std::mem::take(&mut self.frozen) {
                merged.merge(tumble, part.states.columns())?;
                snapshot.removed.extend(part.key);
            }
            let states = merged.into_states(tumble)?;
            self.frozen.push(Frozen { key: None, states });
        }
        for part in &mut self.frozen {
            if part.key.is_none() {
                let key = next_key();
                snapshot.put.push(StatePart {
                    key: key.clone(),
                    rows: with_key_groups(tumble, hasher, &part.states)?,
                });
                part.key = Some(key);
            }
        }
        Ok(())
    }

    /// The group columns and results; the names of the stored parts go to
    /// `removed`.
    pub(super) fn close(self, tumble: &Tumble, removed: &mut Vec<String>) -> Result<Vec<ArrayRef>> {
        let mut table = match self.live {
            Some(live) => live,
            None => Table::new(tumble)?,
        };
        for part in self.frozen {
            table.merge(tumble, part.states.columns())?;
            removed.extend(part.key);
        }
        table.into_results(tumble)
    }

    /// Bytes in memory, an estimate.
    pub(super) fn bytes(&self) -> usize {
        let frozen = self.frozen.iter();
        self.live.as_ref().map_or(0, Table::bytes)
            + frozen
                .map(|part| part.states.get_array_memory_size())
                .sum::<usize>()
    }

    fn live(&mut self, tumble: &Tumble) -> Result<&mut Table> {
        if self.live.is_none() {
            self.live = Some(Table::new(tumble)?);
        }
        Ok(self.live.as_mut().expect("made above"))
    }
}

/// `states` as they are stored: with the key group of each row.
fn with_key_groups(
    tumble: &Tumble,
    hasher: &KeyHasher,
    states: &RecordBatch,
) -> Result<RecordBatch> {
    let keys: Vec<_> = tumble
        .hash_columns()
        .into_iter()
        .map(|column| Arc::clone(states.column(column)))
        .collect();
    let mut columns = states.columns().to_vec();
    columns.push(Arc::new(UInt8Array::from(hasher.key_groups(&keys)?)));
    Ok(RecordBatch::try_new(Arc::clone(&tumble.stored), columns)?)
}
