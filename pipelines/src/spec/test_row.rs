//! A row of a test.

use serde_json::{Map, Number, Value as Json};
use tagflow_config::{
    Leaf, Name, Read, Reader,
    diagnostic::Position,
    yaml::{Key, Kind, Node, Value},
};
use tagflow_engine::EventTime;

/// A row, with its position in the file.
#[derive(Debug, Clone)]
pub struct TestRow {
    /// Its position.
    pub at: Position,
    /// Its content.
    pub content: Content,
}

/// The content of a row.
#[derive(Debug, Clone)]
pub enum Content {
    /// Its columns and their values.
    Fields(Vec<(Name, Json)>),
    /// Its bytes, to be decoded as they are.
    Text(String),
}

impl TestRow {
    /// Its columns and their values; empty for a text.
    pub fn fields(&self) -> &[(Name, Json)] {
        match &self.content {
            Content::Fields(fields) => fields,
            Content::Text(_) => &[],
        }
    }

    /// The instant that `text` denotes in a row.
    pub fn instant(text: &str) -> Option<EventTime> {
        EventTime::parse(text, Kind::String).ok()
    }
}

impl Read for TestRow {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let content = match &node.value {
            Value::Scalar(scalar) => Content::Text(reader.resolve(scalar, node.at)?.text),
            Value::Map(entries) => {
                let field = |(key, node): &(Key, Node)| Some((Name::of(key), json(node, reader)?));
                Content::Fields(entries.iter().map(field).collect::<Option<_>>()?)
            }
            Value::List(_) => {
                reader.mismatch(node, "a row: a map of columns and values");
                return None;
            }
        };
        Some(Self {
            at: node.at,
            content,
        })
    }
}

/// A value as JSON.
fn json(node: &Node, reader: &mut Reader<'_>) -> Option<Json> {
    match &node.value {
        Value::List(items) => items.iter().map(|item| json(item, reader)).collect(),
        Value::Map(entries) => entries
            .iter()
            .map(|(key, node)| Some((key.text.clone(), json(node, reader)?)))
            .collect::<Option<Map<_, _>>>()
            .map(Json::Object),
        Value::Scalar(scalar) => {
            let text = reader.resolve(scalar, node.at)?.text;
            Some(match scalar.kind() {
                Kind::Null => Json::Null,
                Kind::Bool => Json::Bool(text.eq_ignore_ascii_case("true")),
                Kind::Integer | Kind::Float => match number(&text) {
                    Some(number) => Json::Number(number),
                    None => Json::String(text),
                },
                Kind::String => Json::String(text),
            })
        }
    }
}

fn number(text: &str) -> Option<Number> {
    let whole = text.parse::<i64>().map(Number::from);
    whole.map_or_else(|_| Number::from_f64(text.parse().ok()?), Some)
}
