//! `columns`: the columns to read from a row.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};
use tagflow_config::{
    Name, Read, Reader,
    diagnostic::{Position, closest},
    yaml::NO_STRUCTS,
    yaml::{Node, Style, Value},
};
use tagflow_schemas::{Column, ColumnType, column::TYPE_NAMES};

/// The columns of a source, in the file's order, each with its position in the file.
#[derive(Debug, Clone)]
pub struct Columns {
    all: Vec<Column>,
    positions: Vec<Position>,
    personal: Vec<String>,
}

/// The columns of a generator.
const GENERATED: [(&str, &str); 10] = [
    ("event_id", "string"),
    ("user_id", "string"),
    ("event_type", "string"),
    ("campaign_id", "string?"),
    ("channel", "string?"),
    ("product_id", "string?"),
    ("category", "string?"),
    ("amount", "decimal(18,2)?"),
    ("utm_source", "string?"),
    ("occurred_at", "timestamp(ms)"),
];

impl Columns {
    /// The columns of a generator's events.
    pub(crate) fn generated(at: Position) -> Self {
        let column = |(name, kind): (&str, &str)| {
            column(name, kind).expect("the generator's column types are right")
        };
        Self {
            all: GENERATED.into_iter().map(column).collect(),
            positions: vec![at; GENERATED.len()],
            personal: Vec::new(),
        }
    }

    /// The columns.
    pub fn as_slice(&self) -> &[Column] {
        &self.all
    }

    /// The columns with personal data, which dead letters and late rows hide.
    pub fn personal(&self) -> &[String] {
        &self.personal
    }

    /// The column `name`.
    pub fn get(&self, name: &str) -> Option<&Column> {
        self.all.iter().find(|column| column.name == name)
    }

    /// Each column with its position in the file.
    pub fn iter(&self) -> impl Iterator<Item = (&Column, Position)> {
        self.all.iter().zip(self.positions.iter().copied())
    }
}

/// A column from a type in the file's notation, `?` for a nullable one.
fn column(name: &str, kind: &str) -> Result<Column, tagflow_schemas::ParseTypeError> {
    let (kind, nullable) = match kind.trim().strip_suffix('?') {
        Some(kind) => (kind, true),
        None => (kind, false),
    };
    Ok(Column {
        name: name.into(),
        kind: kind.parse::<ColumnType>()?,
        nullable,
    })
}

impl Read for Columns {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let entries = reader.map(node, "a map of column names and types")?;
        if entries.is_empty() {
            reader.error(node.at, "a source needs at least one column");
            return None;
        }
        // The rest of a type after a comma inside it is no column.
        let is_rest = |place: usize| {
            let before = place.checked_sub(1).map(|before| &entries[before].1.value);
            let is_open = matches!(before, Some(Value::Scalar(before))
                if before.style == Style::Plain && before.text.contains('(') && !before.text.contains(')'));
            is_open && entries[place].0.text.contains(')')
        };
        let types: Vec<_> = entries
            .iter()
            .enumerate()
            .filter(|(place, _)| !is_rest(*place))
            .map(|(_, (key, node))| reader.enter::<WrittenColumn>(&key.text, node))
            .collect();
        let mut columns = Vec::new();
        let mut positions = Vec::new();
        let mut personal = Vec::new();
        for ((key, _), column) in entries.iter().zip(types) {
            let name = Name::of(key);
            let column = column?;
            let WrittenType { kind, nullable } = column.kind;
            positions.push(name.at());
            if column.personal {
                personal.push(name.to_string());
            }
            columns.push(Column {
                name: name.to_string(),
                kind,
                nullable,
            });
        }
        Some(Self {
            all: columns,
            positions,
            personal,
        })
    }
}

/// A column: its type alone, or `{type: …, personal: true}`.
struct WrittenColumn {
    kind: WrittenType,
    personal: bool,
}

