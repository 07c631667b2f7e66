//! The pipeline file as types: one Rust file per block.
//!
//! The doc comments of the fields are the reference that editors show, by way of the JSON Schema.

mod admin;
mod checkpoint;
mod columns;
mod dedupe;
mod deliver;
mod dimension;
mod errors;
mod event_time;
mod expectation;
mod flag_bots;
mod format;
mod measure;
mod memory;
mod metrics;
mod params;
mod query;
mod scenes;
mod segments;
mod sessions;
mod sink;
mod source;
mod step;
pub mod tags;
mod test_case;
mod test_row;
#[cfg(test)]
pub(crate) mod tests;

use std::{sync::Arc, time::Duration};

use errors::WrittenErrors;
use schemars::JsonSchema;
use serde::Serialize;
use tagflow_config::{Reader, diagnostic::Diagnostics, stable_json::canonical, yaml::Node};
use tagflow_connectors::parquet::PROFILE_EVERY;

pub use tagflow_config::{ByteSize, Name, Nodes, Ratio, Secret, Setting, SqlText, parse_listen};

pub use tagflow_connectors::{SinkConfig, SourceConfig, parquet::WriteMode};

pub use admin::{Admin, OPEN_TO_OTHERS};
pub use checkpoint::Checkpoint;
pub use columns::Columns;
pub use dedupe::Dedupe;
pub use deliver::Deliver;
pub use dimension::Dimension;
pub use errors::{Errors, StopWhen, Table};
pub use event_time::{Time, WhenIdle};
pub use expectation::{DEAD_LETTERS, Expect, Expectation, LATE};
pub use flag_bots::{FlagBots, Rate};
pub use format::{CsvFormat, Format, JsonFormat, ParquetFormat};
pub use measure::{Agg, Measure, Sketch, Theta};
pub use memory::Memory;
pub use metrics::{Corrections, Day, Metrics, MetricsEmit, MetricsWindow, Width};
pub use params::Params;
pub use query::{Emit, Query};
pub use scenes::Scene;
pub use segments::Segment;
pub use sessions::Sessions;
pub use sink::Sink;
pub use source::{OnError, Source};
pub use step::{Select, Step};
pub use tags::Tags;
pub use test_case::{Action, TestCase, TestStep, Tick, WatermarkStep};
pub use test_row::{Content, TestRow};

/// A streaming data pipeline: sources, steps and queries over them, and sinks.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(title = "Tagflow pipeline", deny_unknown_fields)]
pub struct Spec {
    /// The file, as the user named it.
    #[serde(skip)]
    pub file: Arc<str>,
    /// The warnings of the file.
    #[serde(skip)]
    pub warnings: Diagnostics,
    /// The pipeline's name, which its commit log, state and metrics use. Lower-case letters,
    /// digits, `_` and `-`, at most 63.
    pub name: Setting<String>,
    /// Values that `--set name=value` can override and `${params.name}` refers to, each with its
    /// default; a param without a default must be set.
    #[schemars(extend("default" = serde_json::json!({})))]
    pub params: Params,
    /// The sources of rows, by name.
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
    /// Tags of each user: values over rolling windows, from their events.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tags: Option<Tags>,
    /// Whether `tags` is in the file, but in error.
    #[serde(skip)]
    tags_are_unreadable: bool,
    /// Groups of users by rules over their tags.
    #[serde(skip_serializing_if = "Nodes::is_empty")]
    #[schemars(extend("default" = serde_json::json!({})))]
    pub segments: Nodes<Segment>,
    /// The tags and segments that each caller may read, by the caller's name.
    #[serde(skip_serializing_if = "Nodes::is_empty")]
    #[schemars(extend("default" = serde_json::json!({})))]
    pub scenes: Nodes<Scene>,
    /// The sinks of results, by name.
    pub sinks: Nodes<Sink>,
    /// How unusable rows are handled.
    #[schemars(extend("default" = serde_json::json!({})))]
    pub errors: Errors,
    /// How often progress and state are stored, and where.
    #[schemars(extend("default" = serde_json::json!({})))]
    pub checkpoint: Checkpoint,
    /// The number of parallel lanes, 1 to 256. Default: the machine's cores. It may change between
    /// runs.
    pub parallelism: Option<Setting<u64>>,
    /// The memory limit of the process. Default: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Memory>,
    /// The HTTP server for health, metrics and status.
    #[schemars(extend("default" = serde_json::json!({})))]
    pub admin: Admin,
    /// Rows and the results that they must lead to: `tagflow test` checks these.
    #[serde(skip_serializing)]
    #[schemars(extend("default" = serde_json::json!([])))]
    pub tests: Vec<TestCase>,
}

