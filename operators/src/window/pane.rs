//! A pane: its groups, and their stored parts.

use arrow::{array::ArrayRef, record_batch::RecordBatch};
use tagflow_engine::{
    Result,
    state::{KeyHasher, Parts, Snapshot},
};

use super::{
    span::Span,
    spec::Aggregation,
    stored::Restored,
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
    /// States of [`Aggregation::partial_schema`].
    frozen: Parts<RecordBatch>,
}

impl Pane {
    pub(super) fn new(span: Span) -> Self {
        Self {
            span,
            live: None,
            frozen: Parts::default(),
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

    /// Adds frozen states.
    pub(super) fn push(&mut self, states: RecordBatch) {
        self.frozen.push(states);
    }

    /// Adds a stored part.
    pub(super) fn restore(&mut self, part: Restored) {
        part.add_to(&mut self.frozen, |states| states);
    }

    /// Freezes the changes since the last snapshot, and adds the parts that are not stored yet to
    /// `snapshot`.
    pub(super) fn snapshot(
        &mut self,
        aggregation: &Aggregation,
        hasher: &KeyHasher,
        snapshot: &mut Snapshot,
    ) -> Result<()> {
        self.freeze(aggregation)?;
        let start = self.span.start;
        if self.frozen.len() > MAX_FROZEN {
            let merged = self.frozen.take_newest(2, RecordBatch::num_rows);
            let merged = merged.into_iter().map(|(_, states)| states).collect();
            self.frozen.push(aggregation.merged(hasher, start, merged)?);
        }
        let keys = aggregation.hash_columns();
        self.frozen
            .snapshot(format_args!("w{start}-"), snapshot, |states| {
                hasher.with_key_groups(states, &keys)
            })
    }

    /// Its groups in parts. Several parts may contain the same group.
    pub(super) fn states(&mut self, aggregation: &Aggregation) -> Result<Vec<RecordBatch>> {
        self.freeze(aggregation)?;
        Ok(self.frozen.iter().cloned().collect())
    }

    /// Freezes the live table into a new part, or into the last part if that is not stored.
    fn freeze(&mut self, aggregation: &Aggregation) -> Result<()> {
        let Some(mut live) = self.live.take() else {
            return Ok(());
        };
        if let Some(last) = self.frozen.unstored_mut() {
            live.merge(aggregation, last.columns())?;
            *last = live.into_states(aggregation)?;
        } else {
            self.frozen.push(live.into_states(aggregation)?);
        }
        Ok(())
    }

    /// Takes out the names of its stored parts, which are no longer needed.
    pub(super) fn take_names(&mut self) -> Vec<String> {
        self.frozen.take_names()
    }

    /// The groups with their results. The names of the stored parts are added to `removed`.
    pub(super) fn close(
        mut self,
        aggregation: &Aggregation,
        removed: &mut Vec<String>,
    ) -> Result<Results> {
        let mut table = match self.live {
            Some(live) => live,
            None => Table::new(aggregation)?,
        };
        for states in self.frozen.iter() {
            table.merge(aggregation, states.columns())?;
        }
        removed.extend(self.frozen.take_names());
        table.into_results(aggregation)
    }

    /// Bytes in memory, an estimate.
    pub(super) fn bytes(&self) -> usize {
        let frozen = self.frozen.iter();
        self.live.as_ref().map_or(0, Table::bytes)
            + frozen
                .map(RecordBatch::get_array_memory_size)
                .sum::<usize>()
    }

    fn live(&mut self, aggregation: &Aggregation) -> Result<&mut Table> {
        if self.live.is_none() {
            self.live = Some(Table::new(aggregation)?);
        }
        Ok(self.live.as_mut().expect("made above"))
    }
}
