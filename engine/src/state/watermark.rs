//! A watermark that survives restarts.

use std::sync::Arc;

use arrow::{
    array::{AsArray, Int64Array},
    datatypes::Int64Type,
};

use super::{Restore, Snapshot, StatePart, WholePart, rows_for_all};
use crate::{Error, EventTime, Result};

/// The key of the part with an operator's watermark.
const PART: &str = "watermark";
const COLUMN: &str = "watermark_us";

/// An operator's watermark. All lanes need it, so its part has no key group.
#[derive(Debug)]
pub struct StoredWatermark {
    key: &'static str,
    current: EventTime,
    part: WholePart,
}

impl Default for StoredWatermark {
    fn default() -> Self {
        Self::in_part(PART)
    }
}

impl StoredWatermark {
    /// A watermark that is stored in the part `key`.
    pub fn in_part(key: &'static str) -> Self {
        Self {
            key,
            current: EventTime::MIN,
            part: WholePart::default(),
        }
    }

    /// The watermark.
    pub fn get(&self) -> EventTime {
        self.current
    }

    /// Advances to `watermark`; never decreases.
    pub fn advance(&mut self, watermark: EventTime) {
        if watermark > self.current {
            self.current = watermark;
            self.part.change();
        }
    }

    /// Adds the part to `snapshot` if it has changed.
    ///
    /// # Errors
    /// `Internal` if the watermark makes no rows.
    pub fn snapshot(&mut self, snapshot: &mut Snapshot) -> Result<()> {
        let micros = self.current.as_micros();
        self.part.snapshot(self.key, snapshot, || {
            let micros = Arc::new(Int64Array::from(vec![micros]));
            rows_for_all([(COLUMN, micros as _)]).map(Some)
        })
    }

    /// Restores the latest of the stored watermarks. Returns whether `part` was one.
    ///
    /// # Errors
    /// `Data` if the part has another form.
    pub fn restore(&mut self, part: &StatePart, lanes: Restore) -> Result<bool> {
        if part.key != self.key {
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
        self.part.restore(&part.key, lanes);
        Ok(true)
    }
}
