//! A watermark that survives restarts.

use std::sync::Arc;

use arrow::{
    array::{AsArray, Int64Array},
    datatypes::Int64Type,
};
use tagflow_engine::{
    Error, EventTime, Result,
    state::{Restore, Snapshot, StatePart},
};

/// The key of the part with an operator's watermark.
const PART: &str = "watermark";
const COLUMN: &str = "watermark_us";

/// An operator's watermark. All lanes need it, so its part has no key group.
#[derive(Debug)]
pub(crate) struct StoredWatermark {
    part: &'static str,
    current: EventTime,
    stored: Option<EventTime>,
}

impl Default for StoredWatermark {
    fn default() -> Self {
        Self::in_part(PART)
    }
}

impl StoredWatermark {
    /// A watermark that is stored in the part with the key `part`.
    pub(crate) fn in_part(part: &'static str) -> Self {
        Self {
            part,
            current: EventTime::MIN,
            stored: None,
        }
    }

    pub(crate) fn get(&self) -> EventTime {
        self.current
    }

    /// Advances to `watermark`; never decreases.
    pub(crate) fn advance(&mut self, watermark: EventTime) {
        self.current = self.current.max(watermark);
    }

    /// Adds the part to `snapshot` if it has changed.
    pub(crate) fn snapshot(&mut self, snapshot: &mut Snapshot) -> Result<()> {
        let unchanged = self.stored.unwrap_or(EventTime::MIN) == self.current;
        if unchanged {
            return Ok(());
        }
        let micros = Arc::new(Int64Array::from(vec![self.current.as_micros()]));
        snapshot.put_for_all(self.part, self.stored.is_some(), COLUMN, micros)?;
        self.stored = Some(self.current);
        Ok(())
    }

    /// Restores the latest of the stored watermarks. Returns whether `part` was one.
    pub(crate) fn restore(&mut self, part: &StatePart, lanes: Restore) -> Result<bool> {
        if part.key != self.part {
            return Ok(false);
        }
        let watermarks = part
            .rows
            .column_by_name(COLUMN)
            .and_then(|column| column.as_primitive_opt::<Int64Type>())
            .ok_or_else(|| Error::data("a stored watermark cannot be read"))?;
        if let Some(latest) = watermarks.iter().flatten().max() {
            self.advance(EventTime::from_micros(latest));
        }
        self.stored = match lanes {
            Restore::InPlace => Some(self.current),
            Restore::Rescaled => None,
        };
        Ok(true)
    }
}
