//! An operator with state: the number of each visit of a user.

use std::{collections::BTreeMap, sync::Arc};

use arrow::{
    array::{AsArray, Int64Array, StringArray, UInt8Array},
    datatypes::{DataType, Field, Int64Type, Schema},
    record_batch::RecordBatch,
};
use tagflow_engine::{
    Batch, Port, Result,
    operator::{Operator, Output},
    state::{KEY_GROUP_COLUMN, KeyHasher, LaneState, Restore, Snapshot},
};

use crate::visits::USER;

/// The part of the state with all counts of a lane.
const PART: &str = "counts";

/// Appends the column `number`: 1 at the first visit of a user.
pub(crate) struct Number {
    counts: BTreeMap<String, i64>,
    has_changed: bool,
    /// Whether the last snapshots contain [`PART`].
    is_stored: bool,
    hasher: KeyHasher,
}

impl Number {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {
            counts: BTreeMap::new(),
            has_changed: false,
            is_stored: false,
            hasher: KeyHasher::new([DataType::Utf8])?,
        })
    }
}

impl Operator for Number {
    fn on_batch(&mut self, _input: Port, batch: Batch, out: &mut Output) -> Result<()> {
        let users = batch.records.column(USER).as_string::<i32>();
        let numbers: Int64Array = users
            .iter()
            .flatten()
            .map(|user| {
                let count = self.counts.entry(user.to_owned()).or_default();
                *count += 1;
                *count
            })
            .collect();
        self.has_changed = true;
        let mut fields = batch.records.schema().fields().to_vec();
        fields.push(Arc::new(Field::new("number", DataType::Int64, false)));
        let mut columns = batch.records.columns().to_vec();
        columns.push(Arc::new(numbers));
        let records = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?;
        // The rows keep their origin, so each one is accounted for.
        out.emit(batch.with_records(records));
        Ok(())
    }

    fn snapshot(&mut self) -> Result<Snapshot> {
        let mut snapshot = Snapshot::default();
        if std::mem::take(&mut self.has_changed) {
            if std::mem::replace(&mut self.is_stored, true) {
                snapshot.removed.push(PART.to_owned());
            }
            let users: StringArray = self.counts.keys().map(Some).collect();
            let users = Arc::new(users) as _;
            let groups = self.hasher.key_groups(std::slice::from_ref(&users))?;
            let counts: Int64Array = self.counts.values().copied().collect();
            let rows = RecordBatch::try_from_iter([
                ("user", users),
                ("count", Arc::new(counts) as _),
                (KEY_GROUP_COLUMN, Arc::new(UInt8Array::from(groups)) as _),
            ])?;
            snapshot.put_rows(PART, rows);
        }
        Ok(snapshot)
    }

    fn restore(&mut self, state: LaneState) -> Result<()> {
        for part in &state.parts {
            let users = part.rows.column(0).as_string::<i32>();
            let counts = part.rows.column(1).as_primitive::<Int64Type>();
            let users = users.iter().flatten().map(ToOwned::to_owned);
            self.counts
                .extend(users.zip(counts.values().iter().copied()));
        }
        self.is_stored = state.lanes == Restore::InPlace && !state.parts.is_empty();
        self.has_changed = state.lanes == Restore::Rescaled;
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        self.counts.keys().map(|user| user.len() + 32).sum()
    }
}
