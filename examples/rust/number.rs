//! An operator with state: the number of each visit of a user.

use std::{collections::BTreeMap, sync::Arc};

use arrow::{
    array::{AsArray, Int64Array, StringArray},
    datatypes::{DataType, Field, Int64Type, Schema},
    record_batch::RecordBatch,
};
use tagflow_engine::{
    Batch, Port, Result,
    operator::{Operator, Output},
    state::{KeyHasher, LaneState, Snapshot, WholePart},
};

use crate::visits::USER;

/// The part of the state with all counts of a lane.
const PART: &str = "counts";

/// Appends the column `number`: 1 at the first visit of a user.
pub(crate) struct Number {
    counts: BTreeMap<String, i64>,
    part: WholePart,
    hasher: KeyHasher,
}

impl Number {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {
            counts: BTreeMap::new(),
            part: WholePart::default(),
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
        self.part.change();
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
        self.part.snapshot(PART, &mut snapshot, || {
            let users: StringArray = self.counts.keys().map(Some).collect();
            let counts: Int64Array = self.counts.values().copied().collect();
            let rows = RecordBatch::try_from_iter([
                ("user", Arc::new(users) as _),
                ("count", Arc::new(counts) as _),
            ])?;
            // The key is the first column.
            self.hasher.with_key_groups(&rows, &[0]).map(Some)
        })?;
        Ok(snapshot)
    }

    fn restore(&mut self, state: LaneState) -> Result<()> {
        for part in &state.parts {
            let users = part.rows.column(0).as_string::<i32>();
            let counts = part.rows.column(1).as_primitive::<Int64Type>();
            let users = users.iter().flatten().map(ToOwned::to_owned);
            self.counts
                .extend(users.zip(counts.values().iter().copied()));
            self.part.restore(&part.key, state.lanes);
        }
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        self.counts.keys().map(|user| user.len() + 32).sum()
    }
}
