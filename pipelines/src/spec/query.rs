//! `queries`: streaming SQL.

use std::{borrow::Cow, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;
use tagflow_config::{
    Choice, Leaf, Read, Reader, Setting, SqlText,
    yaml::{Node, Value},
};

/// A query: its SQL alone, or a map with `sql`, `emit`, `allowed_lateness` and
/// `ttl`.
#[derive(Debug, Clone, Serialize)]
pub struct Query {
    /// The SQL.
    pub sql: SqlText,
    /// When results are emitted.
    pub emit: Emit,
    /// How long after its end a window accepts rows, and is corrected.
    pub allowed_lateness: Setting<Duration>,
    /// How long an aggregate without a window keeps a key after its last row.
    pub ttl: Option<Setting<Duration>>,
}

/// When the rows of a window are emitted.
#[derive(Debug, Clone, Serialize)]
pub enum Emit {
    /// When the window closes.
    OnClose(Setting<OnClose>),
    /// Also earlier: its changes, at this interval of event time.
    Every(Setting<Duration>),
}

/// When the window closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OnClose;

impl Choice for OnClose {
    const EXPECTED: &'static str = "`on_close`, or a map such as `{every: 10s}`";
    const NAMES: &'static [(&'static str, Self)] = &[("on_close", Self)];
}

impl Emit {
    /// The interval of previews, if there are any.
    pub fn previews(&self) -> Option<Duration> {
        match self {
            Self::OnClose(_) => None,
            Self::Every(every) => Some(*every.value()),
        }
    }
}

impl Read for Emit {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        match &node.value {
            Value::Map(_) => {
                let mut fields = reader.fields(node)?;
                let every = fields.required(reader, "every");
                fields.finish(reader);
                every.map(Self::Every)
            }
            _ => Setting::read(node, reader).map(Self::OnClose),
        }
    }
}

impl Read for Query {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let once = Emit::OnClose(Setting::default_at(OnClose, node.at));
        match &node.value {
            Value::Map(_) => {}
            Value::Scalar(_) => {
                return Some(Self {
                    sql: SqlText::read(node, reader)?,
                    emit: once,
                    allowed_lateness: Setting::default_at(Duration::ZERO, node.at),
                    ttl: None,
                });
            }
            Value::List(_) => {
                reader.mismatch(node, "SQL, or a map with `sql` and `emit`");
                return None;
            }
        }
        let mut fields = reader.fields(node)?;
        let sql = fields.required(reader, "sql");
        let emit = fields.optional(reader, "emit");
        let allowed_lateness = fields.or(reader, "allowed_lateness", Duration::ZERO);
        let ttl = fields.optional(reader, "ttl");
        fields.finish(reader);
        Some(Self {
            sql: sql?,
            emit: emit?.unwrap_or(once),
            allowed_lateness: allowed_lateness?,
            ttl: ttl?,
        })
    }
}

impl JsonSchema for Query {
    fn schema_name() -> Cow<'static, str> {
        "Query".into()
    }

    fn json_schema(_generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A query: its SQL alone, or a map with `sql`, `emit`, \
                `allowed_lateness` and `ttl`.",
            "anyOf": [
                {"type": "string"},
                {
                    "type": "object",
                    "properties": {
                        "sql": {"type": "string", "description": "The SQL."},
                        "emit": {
                            "description": "When results come out: `on_close`, when a window \
                                closes; `{every: 10s}`, and before that previews of what \
                                changed, so far apart in event time. With `ttl`, how far apart \
                                changes are; one minute if nothing is said.",
                            "default": "on_close",
                            "anyOf": [
                                OnClose::schema(),
                                {
                                    "type": "object",
                                    "properties": {
                                        "every": {
                                            "description": "How far apart previews are, in event \
                                                time.",
                                            "anyOf": [Duration::schema()],
                                        },
                                    },
                                    "required": ["every"],
                                    "additionalProperties": false,
                                },
                            ],
                        },
                        "allowed_lateness": {
                            "description": "For so long after its end a window takes rows, and \
                                comes out again where they changed it. Later rows are late.",
                            "default": "0s",
                            "anyOf": [Duration::schema()],
                        },
                        "ttl": {
                            "description": "Of an aggregate without a window, changes come out; \
                                a key is forgotten so long after its last row.",
                            "anyOf": [Duration::schema()],
                        },
                    },
                    "required": ["sql"],
                    "additionalProperties": false,
                },
            ],
        })
    }
}
