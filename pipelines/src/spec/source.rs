//! `sources`: the sources of rows.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;
use tagflow_config::{ByteSize, Choice, Read, Reader, Setting, yaml::Node};

use super::{Columns, FilesSource, Format, GeneratorSource, JsonFormat, KafkaSource, Time};

/// A source of rows: exactly one of `kafka`, `files` and `generator`, with its
/// format, columns and event time.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[schemars(extend("oneOf" = [
    {"required": ["kafka"]}, {"required": ["files"]}, {"required": ["generator"]}
]))]
pub struct Source {
    /// Topics of a Kafka cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    kafka: Option<KafkaSource>,
    /// Files, read once to their end.
    #[serde(skip_serializing_if = "Option::is_none")]
    files: Option<FilesSource>,
    /// Generated behaviour events, for experiments.
    #[serde(skip_serializing_if = "Option::is_none")]
    generator: Option<GeneratorSource>,
    /// How a row is encoded. A generator makes JSON.
    #[schemars(extend("default" = {"json": {}}))]
    pub format: Format,
    /// The columns to read, by name. Other fields of a row are not decoded. A generator has a fixed
    /// set, read by default.
    pub columns: Columns,
    /// The column with the event time, and its expected disorder.
    pub time: Time,
    /// How a bad row is handled: `dead_letter` stores it apart and continues, `fail` stops the
    /// pipeline.
    #[schemars(extend("default" = "dead_letter"))]
    pub on_error: Setting<OnError>,
    /// A longer row is a dead letter.
    #[schemars(extend("default" = "1MiB"))]
    pub max_row_bytes: Setting<ByteSize>,
}

/// Clocks of devices and servers are rarely further wrong.
const MAX_FUTURE: Duration = Duration::from_mins(5);

/// Some systems write files with local time as UTC, and no zone is more than 14 hours ahead. So a
/// single row from 2099 makes no later row late.
const MAX_FUTURE_OF_FILES: Duration = Duration::from_hours(24);

/// The kind of a source.
#[derive(Debug, Clone, Copy)]
pub enum Input<'a> {
    /// `kafka`.
    Kafka(&'a KafkaSource),
    /// `files`.
    Files(&'a FilesSource),
    /// `generator`.
    Generator(&'a GeneratorSource),
}

/// How a bad row is handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnError {
    /// It is stored as a dead letter, and the pipeline continues.
    DeadLetter,
    /// It stops the pipeline.
    Fail,
}

impl Choice for OnError {
    const EXPECTED: &'static str = "`dead_letter` or `fail`";
    const NAMES: &'static [(&'static str, Self)] =
        &[("dead_letter", Self::DeadLetter), ("fail", Self::Fail)];
}

impl Source {
    /// The kind of the source, with its settings.
    pub fn input(&self) -> Input<'_> {
        let kafka = self.kafka.as_ref().map(Input::Kafka);
        let files = self.files.as_ref().map(Input::Files);
        let generator = self.generator.as_ref().map(Input::Generator);
        kafka
            .or(files)
            .or(generator)
            .expect("reading a source makes sure of its kind")
    }
}

impl Read for Source {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let mut fields = reader.fields(node)?;
        let kind = fields.one_of(reader, &["kafka", "files", "generator"]);
        let kafka = fields.settings(reader, "kafka");
        let files = fields.settings(reader, "files");
        let generator = fields.settings(reader, "generator");
        let is_generator = kind == Some("generator");
        let (format, columns) = if is_generator {
            let format = fields.optional(reader, "format");
            let columns = fields.optional(reader, "columns");
            (
                format.map(|it| it.unwrap_or(Format::Json(JsonFormat::default()))),
                columns.map(|it| it.unwrap_or_else(|| Columns::generated(fields.at))),
            )
        } else {
            (
                fields.required(reader, "format"),
                fields.required(reader, "columns"),
            )
        };
        let time = match fields.get("time") {
            None if is_generator => Some(Time::generated(fields.at)),
            _ => fields.required(reader, "time"),
        };
        let on_error = fields.or(reader, "on_error", OnError::DeadLetter);
        let max_row_bytes = fields.or(reader, "max_row_bytes", ByteSize::mib(1));
        fields.finish(reader);
        kind?;
        let (kafka, files, generator) = (kafka?, files?, generator?);
        let time: Time = time?;
        let max_future = if files.is_some() {
            MAX_FUTURE_OF_FILES
        } else {
            MAX_FUTURE
        };
        Some(Self {
            time: time.with_max_future(max_future),
            kafka,
            files,
            generator,
            format: format?,
            columns: columns?,
            on_error: on_error?,
            max_row_bytes: max_row_bytes?,
        })
    }
}
