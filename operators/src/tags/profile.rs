//! Rows with all tags of a key.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, RecordBatch, TimestampMicrosecondArray},
    datatypes::{DataType, SchemaRef},
};
use tagflow_engine::Result;

use super::{
    key_state::KeyState,
    plan::Plan,
    value::{self, Value},
};

/// Rows of [`tagflow_schemas::tags::profile`].
#[derive(Debug, Default)]
pub(super) struct Profiles {
    keys: Vec<Value>,
    as_of: Vec<i64>,
    /// By tag.
    values: Vec<Vec<Value>>,
    segments: Vec<Value>,
}

impl Profiles {
    /// Adds the profile of a key at `as_of`.
    pub(super) fn push(&mut self, plan: &Plan, user: &KeyState, as_of: i64) {
        self.keys.push(user.key().clone());
        self.as_of.push(as_of);
        self.values.resize_with(plan.tags.len(), Vec::new);
        for (tag, values) in self.values.iter_mut().enumerate() {
            values.push(user.value(plan, tag));
        }
        self.segments.push(user.segments(plan));
    }

    /// Returns the rows, in `schema`, with the tags that are `incomplete`, and resets them.
    pub(super) fn take(&mut self, schema: &SchemaRef, incomplete: &Value) -> Result<RecordBatch> {
        let mut profiles = std::mem::take(self);
        // Each tag needs a column even without keys.
        profiles
            .values
            .resize_with(schema.fields().len() - 4, Vec::new);
        let rows = profiles.keys.len();
        let as_of = TimestampMicrosecondArray::from(profiles.as_of);
        let mut columns: Vec<ArrayRef> = vec![
            value::array(&mut profiles.keys.iter(), schema.field(0).data_type())?,
            Arc::new(as_of.with_timezone("UTC")),
        ];
        for (place, values) in profiles.values.iter().enumerate() {
            let data_type = schema.field(place + 2).data_type();
            columns.push(value::array(&mut values.iter(), data_type)?);
        }
        let names = DataType::new_list(DataType::Utf8, true);
        let mut incomplete = std::iter::repeat_n(incomplete, rows);
        columns.push(value::array(&mut incomplete, &names)?);
        columns.push(value::array(&mut profiles.segments.iter(), &names)?);
        Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
    }
}
