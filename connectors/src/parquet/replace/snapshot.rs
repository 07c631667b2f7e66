//! The sink of a table that contains only the latest snapshot.

#[cfg(test)]
mod tests;

use std::{mem, sync::Arc};

use arrow::{
    array::{AsArray, BooleanArray, RecordBatch},
    compute::filter_record_batch,
};
use async_trait::async_trait;
use tagflow_engine::{
    Batch, Error, Result,
    element::BarrierKind,
    files::RemovedFile,
    sink::{PreparedCommit, Sink, SinkContext},
    state::StatePart,
};

use super::published::{Ends, Published, WindowFile};
use crate::parquet::{layout::Layout, sink::ParquetSink};

/// The sink of a table in which the rows since the last cut, if any, replace all others.
///
/// Every lane receives all rows and writes its share. So each lane knows of newer rows, even
/// without a row of its own, and removes its earlier files.
pub(in crate::parquet) struct SnapshotSink {
    rows: ParquetSink,
    layout: Arc<Layout>,
    share: Share,
    /// Whether rows have arrived since the last cut.
    is_new: bool,
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

    /// Which rows belong to this share.
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
    /// Writes with the sink `rows`.
    pub(in crate::parquet) fn new(rows: ParquetSink, layout: Arc<Layout>, share: Share) -> Self {
        Self {
            rows,
            layout,
            share,
            is_new: false,
            published: Published::default(),
        }
    }
}

#[async_trait]
impl Sink for SnapshotSink {
    async fn write(&mut self, batch: Batch) -> Result<()> {
        self.is_new = true;
        let mine = self.share.of_rows(&batch.records)?;
        let rows = filter_record_batch(&batch.records, &mine)?;
        if rows.num_rows() == 0 {
            return Ok(());
        }
        self.rows.write_rows(self.layout.table_rows(&rows)?).await
    }

    async fn prepare_commit(&mut self, _kind: BarrierKind) -> Result<PreparedCommit> {
        // A snapshot is complete, so all its files are.
        let mut cut = self.rows.prepare_files(BarrierKind::Stop).await?;
        let removed = if mem::take(&mut self.is_new) {
            self.published.take_all()
        } else {
            Vec::new()
        };
        cut.removed.extend(removed.iter().map(|old| RemovedFile {
            published: old.path().to_string(),
        }));
        for file in &mut cut.files {
            let name = file.staged.filename().unwrap_or_default().to_owned();
            self.published.add(WindowFile {
                folder: file.folder.clone(),
                name: name.clone(),
                ends: Ends::NONE,
                staged: None,
                sha256: Some(file.sha256.clone()),
            });
            file.name = Some(name);
        }
        self.published.snapshot(&mut cut.snapshot)?;
        self.rows.to_commit(cut)
    }

    async fn restore(&mut self, parts: Vec<StatePart>) -> Result<()> {
        for part in parts {
            if !self.published.restore(&part)? {
                let message = format!("`{}` is no state of a snapshot", part.key);
                return Err(Error::data(message));
            }
        }
        Ok(())
    }
}
