//! The open file of one partition, and when it is due.

use std::{sync::Arc, time::Duration};

use arrow::record_batch::RecordBatch;
use futures::{FutureExt, future::BoxFuture};
use object_store::path::Path;
use tagflow_engine::{EventTime, Result, Urgency, sink::StagedFile, state::StatePart};

use super::{carry::Carry, layout::Layout, writer::FileWriter};

/// The file that a partition's rows go to now.
#[derive(Debug)]
pub(super) struct OpenFile {
    layout: Arc<Layout>,
    folder: Path,
    writer: FileWriter,
    opened: EventTime,
    carry: Carry,
    memory_bytes: usize,
}

/// A file in the staging folder that no cut has reported yet.
#[derive(Debug)]
pub(super) struct FinishedFile {
    /// The file.
    pub(super) staged: StagedFile,
    /// The state that its rows were carried in.
    pub(super) parts: Vec<String>,
}

impl OpenFile {
    /// An empty file of partition `folder`, opened at `now`; `name` is unique.
    pub(super) fn new(
        layout: Arc<Layout>,
        folder: Path,
        writer: FileWriter,
        name: String,
        now: EventTime,
    ) -> Self {
        Self {
            layout,
            folder,
            writer,
            opened: now,
            carry: Carry::new(name),
            memory_bytes: 0,
        }
    }

    /// Appends rows of the table's shape.
    pub(super) async fn write(&mut self, rows: RecordBatch) -> Result<()> {
        self.writer.write(self.layout.file_rows(&rows)?).await?;
        self.carry.push(rows);
        self.memory_bytes = self.writer.memory_bytes();
        Ok(())
    }

    /// Whether the file has grown to `target_bytes`.
    pub(super) fn is_full(&self, target_bytes: u64) -> bool {
        self.writer.encoded_bytes() >= target_bytes
    }

    /// Whether a cut at `now` finishes the file.
    pub(super) fn is_due(&self, now: EventTime, max_open: Duration) -> bool {
        self.carry.must_finish() || now.since(self.opened) >= max_open
    }

    /// Memory of the file, without the rows that it carries.
    pub(super) fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }

    /// Whether to end the row group is better than to end the file.
    pub(super) fn flush_helps(&self) -> bool {
        self.writer.flush_helps()
    }

    /// Ends the row group.
    pub(super) async fn flush(&mut self) -> Result<()> {
        self.writer.flush().await?;
        self.memory_bytes = self.writer.memory_bytes();
        Ok(())
    }

    /// Ends the file; what is left of it is sent when the result is awaited.
    pub(super) async fn finish(
        self,
        urgency: Urgency,
    ) -> Result<BoxFuture<'static, Result<FinishedFile>>> {
        let (upload, rows) = self.writer.end(urgency).await?;
        let sent = async move {
            let uploaded = upload.complete().await?;
            Ok(FinishedFile {
                staged: StagedFile {
                    table: self.layout.url.clone(),
                    staged: uploaded.path,
                    name: None,
                    folder: self.folder,
                    rows,
                    bytes: uploaded.bytes,
                    sha256: uploaded.sha256,
                },
                parts: self.carry.into_parts(),
            })
        };
        Ok(sent.boxed())
    }

    /// The rows that the file carries.
    pub(super) fn carry(&self) -> &Carry {
        &self.carry
    }

    /// Carries no rows any more: the next cut finishes the file.
    pub(super) fn finish_at_cut(&mut self) {
        self.carry.give_up();
    }

    /// The rows since the last cut, as state.
    pub(super) fn take_part(&mut self) -> Result<Option<StatePart>> {
        self.carry.take_part(&self.folder)
    }
}
