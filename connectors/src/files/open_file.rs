//! A file that is being read.

use std::sync::Arc;

use tagflow_engine::{
    Clock, Result,
    source::{Chunk, FolderValues, Offset, Rows},
};

use super::{
    config::{FileFormat, FilesConfig},
    folders,
    lines::Lines,
    object::FileObject,
    parquet::ParquetRows,
};

/// A file that is being read.
pub(super) struct OpenFile {
    rows: FileRows,
    folders: Option<FolderValues>,
}

/// The rows of a file, by its format.
enum FileRows {
    Lines(Lines),
    Parquet(ParquetRows),
}

impl OpenFile {
    /// `None` where `position` is the end of the file.
    pub(super) async fn open(
        file: FileObject,
        position: Option<Offset>,
        config: &FilesConfig,
        clock: Option<Arc<dyn Clock>>,
    ) -> Result<Option<Self>> {
        let folders = folders::values(&file.place);
        let start = position.unwrap_or(0);
        let rows = match config.format {
            FileFormat::Parquet => {
                let rows = ParquetRows::open(file, start, config).await?;
                if position.is_some() && rows.at_end() {
                    return Ok(None);
                }
                FileRows::Parquet(rows)
            }
            FileFormat::Lines | FileFormat::Csv(_) => {
                if position.is_some_and(|position| position as u64 == file.size()) {
                    return Ok(None);
                }
                FileRows::Lines(Lines::open(file, start, config, clock).await?)
            }
        };
        Ok(Some(Self { rows, folders }))
    }

    /// The next rows; `None` at the end of the file.
    pub(super) async fn next(&mut self) -> Result<Option<Chunk>> {
        let mut chunk = match &mut self.rows {
            FileRows::Lines(lines) => lines.next().await,
            FileRows::Parquet(rows) => rows.next().await,
        }?;
        if let Some(chunk) = &mut chunk {
            chunk.rows.in_folders(self.folders.clone());
        }
        Ok(chunk)
    }

    /// Whether its unfinished last row was left for a later run.
    pub(super) fn is_unfinished(&self) -> bool {
        matches!(&self.rows, FileRows::Lines(lines) if lines.is_unfinished())
    }

    /// The smallest values of `column`, where the file has statistics.
    pub(super) fn smallest(&self, column: &str) -> Option<Rows> {
        let FileRows::Parquet(rows) = &self.rows else {
            return None;
        };
        let mut rows = rows.smallest(column)?;
        rows.in_folders(self.folders.clone());
        Some(rows)
    }
}
