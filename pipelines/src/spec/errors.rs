//! `errors`: how unusable rows are handled.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;
use tagflow_config::{Ratio, Read, Reader, Setting, yaml::Node};

use super::Checkpoint;

/// How unusable rows are handled.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Errors {
    /// The Parquet table of rows that could not be read. Default: a folder with the pipeline's name
    /// in `_dead_letters/` of the checkpoint's folder.
    #[schemars(extend("default" = {"url": "${env:TAGFLOW_STATE:-./.tagflow}/_dead_letters/NAME"}))]
    pub dead_letters: Table,
    /// The Parquet table of rows that arrived after their window had closed. Default: a folder with
    /// the pipeline's name in `_late/` of the checkpoint's folder.
    #[schemars(extend("default" = {"url": "${env:TAGFLOW_STATE:-./.tagflow}/_late/NAME"}))]
    pub late: Table,
    /// Stops the pipeline when too many rows are bad: better than a night of dead letters. Default:
    /// never.
    pub stop_when: Option<StopWhen>,
}

/// A Parquet table.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Table {
    /// Its folder: a path or URL.
    pub url: Setting<String>,
}

/// Stops the pipeline when too many rows are bad.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct StopWhen {
    /// The pipeline stops when the share of dead letters exceeds this.
    pub ratio: Setting<Ratio>,
    /// The recent time span over which the share is computed.
    #[schemars(extend("default" = "5m"))]
    pub over: Setting<Duration>,
    /// The fewest rows in that span for a decision.
    #[schemars(extend("default" = 1000))]
    pub at_least: Setting<u64>,
}

/// The block as written, before the tables' defaults are known.
#[derive(Debug, Default)]
pub(crate) struct WrittenErrors {
    dead_letters: Option<Table>,
    late: Option<Table>,
    stop_when: Option<StopWhen>,
}

impl WrittenErrors {
    /// Fills in default tables in the checkpoint's folder.
    pub(crate) fn with_defaults(self, name: &str, checkpoint: &Checkpoint) -> Errors {
        let table = |folder: &str| Table {
            url: checkpoint.url.with_suffix(&format!("/{folder}/{name}")),
        };
        Errors {
            dead_letters: self.dead_letters.unwrap_or_else(|| table("_dead_letters")),
            late: self.late.unwrap_or_else(|| table("_late")),
            stop_when: self.stop_when,
        }
    }
}

impl Read for WrittenErrors {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let mut fields = reader.fields(node)?;
        let dead_letters = fields.optional(reader, "dead_letters");
        let late = fields.optional(reader, "late");
        let stop_when = fields.optional(reader, "stop_when");
        fields.finish(reader);
        Some(Self {
            dead_letters: dead_letters?,
            late: late?,
            stop_when: stop_when?,
        })
    }
}

impl Read for Table {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let mut fields = reader.fields(node)?;
        let url = fields.required(reader, "url");
        fields.finish(reader);
        Some(Self { url: url? })
    }
}

impl Read for StopWhen {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let mut fields = reader.fields(node)?;
        let ratio = fields.required(reader, "ratio");
        let over = fields.or(reader, "over", Duration::from_mins(5));
        let at_least = fields.or(reader, "at_least", 1000);
        fields.finish(reader);
        Some(Self {
            ratio: ratio?,
            over: over?,
            at_least: at_least?,
        })
    }
}
