//! `tables`: lookup tables that queries join streams with.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;
use tagflow_config::{Read, Reader, Setting, yaml::Node};

use super::{Columns, Format};

const REFRESH: Duration = Duration::from_mins(1);

/// A small table of files that a query joins with a stream by its key, such as the campaigns. It is
/// held in memory and read again when it changes.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Dimension {
    /// A path or URL (`s3://`, `gs://`, `az://`, `file://`), with `*`, `?`, `[…]` and `**` for many
    /// files. A path is relative to Tagflow's working directory.
    pub url: Setting<String>,
    /// How a row is encoded: JSON is one object per line.
    pub format: Format,
    /// The columns to read, by name.
    pub columns: Columns,
    /// The columns that identify a row; no two rows have the same key.
    pub key: Vec<Setting<String>>,
    /// How often to check whether a file has changed.
    #[schemars(extend("default" = "1m"))]
    pub refresh: Setting<Duration>,
}

impl Read for Dimension {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let mut fields = reader.fields(node)?;
        let url = fields.required(reader, "url");
        let format = fields.required(reader, "format");
        let columns = fields.required(reader, "columns");
        let key = fields.required(reader, "key");
        let refresh = fields.or(reader, "refresh", REFRESH);
        fields.finish(reader);
        Some(Self {
            url: url?,
            format: format?,
            columns: columns?,
            key: key?,
            refresh: refresh?,
        })
    }
}
