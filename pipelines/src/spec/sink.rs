//! `sinks`: the targets of results.

use schemars::JsonSchema;
use serde::Serialize;
use tagflow_config::{Read, Reader, Setting, yaml::Node};

use super::{Deliver, ParquetSink};

/// The target of results: exactly one of `parquet`, `console` and `blackhole`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[schemars(extend("oneOf" = [
    {"required": ["parquet"]}, {"required": ["console"]}, {"required": ["blackhole"]}
]))]
pub struct Sink {
    /// The source, step or query whose rows it writes.
    pub from: Setting<String>,
    /// A table of Parquet files.
    #[serde(skip_serializing_if = "Option::is_none")]
    parquet: Option<ParquetSink>,
    /// Prints rows, for inspection: some may be printed again after a restart.
    #[serde(skip_serializing_if = "Option::is_none")]
    console: Option<ConsoleSink>,
    /// Counts rows and drops them, for measuring.
    #[serde(skip_serializing_if = "Option::is_none")]
    blackhole: Option<BlackholeSink>,
    /// How far the target may be behind the commits. Not for `console` and `blackhole`, which
    /// deliver nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deliver: Option<Deliver>,
}

/// The kind of a sink.
#[derive(Debug, Clone, Copy)]
pub enum Output<'a> {
    /// `parquet`.
    Parquet(&'a ParquetSink),
    /// `console`.
    Console(&'a ConsoleSink),
    /// `blackhole`.
    Blackhole(&'a BlackholeSink),
}

/// The console has no settings.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ConsoleSink {}

/// A black hole has no settings.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct BlackholeSink {}

impl Sink {
    /// The kind of the sink, with its settings.
    pub fn output(&self) -> Output<'_> {
        let parquet = self.parquet.as_ref().map(Output::Parquet);
        let console = self.console.as_ref().map(Output::Console);
        let blackhole = self.blackhole.as_ref().map(Output::Blackhole);
        parquet
            .or(console)
            .or(blackhole)
            .expect("reading a sink makes sure of its kind")
    }
}

impl Read for Sink {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let mut fields = reader.fields(node)?;
        let kind = fields.one_of(reader, &["parquet", "console", "blackhole"]);
        let from = fields.required(reader, "from");
        let parquet = fields.settings(reader, "parquet");
        let console = fields.settings(reader, "console");
        let blackhole = fields.settings(reader, "blackhole");
        let deliver = fields.optional(reader, "deliver");
        fields.finish(reader);
        kind?;
        Some(Self {
            from: from?,
            parquet: parquet?,
            console: console?,
            blackhole: blackhole?,
            deliver: deliver?,
        })
    }
}

impl Read for ConsoleSink {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        reader.fields(node)?.finish(reader);
        Some(Self {})
    }
}

impl Read for BlackholeSink {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        reader.fields(node)?.finish(reader);
        Some(Self {})
    }
}
