//! `parquet`: the block of the pipeline file.

use std::{sync::Arc, time::Duration};

use schemars::{JsonSchema, Schema, json_schema};
use serde::Serialize;
use serde_json::json;
use tagflow_config::{
    ByteSize, Choice, Diagnostics, Leaf, Mistake, Nodes, Position, Read, Reader, Setting, SqlText,
    in_order,
    yaml::{Kind, Node},
};
use tagflow_engine::sink::SinkFactory;

use super::{
    config::{Compression, FileOptions, ParquetSinkConfig},
    factory::ParquetSinkFactory,
};
use crate::{
    component::{SinkComponent, SinkContext, part_of_memory},
    storage,
};

/// The default interval of full profiles.
pub const PROFILE_EVERY: Duration = Duration::from_mins(15);

/// A table of Parquet files on a local disk or an object store.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields, rename = "ParquetSink")]
pub struct ParquetConfig {
    /// The table's folder: a path or URL (`s3://`, `gs://`, `az://`, `file://`). Tables are in
    /// separate folders, none inside another. Credentials are read from the environment. A path is
    /// relative to Tagflow's working directory.
    pub url: Setting<String>,
    /// Hive folders: each folder's name and the SQL expression of its value. `{dt:
    /// "date(window_start)"}` makes `dt=2026-01-05`.
    #[serde(serialize_with = "in_order")]
    #[schemars(extend("default" = json!({})))]
    pub partition_by: Nodes<SqlText>,
    /// The columns that rows are sorted by in a file, in this order, ascending, nulls
    /// first.
    #[schemars(extend("default" = json!([])))]
    pub sort_by: Vec<Setting<String>>,
    /// How rows that are emitted more than once are stored: `append` keeps them all.
    /// `replace_windows` keeps only the newest of each window and key, by rewriting the files with
    /// older ones. `snapshot` of `tags.current` keeps only the newest row of each key.
    #[schemars(extend("default" = "append"))]
    pub mode: Setting<WriteMode>,
    /// For `tags.current`: the interval, in event time, at which all tags are emitted.
    #[schemars(extend("default" = "15m"))]
    pub every: Setting<Duration>,
    /// With `mode: snapshot`: the number of folders that keys are spread over, by their hash: 1
    /// to 1000.
    #[schemars(extend("default" = 16))]
    pub buckets: Setting<u64>,
    /// Whether other pipelines, or other state folders, may write to this folder too. Otherwise a
    /// run stops if the folder has files of another commit log.
    #[schemars(extend("default" = false))]
    pub shared: Setting<bool>,
    /// The size and the format of files.
    #[schemars(extend("default" = json!({})))]
    pub files: ParquetFiles,
}

/// How rows that are emitted more than once are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteMode {
    /// The table contains all rows.
    Append,
    /// The table contains the newest row of each window and key.
    ReplaceWindows,
    /// The table contains the rows of the newest full emission.
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

/// The size and the format of files.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ParquetFiles {
    /// A file of this size is finished.
    #[schemars(extend("default" = "256MiB"))]
    pub target: Setting<ByteSize>,
    /// A file is finished at the first checkpoint after it has been open this long, however small.
    /// Readers see its rows only then.
    #[schemars(extend("default" = "5m"))]
    pub max_open: Setting<Duration>,
    /// The memory of all open files of the sink; beyond it, the largest is finished early. Default:
    /// `64MiB`, at most a sixteenth of `memory.limit`.
    #[schemars(extend("default" = "64MiB"))]
    pub max_open_bytes: Setting<ByteSize>,
    /// `zstd(1)` to `zstd(22)`, `zstd` (level 3), `snappy` or `none`.
    #[schemars(extend("default" = "zstd(3)"))]
    pub compression: Setting<Compression>,
    /// Rows of a row group.
    #[schemars(extend("default" = 1_000_000))]
    pub row_group_rows: Setting<u64>,
}

impl Leaf for Compression {
    const EXPECTED: &'static str = "`zstd(1)` to `zstd(22)`, `zstd`, `snappy` or `none`";

    fn parse(text: &str, _kind: Kind) -> Result<Self, Mistake> {
        text.parse().map_err(|_| Mistake::Type)
    }

    fn plan(&self) -> serde_json::Value {
        json!(self.to_string())
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
            compression: Setting::default_at(Compression::default(), at),
            row_group_rows: Setting::default_at(1_000_000, at),
        }
    }
}

impl Read for ParquetConfig {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let mut fields = reader.fields(node)?;
        let url = fields.required(reader, "url");
        let partition_by = fields.optional::<Nodes<SqlText>>(reader, "partition_by");
        let sort_by = fields.optional::<Vec<_>>(reader, "sort_by");
        let files = fields.optional(reader, "files");
        let mode = fields.or(reader, "mode", WriteMode::Append);
        let every = fields.or(reader, "every", PROFILE_EVERY);
        let buckets = fields.or(reader, "buckets", 16);
        let shared = fields.or(reader, "shared", false);
        fields.finish(reader);
        Some(Self {
            url: url?,
            partition_by: partition_by?.unwrap_or_default(),
            sort_by: sort_by?.unwrap_or_default(),
            mode: mode?,
            every: every?,
            buckets: buckets?,
            shared: shared?,
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
        let compression = fields.or(reader, "compression", Compression::default());
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

impl SinkComponent for ParquetConfig {
    fn describe(&self) -> String {
        format!("parquet {}", self.url.shown())
    }

    fn delivers(&self) -> bool {
        true
    }

    fn table(&self) -> Option<&Setting<String>> {
        Some(&self.url)
    }

    fn check(&self, path: &str, diagnostics: &mut Diagnostics) {
        let files = &self.files;
        for (setting, at, value) in [
            ("target", files.target.at(), files.target.bytes()),
            (
                "max_open_bytes",
                files.max_open_bytes.at(),
                files.max_open_bytes.bytes(),
            ),
            (
                "row_group_rows",
                files.row_group_rows.at(),
                *files.row_group_rows,
            ),
        ] {
            if value == 0 {
                diagnostics.error(at, format!("{path}.files.{setting}"), "must be at least 1");
            }
        }
    }

    fn connect(&self, context: SinkContext) -> tagflow_engine::Result<Arc<dyn SinkFactory>> {
        let (store, root) = storage::open(&self.url)?;
        let factory = ParquetSinkFactory::new(ParquetSinkConfig {
            name: context.name,
            url: Arc::from(self.url.as_str()),
            store,
            root,
            schema: context.schema,
            partition_by: context.partition_by,
            newest: context.newest,
            shared: *self.shared,
            files: self.file_options(context.memory),
        })?;
        Ok(Arc::new(factory))
    }
}

impl ParquetConfig {
    fn file_options(&self, memory: Option<u64>) -> FileOptions {
        let files = &self.files;
        let mut open_bytes = files.max_open_bytes.bytes() as usize;
        if files.max_open_bytes.is_default() {
            open_bytes = part_of_memory(memory, 16, open_bytes);
        }
        FileOptions {
            target_bytes: files.target.bytes(),
            max_open: *files.max_open,
            open_bytes,
            compression: *files.compression,
            row_group_rows: *files.row_group_rows as usize,
            sort_by: self.sort_by.iter().map(|it| it.value().clone()).collect(),
            ..FileOptions::default()
        }
    }
}
