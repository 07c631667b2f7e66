//! `sources`: the sources of rows.

use schemars::JsonSchema;
use serde::Serialize;
use tagflow_config::{ByteSize, Choice, Read, Reader, Setting, yaml::Node};
use tagflow_connectors::SourceConfig;

use super::{Columns, Format, JsonFormat, Time};

/// A source of rows: exactly one component, with its format, columns and event time.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Source {
    /// The component that reads.
    #[serde(flatten)]
    pub input: SourceConfig,
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

impl Read for Source {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let mut fields = reader.fields(node)?;
        let input = SourceConfig::read(&mut fields, reader);
        let has_columns = input
            .as_ref()
            .is_some_and(|it| it.component().has_columns());
        let (format, columns) = if has_columns {
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
            None if has_columns => Some(Time::generated(fields.at)),
            _ => fields.required(reader, "time"),
        };
        let on_error = fields.or(reader, "on_error", OnError::DeadLetter);
        let max_row_bytes = fields.or(reader, "max_row_bytes", ByteSize::mib(1));
        fields.finish(reader);
        let (input, time): (_, Time) = (input?, time?);
        Some(Self {
            time: time.with_max_future(input.component().max_future()),
            input,
            format: format?,
            columns: columns?,
            on_error: on_error?,
            max_row_bytes: max_row_bytes?,
        })
    }
}
