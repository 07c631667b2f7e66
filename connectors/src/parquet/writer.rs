//! One Parquet file, from its first row to its footer.

use std::{mem, sync::Arc};

use arrow::record_batch::RecordBatch;
use object_store::{ObjectStore, path::Path};
use parquet::{
    arrow::{ArrowWriter, arrow_writer::ArrowWriterOptions},
    errors::ParquetError,
};
use tagflow_engine::{Error, Priority, Result, blocking};

use super::{
    layout::Layout,
    sort::SortBuffer,
    staging::{PART_BYTES, StagedUpload, Uploaded},
};

/// Writes one file. Encoding is synchronous; bytes are sent as soon as a row group is full. Rows to
/// be sorted are buffered until the end of the file.
#[derive(Debug)]
pub(super) struct FileWriter {
    layout: Arc<Layout>,
    /// Encodes into memory; its output is moved to `upload`.
    encoder: ArrowWriter<Vec<u8>>,
    sort: Option<SortBuffer>,
    upload: StagedUpload,
    rows: u64,
}

impl FileWriter {
    /// A file of `folder`, staged at `path`. It has no rows yet, and must receive some.
    pub(super) fn create(
        layout: &Arc<Layout>,
        folder: &Path,
        store: Arc<dyn ObjectStore>,
        path: Path,
    ) -> Result<Self> {
        let options = ArrowWriterOptions::new().with_properties(layout.properties.clone());
        let encoder =
            ArrowWriter::try_new_with_options(Vec::new(), layout.file_in(folder).clone(), options)
                .map_err(encoding_failed)?;
        let sort = (!layout.sort_by.is_empty()).then(|| SortBuffer::new(layout.sort_by.clone()));
        Ok(Self {
            layout: layout.clone(),
            encoder,
            sort,
            upload: StagedUpload::new(store, path),
            rows: 0,
        })
    }

    /// Appends rows of the file's shape.
    pub(super) async fn write(&mut self, rows: RecordBatch) -> Result<()> {
        self.rows += rows.num_rows() as u64;
        match &mut self.sort {
            None => {
                self.encoder.write(&rows).map_err(encoding_failed)?;
                self.upload_encoded().await
            }
            Some(buffer) => Ok(buffer.push(rows)?),
        }
    }

    /// Ends the row group.
    pub(super) async fn flush(&mut self) -> Result<()> {
        self.encoder.flush().map_err(encoding_failed)?;
        self.upload_encoded().await
    }

    /// Ends the file: it is in the staging folder when this returns.
    pub(super) async fn finish(self, urgency: Priority) -> Result<(Uploaded, u64)> {
        let (upload, rows) = self.end(urgency).await?;
        Ok((upload.complete().await?, rows))
    }

    /// Encodes the rest, to be sent. Also returns the number of rows.
    pub(super) async fn end(mut self, urgency: Priority) -> Result<(StagedUpload, u64)> {
        let end = move || {
            self.encode_sorted()?;
            self.encoder.finish().map_err(encoding_failed)?;
            self.upload.append(self.encoder.inner());
            Ok((self.upload, self.rows))
        };
        blocking(urgency, end).await
    }

    /// Whether the file has grown to `target_bytes`, as far as is known. A file with sorting ends
    /// before its rows take too much memory.
    pub(super) fn is_full(&self, target_bytes: u64) -> bool {
        match &self.sort {
            None => {
                let bytes = self.encoder.bytes_written() + self.encoder.in_progress_size();
                bytes as u64 >= target_bytes
            }
            Some(buffer) => {
                let bound = target_bytes.min(self.layout.sort_bytes as u64);
                buffer.bytes() as u64 >= bound
            }
        }
    }

    /// The memory of the file.
    pub(super) fn memory_bytes(&self) -> usize {
        let unsorted = self.sort.as_ref().map_or(0, SortBuffer::bytes);
        // A page is complete at this many rows at the latest. From then on each column keeps its
        // compressor, which the encoder does not report.
        let compressors = if self.encoder.in_progress_rows() >= self.layout.page_rows {
            self.layout.compressors_bytes
        } else {
            0
        };
        unsorted + compressors + self.encoder.memory_size() + self.upload.buffered_bytes()
    }

    /// Whether ending the row group frees most of the memory and leaves a row group of useful size.
    /// It does not help in a small file: encoded bytes stay here until they fill a part of an
    /// upload. Nor does it help where rows are buffered for sorting.
    pub(super) fn flush_helps(&self) -> bool {
        let encoded = self.upload.buffered_bytes() + self.encoder.in_progress_size();
        let worth_it =
            encoded >= PART_BYTES || self.encoder.in_progress_rows() >= self.layout.page_rows;
        self.sort.is_none() && worth_it && encoded % PART_BYTES <= self.memory_bytes() / 2
    }

    fn encode_sorted(&mut self) -> Result<()> {
        let Some(buffer) = self.sort.take() else {
            return Ok(());
        };
        let Self {
            encoder, upload, ..
        } = self;
        buffer.drain(self.layout.row_group_rows, |rows| {
            encoder.write(&rows).map_err(encoding_failed)?;
            encoder.flush().map_err(encoding_failed)?;
            upload.append(&mem::take(encoder.inner_mut()));
            Ok::<_, Error>(())
        })
    }

    async fn upload_encoded(&mut self) -> Result<()> {
        let encoded = mem::take(self.encoder.inner_mut());
        if encoded.is_empty() {
            return Ok(());
        }
        self.upload.write(&encoded).await
    }
}

fn encoding_failed(error: ParquetError) -> Error {
    Error::internal("cannot encode rows as Parquet").with_source(error)
}
