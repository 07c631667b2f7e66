//! The earliest event time of an unread file.

use std::{sync::Arc, time::Duration};

use arrow::{array::AsArray, compute::min, datatypes::TimestampMicrosecondType};
use tagflow_engine::{
    Error, EventTime, Result,
    source::{Decoder, Offset, Rows},
};

use super::{config::FilesConfig, object::FileObject, open_file::OpenFile};

/// About this many bytes or rows at the start of a file show its earliest time.
const SAMPLE_BYTES: usize = 16 << 10;
const SAMPLE_ROWS: usize = 1024;

/// Finds the event time at which a file begins. The source reads files in the order of these times,
/// and files that are not read yet hold the watermark.
#[derive(Clone)]
pub struct EventTimes {
    /// The column of the event time.
    pub column: String,
    /// Makes decoders of that column alone.
    pub decoder: Arc<dyn Fn() -> Result<Box<dyn Decoder>> + Send + Sync>,
    /// How far rows of a file may be out of order.
    pub delay: Duration,
}

impl EventTimes {
    /// The lowest watermark that the rows of `file` from `position` on can have. It is the smallest
    /// time less the delay: from the statistics of a Parquet file, otherwise among the first rows.
    /// [`EventTime::MIN`] where no time is found; `None` where no row is left.
    pub(super) async fn lower_bound(
        &self,
        file: FileObject,
        position: Option<Offset>,
        config: &FilesConfig,
    ) -> Result<Option<EventTime>> {
        let config = FilesConfig {
            block_bytes: config.block_bytes.min(SAMPLE_BYTES),
            batch_rows: config.batch_rows.min(SAMPLE_ROWS),
            columns: Some(vec![self.column.clone()]),
            ..config.clone()
        };
        let Some(mut open) = OpenFile::open(file, position, &config, None).await? else {
            return Ok(None);
        };
        if let Some(rows) = open.smallest(&self.column)
            && let Some(time) = self.smallest(&rows)?
        {
            return Ok(Some(time.saturating_sub(self.delay)));
        }
        let Some(chunk) = open.next().await? else {
            return Ok(None);
        };
        let time = self.smallest(&chunk.rows)?.unwrap_or(EventTime::MIN);
        Ok(Some(time.saturating_sub(self.delay)))
    }

    /// The smallest time in `rows`; `None` without one.
    fn smallest(&self, rows: &Rows) -> Result<Option<EventTime>> {
        let decoded = (self.decoder)()?.decode(rows)?;
        let times = decoded
            .records
            .column_by_name(&self.column)
            .and_then(|times| times.as_primitive_opt::<TimestampMicrosecondType>())
            .ok_or_else(|| {
                Error::internal(format!("`{}` is no column of timestamps", self.column))
            })?;
        Ok(min(times).map(EventTime::from_micros))
    }
}
