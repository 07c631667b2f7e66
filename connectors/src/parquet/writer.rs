//! One Parquet file, from its first row to its footer.

use std::{mem, sync::Arc};

use arrow::record_batch::RecordBatch;
use object_store::{ObjectStore, path::Path};
use parquet::{
    arrow::{ArrowWriter, arrow_writer::ArrowWriterOptions},
    errors::ParquetError,
};
use tagflow_engine::{Error, Result, Urgency, blocking};

use super::{
    layout::Layout,
    sort::SortBuffer,
    staging::{PART_BYTES, StagedUpload, Uploaded},
};

/// Writes one file. Encoding is done here and now; bytes leave as soon as a row
/// group is full.
#[derive(Debug)]
pub(super) struct FileWriter {
    layout: Arc<Layout>,
    /// Encodes into memory; whatever it has put there is moved to `upload`.
    encoder: ArrowWriter<Vec<u8>>,
    sort: Option<SortBuffer>,
    upload: StagedUpload,
    rows: u64,
}

impl FileWriter {
    /// A file at `path`. It has no rows yet, and must get some.
    pub(super) fn create(
        layout: &Arc<Layout>,
        store: Arc<dyn ObjectStore>,
        path: Path,
    ) -> Result<Self> {
        let options = ArrowWriterOptions::new().with_properties(layout.properties.clone());
        let encoder = ArrowWriter::try_new_with_options(Vec::new(), layout.file.clone(), options)
            .map_err(encoding_failed)?;
        let sort = (!layout.sort_by.is_empty())
            .then(|| SortBuffer::new(layout.file.clone(), layout.sort_by.clone()));
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
            None => self.encoder.write(&rows).map_err(encoding_failed)?,
            Some(buffer) => {
                buffer.push(rows);
                if buffer.rows() >= self.layout.row_group_rows
                    || buffer.bytes() >= self.layout.row_group_bytes
                {
                    return self.flush().await;
                }
            }
        }
        self.upload_encoded().await
    }

    /// Ends the row group.
    pub(super) async fn flush(&mut self) -> Result<()> {
        self.encode_sorted()?;
        self.encoder.flush().map_err(encoding_failed)?;
        self.upload_encoded().await
    }

    /// Ends the file: it lies in the staging folder when this returns.
    pub(super) async fn finish(self, urgency: Urgency) -> Result<(Uploaded, u64)> {
        let (upload, rows) = self.end(urgency).await?;
        Ok((upload.complete().await?, rows))
    }

    /// Encodes what is left, to be sent. Gives the number of rows as well.
    pub(super) async fn end(mut self, urgency: Urgency) -> Result<(StagedUpload, u64)> {
        let end = move || {
            self.encode_sorted()?;
            self.encoder.finish().map_err(encoding_failed)?;
            self.upload.append(self.encoder.inner());
            Ok((self.upload, self.rows))
        };
        blocking(urgency, end).await
    }

    /// The file's size if it ended now, as far as can be told.
    pub(super) fn encoded_bytes(&self) -> u64 {
        (self.encoder.bytes_written() + self.encoder.in_progress_size()) as u64
    }

    /// Memory that the file takes.
    pub(super) fn memory_bytes(&self) -> usize {
        let unsorted = self.sort.as_ref().map_or(0, SortBuffer::bytes);
        // A page is complete at this many rows at the latest; from then on each
        // column keeps its compressor, of which the encoder does not tell.
        let compressors = if self.encoder.in_progress_rows() >= self.layout.page_rows {
            self.layout.compressors_bytes
        } else {
            0
        };
        unsorted + compressors + self.encoder.memory_size() + self.upload.buffered_bytes()
    }

    /// Whether to end the row group would free most of the memory, at the price
    /// of a row group that is still worth having. In a small file it would not:
    /// what is encoded stays here until it makes a part of an upload.
    pub(super) fn flush_helps(&self) -> bool {
        let unsorted = self.sort.as_ref().map_or(0, SortBuffer::bytes);
        let encoded = self.upload.buffered_bytes() + self.encoder.in_progress_size() + unsorted;
        let worth_it =
            encoded >= PART_BYTES || self.encoder.in_progress_rows() >= self.layout.page_rows;
        worth_it && encoded % PART_BYTES <= self.memory_bytes() / 2
    }

    fn encode_sorted(&mut self) -> Result<()> {
        if let Some(buffer) = self.sort.as_mut().filter(|buffer| buffer.rows() > 0) {
            let rows = buffer.drain()?;
            self.encoder.write(&rows).map_err(encoding_failed)?;
        }
        Ok(())
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
