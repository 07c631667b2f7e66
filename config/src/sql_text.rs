//! SQL in the file, with a map from its positions to the file's.

use std::{borrow::Cow, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};

use crate::{
    diagnostic::Position,
    read::{Read, Reader},
    yaml::{Node, Value},
};

/// SQL: an expression, a condition, a select item or a query.
#[derive(Clone, PartialEq, Eq)]
pub struct SqlText {
    text: String,
    written: String,
    /// The position of each character of `text`, and of its end.
    positions: Vec<Position>,
}

impl SqlText {
    /// The SQL with its references resolved.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Its first position in the file.
    pub fn at(&self) -> Position {
        self.positions.first().copied().unwrap_or(Position::START)
    }

    /// The position in the file of a position in the SQL. The latter is as in SQL parsers: line and
    /// column from 1, columns in characters. A position past a line's end is the line's end.
    pub fn position(&self, line: u64, column: u64) -> Position {
        let mut place = (1, 1);
        for (character, position) in self.text.chars().zip(&self.positions) {
            if place.0 == line && (place.1 == column || character == '\n') {
                return *position;
            }
            if character == '\n' {
                place = (place.0 + 1, 1);
            } else {
                place.1 += 1;
            }
        }
        self.positions.last().copied().unwrap_or(Position::START)
    }

    /// The position in the file of the byte at `offset` of the SQL.
    pub fn position_of_byte(&self, offset: usize) -> Position {
        let characters = self.text.char_indices().take_while(|(at, _)| *at < offset);
        let index = characters.count().min(self.positions.len() - 1);
        self.positions[index]
    }
}

impl Read for SqlText {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let Value::Scalar(scalar) = &node.value else {
            reader.mismatch(node, "SQL");
            return None;
        };
        let resolved = reader.resolve(scalar, node.at)?;
        let in_file = scalar.positions(reader.text, node.at);
        let position = |index: usize| in_file.get(index).copied().unwrap_or(node.at);
        if let Some(index) = resolved.file {
            // SQL is printed and stored, and the content of a file may be a secret.
            reader
                .error(position(index), "SQL cannot hold `${file:…}`")
                .help("take a param: `${params.name}`");
            return None;
        }
        if resolved.text.trim().is_empty() {
            reader.mismatch(node, "SQL");
            return None;
        }
        let mut positions: Vec<_> = resolved.origins.iter().map(|it| position(*it)).collect();
        positions.push(position(in_file.len() - 1));
        Some(Self {
            text: resolved.text,
            written: scalar.text.clone(),
            positions,
        })
    }
}

impl fmt::Debug for SqlText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.written.fmt(f)
    }
}

impl Serialize for SqlText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.written)
    }
}

impl JsonSchema for SqlText {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "SqlText".into()
    }

    fn json_schema(_generator: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string"})
    }
}
