//! Rows that tell of changes.

use std::{fmt, sync::Arc};

use arrow::{
    array::{ArrayRef, RecordBatch, StringBuilder, TimestampMicrosecondBuilder},
    datatypes::SchemaRef,
};
use tagflow_engine::Result;

use super::{
    user::{Change, User},
    value::{self, Value},
};

/// What happened to a tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Op {
    /// It has a value, or another one.
    Set,
    /// What fired should not have.
    Retract,
    /// Its key is forgotten.
    Forget,
}

/// Why a tag changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// An event.
    Event,
    /// An event that came after the watermark had passed it.
    LateEvent,
    /// Events left the window.
    Expiry,
    /// Something did not happen in time.
    Absence,
    /// The value was too old.
    Ttl,
    /// The key had no event for too long.
    StateTtl,
    /// Scores by quantiles go by other cuts.
    Quantiles,
}

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
}

impl Changes {
    pub(super) fn push(&mut self, user: &User<'_>, change: &Change<'_>) {
        let data_type = &change.tag.data_type;
        self.keys.push(user.key().clone());
        self.tags.append_value(&change.tag.name);
        self.ops.append_value(change.op.to_string());
        self.olds.append_option(change.old.text(data_type));
        self.news.append_option(change.new.text(data_type));
        self.event_times.append_option(change.event_time);
        self.effective.append_value(change.effective_at);
        self.causes.append_value(change.cause.to_string());
    }

    /// Takes the rows, in `schema`.
    pub(super) fn take(&mut self, schema: &SchemaRef) -> Result<RecordBatch> {
        let keys = std::mem::take(&mut self.keys);
        let columns: Vec<ArrayRef> = vec![
            value::array(&mut keys.iter(), schema.field(0).data_type())?,
            Arc::new(self.tags.finish()),
            Arc::new(self.ops.finish()),
            Arc::new(self.olds.finish()),
            Arc::new(self.news.finish()),
            Arc::new(self.event_times.finish().with_timezone("UTC")),
            Arc::new(self.effective.finish().with_timezone("UTC")),
            Arc::new(self.causes.finish()),
        ];
        Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Set => "set",
            Self::Retract => "retract",
            Self::Forget => "forget",
        })
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Event => "event",
            Self::LateEvent => "late_event",
            Self::Expiry => "expiry",
            Self::Absence => "absence",
            Self::Ttl => "ttl",
            Self::StateTtl => "state_ttl",
            Self::Quantiles => "quantiles",
        })
    }
}