/// Blocks that are designed but that this version cannot run.
const LATER: [&str; 5] = ["attribution", "experiments", "checks", "docs", "serve"];

/// The changes of tags, which sinks can write.
pub const TAG_CHANGES: &str = "tags.changes";
/// All tags of all keys, at regular intervals.
pub const TAGS_CURRENT: &str = "tags.current";
/// The keys that entered and left each segment.
pub const SEGMENT_CHANGES: &str = "segments.changes";

impl Spec {
    /// The memory limit in bytes, if there is one.
    pub fn memory_limit(&self) -> Option<u64> {
        self.memory.as_ref().map(|memory| memory.limit.bytes())
    }

    /// The size of a buffer: `most`, or this part of the limit if that is less.
    pub fn part_of_memory(&self, part: usize, most: usize) -> usize {
        self.memory_limit()
            .map_or(most, |limit| most.min(limit as usize / part))
    }

    /// The pipeline as canonical JSON, to be stored. Every setting has its default filled in, keys
    /// are sorted, and references such as `${env:X}` replace their values. Contains no secret.
    pub fn plan_json(&self) -> String {
        let value = serde_json::to_value(self).expect("a spec has string keys only");
        canonical(value)
    }

    /// Whether the file has a node of this name that is in error, so that references to it cannot
    /// be checked.
    pub fn is_unreadable(&self, name: &str) -> bool {
        self.sources.is_unreadable(name)
            || self.tables.is_unreadable(name)
            || self.steps.is_unreadable(name)
            || self.queries.is_unreadable(name)
            || self.metrics.is_unreadable(name)
            || (self.tags_are_unreadable && name.contains('.'))
    }

    /// Whether `name` is a node with rows.
    pub fn is_node(&self, name: &str) -> bool {
        self.relations().any(|relation| **relation == *name) || self.tag_tables().contains(&name)
    }

    /// The tables that sinks can write from `tags` and `segments`.
    pub fn tag_tables(&self) -> &'static [&'static str] {
        match (&self.tags, self.segments.names().next()) {
            (None, _) => &[],
            (Some(_), None) => &[TAG_CHANGES, TAGS_CURRENT],
            (Some(_), Some(_)) => &[TAG_CHANGES, TAGS_CURRENT, SEGMENT_CHANGES],
        }
    }

    /// The interval between full profiles: the shortest that a table requires.
    pub fn profile_every(&self) -> Duration {
        let sinks = self.sinks.iter().map(|(_, sink)| sink);
        let sinks = sinks.filter(|sink| *sink.from == TAGS_CURRENT);
        let periods = sinks.filter_map(|sink| match &sink.output {
            SinkConfig::Parquet(parquet) if *parquet.mode != WriteMode::Snapshot => {
                Some(*parquet.every)
            }
            _ => None,
        });
        periods.min().unwrap_or(PROFILE_EVERY)
    }

    /// The names that `from` and SQL can refer to: sources, steps, queries, metrics.
    pub fn relations(&self) -> impl Iterator<Item = &Name> + Clone {
        let sources = self.sources.names();
        sources
            .chain(self.steps.names())
            .chain(self.queries.names())
            .chain(self.metrics.names())
    }

    /// Reads a whole file. Blocks in error are omitted and reported in the diagnostics, so that the
    /// rest can still be checked.
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
