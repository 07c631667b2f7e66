//! `expect`: the expected rows of a node.

use schemars::{Schema, json_schema};
use tagflow_config::{
    Name, Nodes, Read, Reader, Setting,
    diagnostic::{Position, unknown},
    yaml::{Key, Node, Value},
};

use super::TestRow;

/// The expected results so far.
#[derive(Debug, Clone)]
pub struct Expect {
    /// Expectations of sources, steps, queries, sinks, [`DEAD_LETTERS`] and [`LATE`].
    pub nodes: Nodes<Expectation>,
    /// Some tags of each of these keys, from all events so far.
    pub tags: Nodes<TestRow>,
    /// The members of each of these segments.
    pub segments: Nodes<Vec<Setting<String>>>,
    /// The outcomes of all rows so far.
    pub counters: Nodes<Setting<u64>>,
}

/// The expected rows of a node since its last expectation.
#[derive(Debug, Clone)]
pub struct Expectation {
    /// Its position in the file.
    pub at: Position,
    /// The rows equal these, in any order.
    pub equals: Option<Vec<TestRow>>,
    /// The rows contain one with the values of each of these.
    pub contains: Option<Vec<TestRow>>,
    /// The number of rows.
    pub count: Option<Setting<u64>>,
}

impl Expectation {
    /// All rows that it names.
    pub(crate) fn rows(&self) -> impl Iterator<Item = &TestRow> {
        let lists = [&self.equals, &self.contains];
        lists.into_iter().flatten().flatten()
    }
}

/// The name of the table of dead letters in a test.
pub const DEAD_LETTERS: &str = "dead_letters";

/// The name of the table of late rows in a test.
pub const LATE: &str = "late";

const COUNTERS: &str = "counters";
const TAGS: &str = "tags";
const SEGMENTS: &str = "segments";

impl Read for Expect {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let entries = reader.map(node, "a map of nodes and what is expected of them")?;
        let mut nodes = Vec::new();
        let (mut counters, mut tags, mut segments) = Default::default();
        let mut sound = true;
        for (key, node) in entries {
            sound &= match key.text.as_str() {
                COUNTERS => all(reader, key, node, &mut counters),
                TAGS => all(reader, key, node, &mut tags),
                SEGMENTS => all(reader, key, node, &mut segments),
                name => match reader.enter(name, node) {
                    Some(expectation) => {
                        nodes.push((Name::of(key), expectation));
                        true
                    }
                    None => false,
                },
            };
        }
        sound.then(|| Self {
            nodes: nodes.into_iter().collect(),
            tags,
            segments,
            counters,
        })
    }
}

/// Reads the nodes under `key`; false if any is in error.
fn all<T: Read>(reader: &mut Reader<'_>, key: &Key, node: &Node, into: &mut Nodes<T>) -> bool {
    let Some(read) = reader.enter::<Nodes<T>>(&key.text, node) else {
        return false;
    };
    *into = read;
    into.names().count() == into.len()
}

impl Read for Expectation {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        if let Value::Scalar(scalar) = &node.value {
            if scalar.text == "empty" {
                return Some(Self {
                    at: node.at,
                    equals: Some(Vec::new()),
                    contains: None,
                    count: None,
                });
            }
            let names = unknown(&scalar.text, ["empty", "equals", "contains", "count"]);
            let message = format!("`{}` is nothing to expect{names}", scalar.text);
            reader.error(node.at, message);
            return None;
        }
        if let Value::List(_) = &node.value {
            reader
                .error(node.at, "expected a map, got a list".to_owned())
                .help("say how the rows are compared: `{equals: […]}` or `{contains: […]}`");
            return None;
        }
        let mut fields = reader.fields(node)?;
        let equals = fields.optional(reader, "equals");
        let contains = fields.optional(reader, "contains");
        let count = fields.optional(reader, "count");
        fields.finish(reader);
        let read = Self {
            at: node.at,
            equals: equals?,
            contains: contains?,
            count: count?,
        };
        if read.equals.is_none() && read.contains.is_none() && read.count.is_none() {
            let place = reader.place();
            let message = format!("missing one of `equals`, `contains`, `count`{place}");
            reader.error(node.at, message).help("or write `empty`");
            return None;
        }
        Some(read)
    }
}

/// The schema of a list of rows, each of any of `types`.
pub(super) fn rows_schema(types: &[&str]) -> Schema {
    json_schema!({"type": "array", "items": {"type": types}})
}

/// The schema of `expect`.
pub(super) fn expect_schema() -> Schema {
    let rows = rows_schema(&["object"]);
    json_schema!({
        "description": "What must have come out since the last look, by source, step, query, \
            sink, `dead_letters` and `late`; `tags`, `segments` and `counters`.",
        "type": "object",
        "properties": {
            COUNTERS: {
                "description": "What became of all rows since the beginning.",
                "type": "object",
                "additionalProperties": {"type": "integer", "minimum": 0},
            },
            TAGS: {
                "description": "The tags of keys by all that has happened so far.",
                "type": "object",
                "additionalProperties": {"type": "object"},
            },
            SEGMENTS: {
                "description": "Exactly who is in a segment.",
                "type": "object",
                "additionalProperties": {"type": "array", "items": {"type": "string"}},
            },
        },
        "additionalProperties": {
            "anyOf": [
                {"type": "string", "enum": ["empty"]},
                {
                    "type": "object",
                    "properties": {
                        "equals": {
                            "description": "Exactly these rows, in any order; a column that is \
                                left out is null.",
                            "anyOf": [rows],
                        },
                        "contains": {
                            "description": "Rows of which each has these values, among others.",
                            "anyOf": [rows],
                        },
                        "count": {
                            "description": "How many rows.",
                            "type": "integer",
                            "minimum": 0,
                        },
                    },
                    "minProperties": 1,
                    "additionalProperties": false,
                },
            ],
        },
    })
}
