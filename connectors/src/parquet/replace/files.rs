//! The files of a folder's rows.

use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use object_store::path::{Path, PathPart};
use tagflow_engine::{Ids, Priority, Result, files::StagedFile};

use super::published::{Ends, WindowFile};
use crate::parquet::{config::ParquetSinkConfig, layout::Layout, writer::FileWriter};

/// A staged file, and the facts to remember.
pub(super) type NewFile = (StagedFile, WindowFile);

/// Writes rows of a folder to one file after another, each of the target size.
pub(super) struct Files<'a> {
    pub(super) config: &'a ParquetSinkConfig,
    pub(super) layout: &'a Arc<Layout>,
    /// The staging folder, from the store's root.
    pub(super) staging: &'a Path,
    /// The first part of the commit log's identity.
    pub(super) log: &'a str,
    pub(super) folder: &'a Path,
    pub(super) ids: &'a dyn Ids,
    /// The ends of the windows of all rows.
    pub(super) ends: Ends,
    pub(super) open: Option<(String, FileWriter)>,
    pub(super) finished: Vec<NewFile>,
}

impl Files<'_> {
    /// Appends rows of the file's shape.
    pub(super) async fn write(&mut self, rows: RecordBatch) -> Result<()> {
        if rows.num_rows() == 0 {
            return Ok(());
        }
        let (_, writer) = match &mut self.open {
            Some(open) => open,
            none => {
                let name = format!("{}-{}", self.log, self.ids.unique().simple());
                let staged = self.staging.parts().chain([PathPart::from(name.as_str())]);
                let store = Arc::clone(&self.config.store);
                let writer = FileWriter::create(self.layout, self.folder, store, staged.collect())?;
                none.insert((name, writer))
            }
        };
        writer.write(rows).await?;
        if writer.is_full(self.config.files.target_bytes) {
            self.end_file().await?;
        }
        Ok(())
    }

    /// Completes and returns all files; empty without rows.
    pub(super) async fn finish(mut self) -> Result<Vec<NewFile>> {
        self.end_file().await?;
        Ok(self.finished)
    }

    async fn end_file(&mut self) -> Result<()> {
        let Some((name, writer)) = self.open.take() else {
            return Ok(());
        };
        let (uploaded, rows) = writer.finish(Priority::Normal).await?;
        let file = WindowFile {
            folder: self.folder.clone(),
            name: name.clone(),
            ends: self.ends,
            staged: Some(uploaded.path.clone()),
            sha256: Some(uploaded.sha256.clone()),
        };
        let staged = StagedFile {
            staged: uploaded.path,
            folder: self.folder.clone(),
            name: Some(name),
            rows,
            bytes: uploaded.bytes,
            sha256: uploaded.sha256,
        };
        self.finished.push((staged, file));
        Ok(())
    }
}
