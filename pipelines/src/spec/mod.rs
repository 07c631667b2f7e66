//! What a pipeline file says, as types: one file a block.
//!
//! The doc comments of the fields are the reference that editors show, by way
//! of the JSON Schema.

mod admin;
mod checkpoint;
mod columns;
mod dedupe;
mod dimension;
mod errors;
mod event_time;
mod files;
mod flag_bots;
mod format;
mod generator;
mod kafka;
mod nodes;
mod params;
mod parquet;
mod query;
mod read;
mod scalars;
mod secret;
mod sessions;
mod setting;
mod sink;
mod source;
mod sql_text;
mod step;
#[cfg(test)]
pub(crate) mod tests;

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;

use crate::{canonical::canonical, diagnostic::Diagnostics, yaml::Node};
use errors::WrittenErrors;

pub use admin::Admin;
pub use checkpoint::Checkpoint;
pub use columns::Columns;
pub use dedupe::Dedupe;
pub use dimension::Dimension;
pub use errors::{Errors, StopWhen, Table};
pub use event_time::Time;
pub use files::FilesSource;
pub use flag_bots::{FlagBots, Rate};
pub use format::{CsvFormat, Format, JsonFormat, ParquetFormat};
pub use generator::GeneratorSource;
pub use kafka::{KafkaSource, OnDataLoss, Properties, Start};
pub use nodes::{Name, Nodes};
pub use params::Params;
pub use parquet::{Compression, ParquetFiles, ParquetSink, WriteMode};
pub use query::{Emit, Query};
pub use scalars::{ByteSize, Ratio};
pub use secret::Secret;
pub use sessions::Sessions;
pub use setting::Setting;
pub use sink::{BlackholeSink, ConsoleSink, Output, Sink};
pub use source::{Input, OnError, Source};
pub use sql_text::SqlText;
pub use step::{Select, Step};

pub(crate) use read::Reader;

/// A streaming data pipeline: sources, steps and queries over them, and sinks.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(title = "Tagflow pipeline", deny_unknown_fields)]
pub struct Spec {
    /// The file, as the user named it.
    #[serde(skip)]
    pub file: Arc<str>,
    /// What is odd about the file, but keeps it from nothing.
    #[serde(skip)]
    pub warnings: Diagnostics,
    /// The pipeline's name: its commit log, state and metrics go by it.
    /// Lower-case letters, digits, `_` and `-`, at most 63.
    pub name: Setting<String>,
    /// Values that `--set name=value` can override and `${params.name}` refers
    /// to, each with its default; a param with no default must be set.
    #[schemars(extend("default" = serde_json::json!({})))]
    pub params: Params,
    /// Where rows come from, by name.
    pub sources: Nodes<Source>,
    /// Tables that queries join streams with, by name.
    #[schemars(extend("default" = serde_json::json!({})))]
    pub tables: Nodes<Dimension>,
    /// Filters and projections of one row at a time, by name.
    #[schemars(extend("default" = serde_json::json!({})))]
    pub steps: Nodes<Step>,
    /// Streaming SQL over sources, steps and other queries, by name.
    #[schemars(extend("default" = serde_json::json!({})))]
    pub queries: Nodes<Query>,
    /// Where results go, by name.
    pub sinks: Nodes<Sink>,
    /// What becomes of rows that cannot be used.
    #[schemars(extend("default" = serde_json::json!({})))]
    pub errors: Errors,
    /// How often and where progress and state are kept.
    #[schemars(extend("default" = serde_json::json!({})))]
    pub checkpoint: Checkpoint,
    /// How many lanes work side by side, 1 to 256. Default: the machine's cores.
    /// It may change between runs.
    pub parallelism: Option<Setting<u64>>,
    /// The HTTP server for health, metrics and status.
    #[schemars(extend("default" = serde_json::json!({})))]
    pub admin: Admin,
}

/// Blocks that are designed but that this version cannot run.
const LATER: [&str; 10] = [
    "metrics",
    "tags",
    "segments",
    "scenes",
    "tests",
    "attribution",
    "experiments",
    "checks",
    "docs",
    "serve",
];

impl Spec {
    /// The pipeline as canonical JSON, to be stored: every setting with its
    /// default filled in, keys sorted, and references such as `${env:X}` in
    /// place of the values that they stand for. Holds no secret.
    pub fn plan_json(&self) -> String {
        let value = serde_json::to_value(self).expect("a spec has string keys only");
        canonical(value)
    }

    /// Whether the file has a node of this name that is in error, so that what
    /// refers to it cannot be judged.
    pub fn is_unreadable(&self, name: &str) -> bool {
        self.sources.is_unreadable(name)
            || self.tables.is_unreadable(name)
            || self.steps.is_unreadable(name)
            || self.queries.is_unreadable(name)
    }

    /// The names that `from` and SQL can refer to: sources, steps, queries.
    pub fn relations(&self) -> impl Iterator<Item = &Name> + Clone {
        let sources = self.sources.names();
        sources
            .chain(self.steps.names())
            .chain(self.queries.names())
    }

    /// Reads a whole file. Blocks in error are left out, which the diagnostics
    /// tell, so that the rest can still be checked.
    pub(crate) fn read(
        root: &Node,
        reader: &mut Reader<'_>,
        set: &[(String, String)],
    ) -> Option<Self> {
        let mut fields = reader.fields(root)?;
        let params = Params::read_with(&mut fields, reader, set);
        let name = fields.required(reader, "name");
        let sources = fields.required(reader, "sources");
        let tables = fields.optional(reader, "tables");
        let steps = fields.optional(reader, "steps");
        let queries = fields.optional(reader, "queries");
        let sinks = fields.required(reader, "sinks");
        let checkpoint = fields.optional(reader, "checkpoint");
        let errors = fields.optional(reader, "errors");
        let parallelism = fields.optional(reader, "parallelism");
        let admin = fields.optional(reader, "admin");
        for name in LATER {
            fields.later(reader, name);
        }
        let at = fields.at;
        fields.finish(reader);

        let name = name.unwrap_or_else(|| Setting::default_at(String::new(), at));
        let checkpoint = checkpoint
            .flatten()
            .or_else(|| Checkpoint::default_at(at, reader))?;
        let errors: WrittenErrors = errors.flatten().unwrap_or_default();
        Some(Self {
            file: reader.diagnostics.file(),
            warnings: Diagnostics::new(reader.diagnostics.file()),
            errors: errors.with_defaults(&name, &checkpoint),
            name,
            params,
            sources: sources.unwrap_or_else(Nodes::unreadable),
            tables: tables.map_or_else(Nodes::unreadable, Option::unwrap_or_default),
            steps: steps.map_or_else(Nodes::unreadable, Option::unwrap_or_default),
            queries: queries.map_or_else(Nodes::unreadable, Option::unwrap_or_default),
            sinks: sinks.unwrap_or_else(Nodes::unreadable),
            checkpoint,
            parallelism: parallelism.flatten(),
            admin: admin.flatten().unwrap_or_else(|| Admin::default_at(at)),
        })
    }
}
