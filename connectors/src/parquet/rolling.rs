//! The open file of a partition, and when it is due.

use std::{sync::Arc, time::Duration};

use arrow::record_batch::RecordBatch;
use futures::{FutureExt, future::BoxFuture};
use object_store::path::Path;
use tagflow_engine::{Priority, Result, Uptime, files::StagedFile, state::Snapshot};

use super::{layout::Layout, unflushed::Unflushed, writer::FileWriter};

/// The current file of a partition's rows.
#[derive(Debug)]
pub(super) struct OpenFile {
    layout: Arc<Layout>,
    folder: Path,
    writer: FileWriter,
    opened: Uptime,
    carry: Unflushed,
    memory_bytes: usize,
}

/// A file in the staging folder that no cut has reported yet.
#[derive(Debug)]
pub(super) struct FinishedFile {
    /// The file.
    pub(super) staged: StagedFile,
    /// The names of the state parts with its rows.
    pub(super) parts: Vec<String>,
}

impl OpenFile {
    /// An empty file of partition `folder`, opened at `now`; `name` is unique.
    pub(super) fn new(
        layout: Arc<Layout>,
        folder: Path,
        writer: FileWriter,
        name: String,
        now: Uptime,
    ) -> Self {
        Self {
            layout,
            folder,
            writer,
            opened: now,
            carry: Unflushed::new(name),
            memory_bytes: 0,
        }
    }

    /// Appends rows of the table's shape.
    pub(super) async fn write(&mut self, rows: RecordBatch) -> Result<()> {
        let of_file = self.layout.file_rows(&rows, &self.folder)?;
        self.writer.write(of_file).await?;
        self.carry.push(rows);
        self.memory_bytes = self.writer.memory_bytes();
        Ok(())
    }

    /// Whether the file has grown to `target_bytes`.
    pub(super) fn is_full(&self, target_bytes: u64) -> bool {
        self.writer.is_full(target_bytes)
    }

    /// Whether a cut at `now` finishes the file.
    pub(super) fn is_due(&self, now: Uptime, max_open: Duration) -> bool {
        self.carry.must_finish() || now.since(self.opened) >= max_open
    }

    /// Memory of the file, without the rows that it carries.
    pub(super) fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }

    /// Whether it is better to end the row group than the file.
    pub(super) fn flush_helps(&self) -> bool {
        self.writer.flush_helps()
    }

    /// Ends the row group.
    pub(super) async fn flush(&mut self) -> Result<()> {
        self.writer.flush().await?;
        self.memory_bytes = self.writer.memory_bytes();
        Ok(())
    }

    /// Ends the file. Awaiting the result sends the rest of it.
    pub(super) async fn finish(
        self,
        urgency: Priority,
    ) -> Result<BoxFuture<'static, Result<FinishedFile>>> {
        let (upload, rows) = self.writer.end(urgency).await?;
        let sent = async move {
            let uploaded = upload.complete().await?;
            Ok(FinishedFile {
                staged: StagedFile {
                    staged: uploaded.path,
                    name: None,
                    folder: self.folder,
                    rows,
                    bytes: uploaded.bytes,
                    sha256: uploaded.sha256,
                },
                parts: self.carry.into_names(),
            })
        };
        Ok(sent.boxed())
    }

    /// The rows that the file carries.
    pub(super) fn carry(&self) -> &Unflushed {
        &self.carry
    }

    /// Drops the carried rows: the next cut finishes the file.
    pub(super) fn finish_at_cut(&mut self) {
        self.carry.discard();
    }

    /// Adds the rows since the last cut to `snapshot`.
    pub(super) fn snapshot(&mut self, snapshot: &mut Snapshot) -> Result<()> {
        self.carry.snapshot(&self.folder, snapshot)
    }
}
