//! The configuration of a files source.

use schemars::JsonSchema;
use serde::Serialize;
use tagflow_config::{Read, Reader, Setting, yaml::Node};
use tagflow_engine::{Error, Result};

use crate::format::DEFAULT_MAX_ROW_BYTES;

/// Files on a local disk or an object store, each read once, in the order of their event times.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields, rename = "FilesSource")]
pub struct FilesConfig {
    /// A path or URL (`s3://`, `gs://`, `az://`, `file://`), with `*`, `?`, `[…]` and `**` for
    /// many: `./data/2026-*/*.ndjson`. A path is relative to Tagflow's working directory.
    pub url: Setting<String>,
    /// Whether a pattern may match no file; otherwise that is an error. Default: `false`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_empty: Option<Setting<bool>>,
    /// The format of the files.
    #[serde(skip)]
    pub format: FileFormat,
    /// Bytes per read of a file of lines.
    #[serde(skip)]
    pub block_bytes: usize,
    /// The source reads only the beginning of a larger line, and the decoder rejects the row as too
    /// large. The decoder must know the same limit.
    #[serde(skip)]
    pub max_row_bytes: usize,
    /// The most rows of a Parquet file in a chunk.
    #[serde(skip)]
    pub batch_rows: usize,
    /// The columns to read from Parquet files; all of them if `None`.
    #[serde(skip)]
    pub columns: Option<Vec<String>>,
}

impl FilesConfig {
    /// Files at `url` with the default sizes.
    pub fn new(url: impl Into<String>, format: FileFormat) -> Self {
        Self {
            format,
            ..Self::of(url.into().into())
        }
    }

    fn of(url: Setting<String>) -> Self {
        Self {
            url,
            allow_empty: None,
            format: FileFormat::Lines,
            block_bytes: 1 << 20,
            max_row_bytes: DEFAULT_MAX_ROW_BYTES,
            batch_rows: 8192,
            columns: None,
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

impl Read for FilesConfig {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let mut fields = reader.fields(node)?;
        let url = fields.required(reader, "url");
        let allow_empty = fields.optional(reader, "allow_empty");
        fields.finish(reader);
        Some(Self {
            allow_empty: allow_empty?,
            ..Self::of(url?)
        })
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
