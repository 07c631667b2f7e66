//! The sink: of all rows, those of the newest time are in the table.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow::{
    array::{AsArray, BooleanArray},
    compute::{filter_record_batch, max},
    datatypes::{DataType, TimestampMicrosecondType},
};
use async_trait::async_trait;
use tagflow_engine::{
    Batch, Error, Result,
    element::BarrierKind,
    sink::{RemovedFile, Sink, SinkCut},
    state::StatePart,
};

use super::published::{Ends, Published, WindowFile};
use crate::parquet::{layout::Layout, sink::ParquetSink};

/// The sink of a table in which the rows of the newest time replace all others; on
/// one lane.
///
/// Whoever emits gives all rows of one time before any barrier that follows the
/// first of them, so at a cut the newest time is complete. Those of a time that was
/// overtaken before the cut are never seen.
pub(in crate::parquet) struct SnapshotSink {
    rows: ParquetSink,
    layout: Arc<Layout>,
    /// The table's column with the time.
    as_of: usize,
    /// The newest time, in microseconds.
    newest: i64,
    /// The files that readers see.
    published: Published,
}

impl SnapshotSink {
    /// Writes by `rows`, whose input column `as_of` holds the time.
    pub(in crate::parquet) fn new(
        rows: ParquetSink,
        layout: Arc<Layout>,
        as_of: usize,
    ) -> Result<Self> {
        let as_of = layout.column_of(as_of);
        let is_time = |column: &usize| {
            matches!(
                layout.table.field(*column).data_type(),
                DataType::Timestamp(_, _)
            )
        };
        let as_of = as_of.filter(is_time);
        Ok(Self {
            as_of: as_of.ok_or_else(|| Error::internal("a snapshot has no time"))?,
            rows,
            layout,
            newest: i64::MIN,
            published: Published::default(),
        })
    }
}

#[async_trait]
impl Sink for SnapshotSink {
    async fn write(&mut self, batch: Batch) -> Result<()> {
        let rows = self.layout.table_rows(&batch.records)?;
        let times = rows.column(self.as_of);
        let times = times.as_primitive::<TimestampMicrosecondType>();
        let newest = max(times).unwrap_or(i64::MIN);
        if newest > self.newest {
            self.rows.discard().await?;
            self.newest = newest;
        }
        let stays = BooleanArray::from_unary(times, |time| time == self.newest);
        let rows = filter_record_batch(&rows, &stays)?;
        if rows.num_rows() == 0 {
            return Ok(());
        }
        self.rows.write_rows(rows).await
    }

    async fn cut(&mut self, _kind: BarrierKind) -> Result<SinkCut> {
        // Complete, so all files are.
        let mut cut = self.rows.cut(BarrierKind::Stop).await?;
        if !cut.files.is_empty() {
            let removed = self.published.take_before(self.newest);
            cut.removed.extend(removed.iter().map(|old| RemovedFile {
                table: Arc::clone(&self.layout.url),
                published: old.path().to_string(),
            }));
        }
        for file in &mut cut.files {
            let name = file.staged.filename().unwrap_or_default().to_owned();
            self.published.add(WindowFile {
                folder: file.folder.clone(),
                name: name.clone(),
                ends: Ends {
                    first: self.newest,
                    last: self.newest,
                },
                staged: None,
            });
            file.name = Some(name);
        }
        self.published.snapshot(&mut cut.snapshot)?;
        Ok(cut)
    }

    async fn restore(&mut self, parts: Vec<StatePart>) -> Result<()> {
        for part in parts {
            if !self.published.restore(&part)? {
                let message = format!("`{}` is no state of a snapshot", part.key);
                return Err(Error::data(message));
            }
        }
        self.newest = self.published.newest().unwrap_or(i64::MIN);
        Ok(())
    }
}
