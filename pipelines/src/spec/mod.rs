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
mod expectation;
mod files;
mod flag_bots;
mod format;
mod generator;
mod kafka;
mod measure;
mod memory;
mod metrics;
mod nodes;
mod params;
mod parquet;
mod query;
mod read;
mod scalars;
mod scenes;
mod secret;
mod segments;
mod sessions;
mod setting;
mod sink;
mod source;
mod sql_text;
mod step;
pub mod tags;
mod test_case;
mod test_row;
#[cfg(test)]
pub(crate) mod tests;

use std::{sync::Arc, time::Duration};

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
pub use event_time::{Time, WhenIdle};
pub use expectation::{DEAD_LETTERS, Expect, Expectation, LATE};
pub use files::FilesSource;
pub use flag_bots::{FlagBots, Rate};
pub use format::{CsvFormat, Format, JsonFormat, ParquetFormat};
pub use generator::GeneratorSource;
pub use kafka::{KafkaSource, OnDataLoss, Properties, Start};
pub use measure::{Agg, Measure, Sketch, Theta};
pub use memory::Memory;
pub use metrics::{Corrections, Day, Metrics, MetricsEmit, MetricsWindow, Width};
pub use nodes::{Name, Nodes};
pub use params::Params;
pub use parquet::{Compression, ParquetFiles, ParquetSink, WriteMode};
pub use query::{Emit, Query};
pub use scalars::{ByteSize, Ratio};
pub use scenes::Scene;
pub use secret::Secret;
pub use segments::Segment;
pub use sessions::Sessions;
pub use setting::Setting;
pub use sink::{BlackholeSink, ConsoleSink, Output, Sink};
pub use source::{Input, OnError, Source};
pub use sql_text::SqlText;
pub use step::{Select, Step};
pub use tags::Tags;
pub use test_case::{Action, Promise, TestCase, TestStep, Tick};
pub use test_row::{Content, TestRow};

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
    /// Measures by key and window, from several sources into one table, by name.
    #[schemars(extend("default" = serde_json::json!({})))]
    pub metrics: Nodes<Metrics>,
    /// Tags of each user: values over rolling windows, by their events.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tags: Option<Tags>,
    /// Whether `tags` is in the file, but in error.
    #[serde(skip)]
    tags_are_unreadable: bool,
    /// Who belongs to what, by their tags.
    #[serde(skip_serializing_if = "Nodes::is_empty")]
    #[schemars(extend("default" = serde_json::json!({})))]
    pub segments: Nodes<Segment>,
    /// Which tags and segments a caller sees, by the caller's name.
    #[serde(skip_serializing_if = "Nodes::is_empty")]
    #[schemars(extend("default" = serde_json::json!({})))]
    pub scenes: Nodes<Scene>,
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
    /// What the process may take. Default: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Memory>,
    /// The HTTP server for health, metrics and status.
    #[schemars(extend("default" = serde_json::json!({})))]
    pub admin: Admin,
    /// What rows must lead to what results: `tagflow test` tries it.
    #[serde(skip_serializing)]
    #[schemars(extend("default" = serde_json::json!([])))]
    pub tests: Vec<TestCase>,
}

/// Blocks that are designed but that this version cannot run.
const LATER: [&str; 5] = ["attribution", "experiments", "checks", "docs", "serve"];

/// What the `tags` and `segments` blocks give, for sinks.
pub const TAG_CHANGES: &str = "tags.changes";
/// All tags of all keys, every so often.
pub const TAGS_CURRENT: &str = "tags.current";
/// Who entered and left which segment.
pub const SEGMENT_CHANGES: &str = "segments.changes";

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
            || self.metrics.is_unreadable(name)
            || (self.tags_are_unreadable && name.contains('.'))
    }

    /// Whether rows come from `name`.
    pub fn is_node(&self, name: &str) -> bool {
        self.relations().any(|relation| **relation == *name) || self.tag_tables().contains(&name)
    }

    /// What sinks can take from `tags` and `segments`.
    pub fn tag_tables(&self) -> &'static [&'static str] {
        match (&self.tags, self.segments.names().next()) {
            (None, _) => &[],
            (Some(_), None) => &[TAG_CHANGES, TAGS_CURRENT],
            (Some(_), Some(_)) => &[TAG_CHANGES, TAGS_CURRENT, SEGMENT_CHANGES],
        }
    }

    /// How often all tags of all keys come out where none is left out: as often as some
    /// table wants them.
    pub fn profile_every(&self) -> Duration {
        let sinks = self.sinks.iter().map(|(_, sink)| sink);
        let sinks = sinks.filter(|sink| *sink.from == TAGS_CURRENT);
        let periods = sinks.filter_map(|sink| match sink.output() {
            Output::Parquet(parquet) if *parquet.mode == WriteMode::Snapshot => None,
            Output::Parquet(parquet) => Some(*parquet.every),
            Output::Console(_) | Output::Blackhole(_) => None,
        });
        periods.min().unwrap_or(parquet::PROFILE_EVERY)
    }

    /// The names that `from` and SQL can refer to: sources, steps, queries, metrics.
    pub fn relations(&self) -> impl Iterator<Item = &Name> + Clone {
        let sources = self.sources.names();
        sources
            .chain(self.steps.names())
            .chain(self.queries.names())
            .chain(self.metrics.names())
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
        let metrics = fields.optional(reader, "metrics");
        let tags = fields.optional(reader, "tags");
        let segments = fields.optional(reader, "segments");
        let scenes = fields.optional(reader, "scenes");
        let sinks = fields.required(reader, "sinks");
        let checkpoint = fields.optional(reader, "checkpoint");
        let errors = fields.optional(reader, "errors");
        let parallelism = fields.optional(reader, "parallelism");
        let memory = fields.optional(reader, "memory");
        let admin = fields.optional(reader, "admin");
        let tests = fields.optional(reader, "tests");
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
            metrics: metrics.map_or_else(Nodes::unreadable, Option::unwrap_or_default),
            tags_are_unreadable: tags.is_none(),
            tags: tags.flatten(),
            segments: segments.map_or_else(Nodes::unreadable, Option::unwrap_or_default),
            scenes: scenes.map_or_else(Nodes::unreadable, Option::unwrap_or_default),
            sinks: sinks.unwrap_or_else(Nodes::unreadable),
            checkpoint,
            parallelism: parallelism.flatten(),
            memory: memory.flatten(),
            admin: admin.flatten().unwrap_or_else(|| Admin::default_at(at)),
            tests: tests.flatten().unwrap_or_default(),
        })
    }
}
