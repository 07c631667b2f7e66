//! Rows that describe changes of tags.

use std::sync::Arc;

use arrow::{
    array::{
        Array, ArrayRef, Int64Builder, RecordBatch, StringBuilder, TimestampMicrosecondBuilder,
    },
    datatypes::SchemaRef,
};
use tagflow_engine::Result;

use super::{
    change::Change,
    key_state::KeyState,
    value::{self, Value},
};

/// Rows of [`tagflow_schemas::tags::changes`].
#[derive(Debug, Default)]
pub(super) struct Changes {
    keys: Vec<Value>,
    tags: StringBuilder,
    ops: StringBuilder,
    olds: StringBuilder,
    news: StringBuilder,
    event_times: TimestampMicrosecondBuilder,
    effective: TimestampMicrosecondBuilder,
    causes: StringBuilder,
    seqs: Int64Builder,
}

impl Changes {
    pub(super) fn push(&mut self, user: &KeyState, change: &Change<'_>) {
        self.keys.push(user.key().clone());
        self.tags.append_value(change.tag);
        self.ops.append_value(change.op.name());
        for (texts, value) in [(&mut self.olds, change.old), (&mut self.news, change.new)] {
            // `write_text` appends to the pending value, and `append_value` ends it.
            if value.write_text(change.data_type, texts) {
                texts.append_value("");
            } else {
                texts.append_null();
            }
        }
        self.event_times.append_option(change.event_time);
        self.effective.append_value(change.effective_at);
        self.causes.append_value(change.cause.name());
        self.seqs.append_value(user.told());
    }

    /// Returns the rows, in `schema`, and resets them.
    pub(super) fn take(&mut self, schema: &SchemaRef) -> Result<RecordBatch> {
        let keys = std::mem::take(&mut self.keys);
        let columns: Vec<ArrayRef> = vec![
            value::array(&mut keys.iter(), schema.field(0).data_type())?,
            finish(&mut self.tags),
            finish(&mut self.ops),
            finish(&mut self.olds),
            finish(&mut self.news),
            Arc::new(self.event_times.finish().with_timezone("UTC")),
            Arc::new(self.effective.finish().with_timezone("UTC")),
            finish(&mut self.causes),
            Arc::new(self.seqs.finish()),
        ];
        Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
    }
}

/// Returns the column, and reserves the same size for the next one: a growing builder copies its
/// content.
fn finish(texts: &mut StringBuilder) -> ArrayRef {
    let column = texts.finish();
    *texts = StringBuilder::with_capacity(column.len(), column.value_data().len());
    Arc::new(column)
}
