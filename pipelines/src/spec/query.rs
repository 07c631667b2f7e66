//! `queries`: streaming SQL.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;

use super::{
    Setting, SqlText,
    read::{Read, Reader},
    scalars::Choice,
    setting::Leaf,
};
use crate::yaml::{Node, Value};

/// A query: its SQL alone, or a map with `sql` and `emit`.
#[derive(Debug, Clone, Serialize)]
pub struct Query {
    /// The SQL.
    pub sql: SqlText,
    /// When results come out.
    pub emit: Setting<Emit>,
}

/// When the rows of a window come out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Emit {
    /// Once, when the window closes.
    OnClose,
}

impl Choice for Emit {
    const EXPECTED: &'static str = "`on_close`";
    const NAMES: &'static [(&'static str, Self)] = &[("on_close", Self::OnClose)];
}

impl Read for Query {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        match &node.value {
            Value::Map(_) => {}
            Value::Scalar(_) => {
                return Some(Self {
                    sql: SqlText::read(node, reader)?,
                    emit: Setting::default_at(Emit::OnClose, node.at),
                });
            }
            Value::List(_) => {
                reader.mismatch(node, "SQL, or a map with `sql` and `emit`");
                return None;
            }
        }
        let mut fields = reader.fields(node)?;
        let sql = fields.required(reader, "sql");
        let emit = fields.or(reader, "emit", Emit::OnClose);
        fields.finish(reader);
        Some(Self {
            sql: sql?,
            emit: emit?,
        })
    }
}

impl JsonSchema for Query {
    fn schema_name() -> Cow<'static, str> {
        "Query".into()
    }

    fn json_schema(_generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A query: its SQL alone, or a map with `sql` and `emit`.",
            "anyOf": [
                {"type": "string"},
                {
                    "type": "object",
                    "properties": {
                        "sql": {"type": "string", "description": "The SQL."},
                        "emit": {
                            "description": "When results come out: `on_close`, once, when a \
                                window closes.",
                            "default": "on_close",
                            "anyOf": [Emit::schema()],
                        },
                    },
                    "required": ["sql"],
                    "additionalProperties": false,
                },
            ],
        })
    }
}
