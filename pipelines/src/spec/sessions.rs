//! `sessions`: the session of each row.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;
use tagflow_config::{Read, Reader, Setting, yaml::Node};

/// Adds a column with the session of each row. A session is rows of one key, each at most `gap`
/// after the one before, in event time.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Sessions {
    /// The columns whose rows form a session, such as the user. A row with a null in any key
    /// column belongs to no session.
    #[schemars(length(min = 1))]
    pub key: Vec<Setting<String>>,
    /// A row more than this after the one before begins a session.
    pub gap: Setting<Duration>,
    /// The new column: a string, the same for all rows of a session.
    #[serde(rename = "as")]
    #[schemars(extend("default" = "session_id"))]
    pub column: Setting<String>,
}

impl Read for Sessions {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let mut fields = reader.fields(node)?;
        let key = fields.key(reader);
        let gap = fields.positive(reader, "gap");
        let column = fields.or(reader, "as", "session_id".to_owned());
        fields.finish(reader);
        Some(Self {
            key: key?,
            gap: gap?,
            column: column?,
        })
    }
}
