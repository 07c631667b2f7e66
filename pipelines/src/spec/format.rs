//! `format`: how a row is encoded.

use schemars::JsonSchema;
use serde::Serialize;
use tagflow_config::{
    Read, Reader, Setting,
    yaml::{Node, Value},
};
use tagflow_connectors::format::Tz;

/// How a row is encoded: exactly one of `json`, `csv` and `parquet`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// One JSON object per row; in files, one per line (NDJSON).
    Json(JsonFormat),
    /// Comma-separated values, one row per line. In files only.
    Csv(CsvFormat),
    /// Parquet. In files only.
    Parquet(ParquetFormat),
}

/// The options of JSON.
#[derive(Debug, Clone, Default, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct JsonFormat {
    /// The zone of times in text without one, like `Asia/Shanghai`. By default such a time is an
    /// error of its row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub assume_timezone: Option<Setting<Tz>>,
}

/// The options of separated values.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct CsvFormat {
    /// Whether the first line names the columns. Otherwise, the columns are in the order of
    /// `columns`.
    #[schemars(extend("default" = true))]
    pub header: Setting<bool>,
    /// The one ASCII character between values.
    #[schemars(extend("default" = ","))]
    pub delimiter: Setting<String>,
    /// The zone of times in text without one, like `Asia/Shanghai`. By default such a time is an
    /// error of its row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub assume_timezone: Option<Setting<Tz>>,
}

/// The options of Parquet.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ParquetFormat {
    /// The zone of times without one, like `Asia/Shanghai`. By default timestamps are UTC, and a
    /// time in text is an error of its row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub assume_timezone: Option<Setting<Tz>>,
}

impl Format {
    /// The zone of times without one.
    pub fn assume_timezone(&self) -> Option<Tz> {
        let zone = match self {
            Self::Json(json) => &json.assume_timezone,
            Self::Csv(csv) => &csv.assume_timezone,
            Self::Parquet(parquet) => &parquet.assume_timezone,
        };
        zone.as_ref().map(|zone| **zone)
    }

    /// Its name in the file.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Json(_) => "json",
            Self::Csv(_) => "csv",
            Self::Parquet(_) => "parquet",
        }
    }
}

impl Read for Format {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        if let Value::Scalar(scalar) = &node.value {
            let help = match scalar.text.as_str() {
                name @ ("json" | "csv" | "parquet") => name,
                _ => "json",
            };
            reader
                .mismatch(node, "a map")
                .help(format!("write `{{{help}: {{}}}}`"));
            return None;
        }
        let mut fields = reader.fields(node)?;
        let name = fields.one_of(reader, &["json", "csv", "parquet"]);
        let json = fields.settings(reader, "json");
        let csv = fields.settings(reader, "csv");
        let parquet = fields.settings(reader, "parquet");
        fields.finish(reader);
        match name? {
            "json" => json?.map(Self::Json),
            "csv" => csv?.map(Self::Csv),
            _ => parquet?.map(Self::Parquet),
        }
    }
}

impl Read for JsonFormat {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let mut fields = reader.fields(node)?;
        let assume_timezone = fields.optional(reader, "assume_timezone");
        fields.finish(reader);
        Some(Self {
            assume_timezone: assume_timezone?,
        })
    }
}

impl Read for CsvFormat {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let mut fields = reader.fields(node)?;
        let header = fields.or(reader, "header", true);
        let delimiter = fields.or(reader, "delimiter", ",".to_owned());
        let assume_timezone = fields.optional(reader, "assume_timezone");
        fields.finish(reader);
        Some(Self {
            header: header?,
            delimiter: delimiter?,
            assume_timezone: assume_timezone?,
        })
    }
}

impl Read for ParquetFormat {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let mut fields = reader.fields(node)?;
        let assume_timezone = fields.optional(reader, "assume_timezone");
        fields.finish(reader);
        Some(Self {
            assume_timezone: assume_timezone?,
        })
    }
}
