//! What a files source reads.

use tagflow_engine::{Error, Result};

use crate::format::DEFAULT_MAX_ROW_BYTES;

/// Which files, and what is in them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilesConfig {
    /// A path or URL of one file, or of many by a pattern: `*` and `?` match
    /// within a name, `[…]` one of some characters, `**` any folders.
    pub url: String,
    /// What is in the files.
    pub format: FileFormat,
    /// How much of a file of lines is read at once.
    pub block_bytes: usize,
    /// Rows of lines that are larger are not read into memory: their beginning
    /// is handed on, to be rejected as too large. The decoder must know the
    /// same limit.
    pub max_row_bytes: usize,
    /// At most so many rows of a Parquet file make a chunk.
    pub batch_rows: usize,
    /// The columns to read of Parquet files; all of them if `None`.
    pub columns: Option<Vec<String>>,
}

impl FilesConfig {
    /// Files at `url` with the usual sizes.
    pub fn new(url: impl Into<String>, format: FileFormat) -> Self {
        Self {
            url: url.into(),
            format,
            block_bytes: 1 << 20,
            max_row_bytes: DEFAULT_MAX_ROW_BYTES,
            batch_rows: 8192,
            columns: None,
        }
    }

    pub(super) fn validate(&self) -> Result<()> {
        // Rows are addressed in a chunk by 32 bits.
        for (name, value, limit) in [
            ("block_bytes", self.block_bytes, 1 << 30),
            ("max_row_bytes", self.max_row_bytes, 1 << 29),
            ("batch_rows", self.batch_rows, 1 << 24),
        ] {
            if !(1..=limit).contains(&value) {
                return Err(Error::config(format!(
                    "`{name}` is {value}; it must be between 1 and {limit}"
                )));
            }
        }
        Ok(())
    }
}

/// What is in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileFormat {
    /// One row a line. Empty lines are not rows.
    Lines,
    /// One row a line, after a first line that names the fields and is put in
    /// front of every chunk's rows
    /// ([`CsvHeader::Line`](crate::format::CsvHeader::Line)).
    LinesAfterHeader,
    /// Parquet.
    Parquet,
}
