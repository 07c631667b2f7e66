//! `steps`: processing of rows before aggregation.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};
use tagflow_config::{
    Name, Nodes, Read, Reader, Setting, SqlText, in_order,
    yaml::{Node, Value},
};

use super::{Dedupe, FlagBots, Sessions};

/// Processing of rows one by one, in this order whatever the order of the keys: `dedupe`,
/// `flag_bots`, `sessions`, `where`, `select`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Step {
    /// The source, step or query whose rows it reads.
    pub from: Setting<String>,
    /// Drops rows whose key was seen before.
    pub dedupe: Option<Dedupe>,
    /// Adds a column that marks rows from bots.
    pub flag_bots: Option<FlagBots>,
    /// Adds a column with the session of each row.
    pub sessions: Option<Sessions>,
    /// A SQL condition. Rows for which it is false or null are filtered out.
    #[serde(rename = "where")]
    pub filter: Option<SqlText>,
    /// The output columns. Default: all input columns.
    pub select: Option<Select>,
}

/// The output columns of a step.
#[derive(Debug, Clone)]
pub enum Select {
    /// A map: each column's name and its SQL expression.
    Named(Nodes<SqlText>),
    /// A list of SQL select items: `user_id`, `upper(city) AS city`.
    Items(Vec<SqlText>),
}

impl Select {
    /// Each column's SQL, with its name if the file gives it separately.
    pub fn columns(&self) -> Box<dyn Iterator<Item = (Option<&Name>, &SqlText)> + '_> {
        match self {
            Self::Named(columns) => Box::new(columns.iter().map(|(name, sql)| (Some(name), sql))),
            Self::Items(items) => Box::new(items.iter().map(|sql| (None, sql))),
        }
    }
}

impl Read for Step {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let mut fields = reader.fields(node)?;
        let from = fields.required(reader, "from");
        let dedupe = fields.optional(reader, "dedupe");
        let flag_bots = fields.optional(reader, "flag_bots");
        let sessions = fields.optional(reader, "sessions");
        let filter = fields.optional(reader, "where");
        let select = fields.optional(reader, "select");
        fields.finish(reader);
        Some(Self {
            from: from?,
            dedupe: dedupe?,
            flag_bots: flag_bots?,
            sessions: sessions?,
            filter: filter?,
            select: select?,
        })
    }
}

impl Read for Select {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        match &node.value {
            Value::List(items) if items.is_empty() => {}
            Value::Map(entries) if entries.is_empty() => {}
            Value::List(_) => return Vec::read(node, reader).map(Self::Items),
            Value::Map(entries) => {
                let columns = Nodes::read(node, reader)?;
                return (columns.len() == entries.len()).then_some(Self::Named(columns));
            }
            Value::Scalar(_) => {
                reader.mismatch(node, "a map of names and SQL, or a list of SQL");
                return None;
            }
        }
        reader.error(node.at, "`select` needs at least one column");
        None
    }
}

impl Serialize for Select {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Named(columns) => in_order(columns, serializer),
            Self::Items(items) => items.serialize(serializer),
        }
    }
}

impl JsonSchema for Select {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Select".into()
    }

    fn json_schema(_generator: &mut SchemaGenerator) -> Schema {
        json_schema!({"anyOf": [
            {"type": "object", "additionalProperties": {"type": "string"}, "minProperties": 1},
            {"type": "array", "items": {"type": "string"}, "minItems": 1},
        ]})
    }
}
