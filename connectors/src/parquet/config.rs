//! The configuration of a Parquet sink.

use std::{fmt, str::FromStr, sync::Arc, time::Duration};

use arrow::datatypes::SchemaRef;
use object_store::{ObjectStore, path::Path};
use parquet::basic::{Compression as Codec, ZstdLevel};
use tagflow_engine::{Error, Result};

const MIB: usize = 1024 * 1024;

/// The table to write, and its layout.
#[derive(Debug, Clone)]
pub struct ParquetSinkConfig {
    /// The sink's name, under which the table can be queried.
    pub name: Arc<str>,
    /// The table's URL as configured, without credentials.
    pub url: Arc<str>,
    /// The store.
    pub store: Arc<dyn ObjectStore>,
    /// The table's folder in the store.
    pub root: Path,
    /// The shape of the input rows.
    pub schema: SchemaRef,
    /// The Hive folders, outermost first. Their columns are not written into
    /// the files.
    pub partition_by: Vec<PartitionColumn>,
    /// How newer rows replace earlier ones; if `None`, all rows stay.
    pub newest: Option<Newest>,
    /// Whether other commit logs may write to the table too.
    pub shared: bool,
    /// The options of the files.
    pub files: FileOptions,
}

/// A level of Hive folders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionColumn {
    /// The folder's name, and the column's in the table: `dt`.
    pub name: String,
    /// The input column with the value: a string, an integer, a boolean, a date, a timestamp or a
    /// decimal.
    pub column: usize,
}

/// Which rows replace which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Newest {
    /// A row replaces its earlier revisions.
    Revisions(Revisions),
    /// The rows since the last cut, if any, replace all earlier rows. Every lane receives every
    /// row.
    Snapshot {
        /// The input column with a number, as text, that selects the lane that writes a row. It is
        /// one of the partition columns.
        bucket: usize,
    },
}

/// Which rows are revisions of each other. Revisions of a row are in the same Hive folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revisions {
    /// The input columns that identify a row: the window and the keys.
    pub key: Vec<usize>,
    /// The input column with the window's end.
    pub window_end: usize,
    /// The input column with the revision's number, an `int64`. It increases; from 0 on the window
    /// has closed.
    pub revision: usize,
    /// The input column, a `bool`, that marks a row as a retraction: it removes its earlier
    /// revisions and leaves no row.
    pub retracted: Option<usize>,
    /// How long after its end a window may be emitted again.
    pub lateness: Duration,
}

/// The options of a table's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileOptions {
    /// A file of this size is finished at once.
    pub target_bytes: u64,
    /// A file that has been open for this long is finished at the next cut.
    pub max_open: Duration,
    /// Memory of all open files of a lane. Beyond it, the largest file is written out: as a row
    /// group where that helps, otherwise as a whole file.
    pub open_bytes: usize,
    /// How pages are compressed.
    pub compression: Compression,
    /// Rows of a row group; it is cut shorter when it reaches half of
    /// `open_bytes`.
    pub row_group_rows: usize,
    /// Columns that each file is sorted by, ascending, nulls first. Its rows are buffered until the
    /// file ends, at the latest when they need half of `open_bytes`.
    pub sort_by: Vec<String>,
    /// Columns with a Bloom filter.
    pub bloom_filters: Vec<String>,
}

impl Default for FileOptions {
    fn default() -> Self {
        Self {
            target_bytes: 256 * MIB as u64,
            max_open: Duration::from_mins(5),
            open_bytes: 64 * MIB,
            compression: Compression::default(),
            row_group_rows: 1_000_000,
            sort_by: Vec::new(),
            bloom_filters: Vec::new(),
        }
    }
}

/// The compression of pages: `zstd(3)`, `zstd`, `snappy`, `none`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Zstandard at a level from 1 to 22.
    Zstd(u8),
    /// Snappy.
    Snappy,
    /// No compression.
    None,
}

impl Compression {
    const DEFAULT_ZSTD_LEVEL: u8 = 3;

    /// The codec of the Parquet library.
    pub(super) fn codec(self) -> Result<Codec> {
        match self {
            Self::Zstd(level) => ZstdLevel::try_new(i32::from(level))
                .map(Codec::ZSTD)
                .map_err(|_| Error::config(format!("`{self}` is not a level from 1 to 22"))),
            Self::Snappy => Ok(Codec::SNAPPY),
            Self::None => Ok(Codec::UNCOMPRESSED),
        }
    }
}

impl Default for Compression {
    fn default() -> Self {
        Self::Zstd(Self::DEFAULT_ZSTD_LEVEL)
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Zstd(level) => write!(f, "zstd({level})"),
            Self::Snappy => f.write_str("snappy"),
            Self::None => f.write_str("none"),
        }
    }
}

impl FromStr for Compression {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let level = text
            .strip_prefix("zstd(")
            .and_then(|rest| rest.strip_suffix(')'));
        let compression = match (text, level) {
            ("zstd", _) => Some(Self::default()),
            ("snappy", _) => Some(Self::Snappy),
            ("none", _) => Some(Self::None),
            (_, Some(level)) => level.trim().parse().ok().map(Self::Zstd),
            _ => None,
        };
        match compression {
            Some(compression) => compression.codec().map(|_| compression),
            None => Err(Error::config(format!(
                "unknown compression `{text}`; one of `zstd(1)` to `zstd(22)`, `snappy`, `none`"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compression_prints_as_it_is_written() {
        for text in ["zstd(3)", "zstd(22)", "snappy", "none"] {
            assert_eq!(text.parse::<Compression>().unwrap().to_string(), text);
        }
        assert_eq!("zstd".parse::<Compression>().unwrap(), Compression::Zstd(3));
    }

    #[test]
    fn bad_compression_says_what_to_write() {
        for text in ["gzip", "zstd()", "zstd(x)", "zstd(0)", "zstd(23)", "zstd(3"] {
            let error = text.parse::<Compression>().unwrap_err().to_string();
            assert!(error.contains("22"), "{text}: {error}");
        }
    }
}
