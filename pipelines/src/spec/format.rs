//! `format`: how a row is encoded.

use schemars::JsonSchema;
use serde::Serialize;

use super::{
    Setting,
    read::{Read, Reader},
};
use crate::yaml::{Node, Value};

/// How a row is encoded: exactly one of `json`, `csv` and `parquet`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// A JSON object a row; in files, one a line (NDJSON).
    Json(JsonFormat),
    /// Comma-separated values, a line a row. In files only.
    Csv(CsvFormat),
    /// Parquet. In files only.
    Parquet(ParquetFormat),
}

/// JSON has no settings.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct JsonFormat {}

/// How values are separated.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct CsvFormat {
    /// Whether the first line names the columns. Without, the columns are in
    /// the order of `columns`.
    #[schemars(extend("default" = true))]
    pub header: Setting<bool>,
    /// The one ASCII character between values.
    #[schemars(extend("default" = ","))]
    pub delimiter: Setting<String>,
}

/// Parquet has no settings.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ParquetFormat {}

impl Format {
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
        reader.fields(node)?.finish(reader);
        Some(Self {})
    }
}

impl Read for CsvFormat {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let mut fields = reader.fields(node)?;
        let header = fields.or(reader, "header", true);
        let delimiter = fields.or(reader, "delimiter", ",".to_owned());
        fields.finish(reader);
        Some(Self {
            header: header?,
            delimiter: delimiter?,
        })
    }
}

impl Read for ParquetFormat {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        reader.fields(node)?.finish(reader);
        Some(Self {})
    }
}
