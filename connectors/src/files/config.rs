//! The configuration of a files source.

use tagflow_engine::{Error, Result};

use crate::format::DEFAULT_MAX_ROW_BYTES;

/// Which files to read, and their format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilesConfig {
    /// A path or URL of a file, or of many with a pattern. `*` and `?` match within a name, `[…]`
    /// one of some characters, `**` any folders.
    pub url: String,
    /// The format of the files.
    pub format: FileFormat,
    /// Bytes per read of a file of lines.
    pub block_bytes: usize,
    /// The source reads only the beginning of a larger line, and the decoder rejects the row as too
    /// large. The decoder must know the same limit.
    pub max_row_bytes: usize,
    /// The most rows of a Parquet file in a chunk.
    pub batch_rows: usize,
    /// The columns to read from Parquet files; all of them if `None`.
    pub columns: Option<Vec<String>>,
    /// Whether a pattern may match no file.
    pub allow_empty: bool,
}

impl FilesConfig {
    /// Files at `url` with the default sizes.
    pub fn new(url: impl Into<String>, format: FileFormat) -> Self {
        Self {
            url: url.into(),
            format,
            block_bytes: 1 << 20,
            max_row_bytes: DEFAULT_MAX_ROW_BYTES,
            batch_rows: 8192,
            columns: None,
            allow_empty: false,
        }
    }

    pub(super) fn validate(&self) -> Result<()> {
        // A chunk addresses its rows by 32 bits.
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

/// The format of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileFormat {
    /// One row of JSON per line. Empty lines are not rows.
    Lines,
    /// Separated values: one row per line, except that quoted values may contain line breaks.
    Csv(CsvRecords),
    /// Parquet.
    Parquet,
}

/// The characters that separate values and rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CsvRecords {
    /// Whether the first row names the fields. The source puts it in front of the rows of every
    /// chunk ([`CsvHeader::Line`](crate::format::CsvHeader::Line)).
    pub header: bool,
    /// Separates two values.
    pub delimiter: u8,
    /// Surrounds values that contain delimiters or line breaks.
    pub quote: u8,
}