impl Read for WrittenColumn {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let Value::Map(_) = &node.value else {
            let kind = WrittenType::read(node, reader)?;
            return Some(Self {
                kind,
                personal: false,
            });
        };
        let mut fields = reader.fields(node)?;
        let kind = fields.required(reader, "type");
        let personal = fields.or(reader, "personal", false);
        fields.finish(reader);
        Some(Self {
            kind: kind?,
            personal: *personal?,
        })
    }
}

/// A column's type.
struct WrittenType {
    kind: ColumnType,
    nullable: bool,
}

impl Read for WrittenType {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let scalar = match &node.value {
            Value::Scalar(scalar) if !node.is_null() => scalar,
            _ => {
                reader.mismatch(node, "a column type like `string` or `int64?`");
                return None;
            }
        };
        let text = reader.resolve(scalar, node.at)?.text;
        match column("", &text) {
            Ok(Column { kind, nullable, .. }) => Some(Self { kind, nullable }),
            Err(error) => {
                let start = text.split(['(', '<', '?']).next().unwrap_or_default();
                let meant = match synonym(start) {
                    None if TYPE_NAMES.contains(&start) => None,
                    None => closest(start, TYPE_NAMES),
                    meant => meant,
                };
                let is_cut_off = text.contains('(') && !text.contains(')');
                let has_parts = matches!(start, "struct" | "map" | "row" | "object");
                let diagnostic = reader.error(node.at, error.to_string());
                if is_cut_off && scalar.style == Style::Plain {
                    diagnostic.help(
                        "inside `{…}` a comma ends the value: quote the type, \
                         `\"decimal(18,2)\"`",
                    );
                } else if has_parts {
                    diagnostic.help(NO_STRUCTS);
                } else if let Some(meant) = meant {
                    diagnostic.help(format!("did you mean `{meant}`?"));
                }
                None
            }
        }
    }
}

/// Tagflow's name for a type name of other systems.
fn synonym(name: &str) -> Option<&'static str> {
    Some(match name.to_ascii_lowercase().as_str() {
        "str" | "text" | "varchar" | "utf8" => "string",
        "int" | "integer" | "long" | "bigint" => "int64",
        "float" | "double" | "real" | "number" => "float64",
        "boolean" => "bool",
        "numeric" => "decimal(18,2)",
        "datetime" | "timestamptz" => "timestamp(rfc3339)",
        "object" | "struct" | "map" => "json",
        "array" => "list<string>",
        _ => return None,
    })
}

/// As lists of name, type and flags: the order matters where no header names them.
impl Serialize for Columns {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.all.iter().map(|column| {
            let nullable = if column.nullable { "?" } else { "" };
            let mut written = vec![column.name.clone(), format!("{}{nullable}", column.kind)];
            if self.personal.contains(&column.name) {
                written.push("personal".to_owned());
            }
            written
        }))
    }
}

impl JsonSchema for Columns {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Columns".into()
    }

    fn json_schema(_generator: &mut SchemaGenerator) -> Schema {
        let kind = json_schema!({
            "type": "string",
            "description": "`string`, `int64`, `float64`, `bool`, `decimal(p,s)`, \
                `timestamp(s|ms|us|ns|rfc3339)`, `date`, `json` or `list<T>`; with a `?` where \
                a row may lack it.",
            "examples": [
                "string", "string?", "int64", "float64", "bool", "decimal(18,2)",
                "timestamp(ms)", "timestamp(rfc3339)", "date", "json", "list<string>",
            ],
        });
        json_schema!({
            "type": "object",
            "minProperties": 1,
            "additionalProperties": {
                "anyOf": [
                    kind,
                    {
                        "type": "object",
                        "additionalProperties": false,
                        "required": ["type"],
                        "properties": {
                            "type": kind,
                            "personal": {
                                "type": "boolean",
                                "default": false,
                                "description": "Whether its values are hidden in dead letters \
                                    and late rows.",
                            },
                        },
                    },
                ],
            },
        })
    }
}
