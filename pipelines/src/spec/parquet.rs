//! `parquet`: a table of Parquet files.

use std::time::Duration;

use schemars::{JsonSchema, Schema, json_schema};
use serde::Serialize;
use serde_json::json;

use super::{
    ByteSize, Nodes, Setting, SqlText,
    nodes::in_order,
    read::{Read, Reader},
    scalars::Choice,
    setting::{Leaf, Mistake},
};
use crate::{
    diagnostic::Position,
    yaml::{Kind, Node},
};

/// How often all tags come out where nothing is said.
pub(super) const PROFILE_EVERY: Duration = Duration::from_mins(15);

/// A table of Parquet files on a local disk or an object store.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ParquetSink {
    /// The table's folder: a path or URL (`s3://`, `gs://`, `az://`,
    /// `file://`). Credentials come from the environment. A path is relative to
    /// where Tagflow is started.
    pub url: Setting<String>,
    /// Hive folders: each one's name and the SQL expression of its value.
    /// `{dt: "date(window_start)"}` makes `dt=2026-01-05`.
    #[serde(serialize_with = "in_order")]
    #[schemars(extend("default" = serde_json::json!({})))]
    pub partition_by: Nodes<SqlText>,
    /// The columns that rows are sorted by in a file, in this order, ascending.
    #[schemars(extend("default" = serde_json::json!([])))]
    pub sort_by: Vec<Setting<String>>,
    /// What becomes of rows that come out more than once: `append` keeps them
    /// all, `replace_windows` only the newest of each window and key, by writing
    /// the files anew that hold older ones. `snapshot` of `tags.current` keeps only
    /// the newest row of each key.
    #[schemars(extend("default" = "append"))]
    pub mode: Setting<WriteMode>,
    /// Of `tags.current`: how often, in event time, all tags come out.
    #[schemars(extend("default" = "15m"))]
    pub every: Setting<Duration>,
    /// With `mode: snapshot`: over how many folders keys are spread, by their hash.
    #[schemars(extend("default" = 16))]
    pub buckets: Setting<u64>,
    /// How large files grow, and how they are written.
    #[schemars(extend("default" = serde_json::json!({})))]
    pub files: ParquetFiles,
}

/// What becomes of rows that come out more than once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteMode {
    /// All of them are in the table.
    Append,
    /// The newest of each window and key is.
    ReplaceWindows,
    /// Those of the newest time at which all came out are.
    Snapshot,
}

impl Choice for WriteMode {
    const EXPECTED: &'static str = "`append`, `replace_windows` or `snapshot`";
    const NAMES: &'static [(&'static str, Self)] = &[
        ("append", Self::Append),
        ("replace_windows", Self::ReplaceWindows),
        ("snapshot", Self::Snapshot),
    ];
}

/// How large files grow, and how they are written.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ParquetFiles {
    /// A file is finished when it is this large.
    #[schemars(extend("default" = "256MiB"))]
    pub target: Setting<ByteSize>,
    /// A file is finished at the first checkpoint after it has been open this
    /// long, however small: rows are not seen before.
    #[schemars(extend("default" = "5m"))]
    pub max_open: Setting<Duration>,
    /// How many bytes all open files of the sink may hold in memory; then the
    /// largest is finished early.
    #[schemars(extend("default" = "64MiB"))]
    pub max_open_bytes: Setting<ByteSize>,
    /// `zstd(1)` to `zstd(22)`, `zstd` (level 3), `snappy` or `none`.
    #[schemars(extend("default" = "zstd(3)"))]
    pub compression: Setting<Compression>,
    /// Rows of a row group.
    #[schemars(extend("default" = 1_000_000))]
    pub row_group_rows: Setting<u64>,
}

/// How pages are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Zstandard at a level from 1 to 22.
    Zstd(u8),
    /// Snappy.
    Snappy,
    /// Not at all.
    None,
}

impl Leaf for Compression {
    const EXPECTED: &'static str = "`zstd(1)` to `zstd(22)`, `zstd`, `snappy` or `none`";

    fn parse(text: &str, _kind: Kind) -> Result<Self, Mistake> {
        match text {
            "zstd" => return Ok(Self::Zstd(3)),
            "snappy" => return Ok(Self::Snappy),
            "none" => return Ok(Self::None),
            _ => {}
        }
        let level = text
            .strip_prefix("zstd(")
            .and_then(|rest| rest.strip_suffix(')'))
            .and_then(|level| level.trim().parse().ok())
            .filter(|level| (1..=22).contains(level));
        level.map(Self::Zstd).ok_or(Mistake::Type)
    }

    fn plan(&self) -> serde_json::Value {
        match self {
            Self::Zstd(level) => json!(format!("zstd({level})")),
            Self::Snappy => json!("snappy"),
            Self::None => json!("none"),
        }
    }

    fn schema() -> Schema {
        json_schema!({
            "type": "string",
            "pattern": r"^(zstd(\((1?[1-9]|10|20|21|22)\))?|snappy|none)$",
        })
    }
}

impl ParquetFiles {
    fn default_at(at: Position) -> Self {
        Self {
            target: Setting::default_at(ByteSize::mib(256), at),
            max_open: Setting::default_at(Duration::from_mins(5), at),
            max_open_bytes: Setting::default_at(ByteSize::mib(64), at),
            compression: Setting::default_at(Compression::Zstd(3), at),
            row_group_rows: Setting::default_at(1_000_000, at),
        }
    }
}

impl Read for ParquetSink {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let mut fields = reader.fields(node)?;
        let url = fields.required(reader, "url");
        let partition_by = fields.optional::<Nodes<SqlText>>(reader, "partition_by");
        let sort_by = fields.optional::<Vec<_>>(reader, "sort_by");
        let files = fields.optional(reader, "files");
        let mode = fields.or(reader, "mode", WriteMode::Append);
        let every = fields.or(reader, "every", PROFILE_EVERY);
        let buckets = fields.or(reader, "buckets", 16);
        fields.finish(reader);
        Some(Self {
            url: url?,
            partition_by: partition_by?.unwrap_or_default(),
            sort_by: sort_by?.unwrap_or_default(),
            mode: mode?,
            every: every?,
            buckets: buckets?,
            files: files?.unwrap_or_else(|| ParquetFiles::default_at(node.at)),
        })
    }
}

impl Read for ParquetFiles {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let mut fields = reader.fields(node)?;
        let target = fields.or(reader, "target", ByteSize::mib(256));
        let max_open = fields.or(reader, "max_open", Duration::from_mins(5));
        let max_open_bytes = fields.or(reader, "max_open_bytes", ByteSize::mib(64));
        let compression = fields.or(reader, "compression", Compression::Zstd(3));
        let row_group_rows = fields.or(reader, "row_group_rows", 1_000_000);
        fields.finish(reader);
        Some(Self {
            target: target?,
            max_open: max_open?,
            max_open_bytes: max_open_bytes?,
            compression: compression?,
            row_group_rows: row_group_rows?,
        })
    }
}
