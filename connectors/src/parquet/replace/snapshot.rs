//! The sink: of all rows, those of the newest time are in the table.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow::{
    array::{AsArray, BooleanArray, RecordBatch},
    compute::{and, filter_record_batch, max},
    datatypes::TimestampMicrosecondType,
};
use async_trait::async_trait;
use tagflow_engine::{
    Batch, Error, Result,
    element::BarrierKind,
    sink::{RemovedFile, Sink, SinkContext, SinkCut},
    state::StatePart,
};

use super::published::{Ends, Published, WindowFile};
use crate::parquet::{layout::Layout, sink::ParquetSink};

/// The sink of a table in which the rows of the newest time replace all others.
///
/// Whoever emits gives all rows of one time before any barrier that follows the
/// first of them, so at a cut the newest time is complete. Those of a time that was
/// overtaken before the cut are never seen, nor those of a time that was cut before.
///
/// Every lane gets all rows and writes its share of them. So each knows of a newer
/// time, even one of which it has no row itself, and lets the files go that it wrote.
pub(in crate::parquet) struct SnapshotSink {
    rows: ParquetSink,
    layout: Arc<Layout>,
    share: Share,
    /// The input column with the time.
    as_of: usize,
    /// The newest time, in microseconds.
    newest: i64,
    /// That of the last cut.
    cut: i64,
    /// The files that readers see.
    published: Published,
}

/// The rows that one lane writes: those of its buckets, every n-th of n lanes.
pub(in crate::parquet) struct Share {
    /// The input column with the bucket's number, as text.
    bucket: usize,
    lane: usize,
    lanes: usize,
}

impl Share {
    pub(in crate::parquet) fn of(context: &SinkContext, bucket: usize) -> Self {
        Self {
            bucket,
            lane: context.lane,
            lanes: context.lanes,
        }
    }

    /// Which rows are of it.
    fn of_rows(&self, rows: &RecordBatch) -> Result<BooleanArray> {
        let is_mine = |bucket: Option<&str>| {
            let bucket: usize = bucket?.parse().ok()?;
            Some(bucket % self.lanes == self.lane)
        };
        let buckets = rows.column(self.bucket).as_string_opt::<i32>();
        let mine: Option<Vec<bool>> = buckets.and_then(|it| it.iter().map(is_mine).collect());
        let mine = mine.ok_or_else(|| Error::internal("the bucket of a snapshot is no number"))?;
        Ok(mine.into())
    }
}

impl SnapshotSink {
    /// Writes by `rows`, whose input column `as_of` holds the time.
    pub(in crate::parquet) fn new(
        rows: ParquetSink,
        layout: Arc<Layout>,
        as_of: usize,
        share: Share,
    ) -> Self {
        Self {
            as_of,
            rows,
            layout,
            share,
            newest: i64::MIN,
            cut: i64::MIN,
            published: Published::default(),
        }
    }
}

#[async_trait]
impl Sink for SnapshotSink {
    async fn write(&mut self, batch: Batch) -> Result<()> {
        let times = batch.records.column(self.as_of);
        let times = times.as_primitive_opt::<TimestampMicrosecondType>();
        let times = times.ok_or_else(|| Error::internal("a snapshot has no time"))?;
        let newest = max(times).unwrap_or(i64::MIN);
        if newest > self.newest {
            self.rows.discard().await?;
            self.newest = newest;
        }
        if self.newest == self.cut {
            return Ok(());
        }
        let stays = BooleanArray::from_unary(times, |time| time == self.newest);
        let stays = and(&stays, &self.share.of_rows(&batch.records)?)?;
        let rows = filter_record_batch(&batch.records, &stays)?;
        if rows.num_rows() == 0 {
            return Ok(());
        }
        self.rows.write_rows(self.layout.table_rows(&rows)?).await
    }

    async fn cut(&mut self, _kind: BarrierKind) -> Result<SinkCut> {
        // Complete, so all files are.
        self.cut = self.newest;
        let mut cut = self.rows.cut(BarrierKind::Stop).await?;
        let removed = self.published.take_before(self.newest);
        cut.removed.extend(removed.iter().map(|old| RemovedFile {
            table: Arc::clone(&self.layout.url),
            published: old.path().to_string(),
        }));
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
        self.cut = self.newest;
        Ok(())
    }
}
