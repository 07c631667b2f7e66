//! Named things: sources, steps, queries, sinks, columns.

use std::{borrow::Cow, fmt, ops::Deref};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer, ser::SerializeMap};

use crate::{
    diagnostic::Position,
    read::{Read, Reader},
    yaml::{Key, Node},
};

/// A name in the file, with its position. Dereferences to its text.
#[derive(Clone, PartialEq, Eq)]
pub struct Name {
    text: String,
    at: Position,
}

impl Name {
    /// A name that no file contains.
    pub fn new(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            at: Position::START,
        }
    }

    /// The name as the key of an entry.
    pub fn of(key: &Key) -> Self {
        Self {
            text: key.text.clone(),
            at: key.at,
        }
    }

    /// Its position in the file.
    pub fn at(&self) -> Position {
        self.at
    }
}

impl Deref for Name {
    type Target = str;

    fn deref(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.fmt(f)
    }
}

/// Named things in the file's order.
#[derive(Debug, Clone)]
pub struct Nodes<T> {
    entries: Vec<(Name, T)>,
    unreadable: Vec<Name>,
    /// Whether the block is readable, so that its names are known.
    is_readable: bool,
}

impl<T> Default for Nodes<T> {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            unreadable: Vec::new(),
            is_readable: true,
        }
    }
}

impl<T> Nodes<T> {
    /// An unreadable block, which may contain any name.
    pub fn unreadable() -> Self {
        Self {
            is_readable: false,
            ..Self::default()
        }
    }

    /// Each name and its value.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&Name, &T)> + Clone {
        self.entries.iter().map(|(name, value)| (name, value))
    }

    /// The names, including those of unreadable values.
    pub fn names(&self) -> impl Iterator<Item = &Name> + Clone {
        let readable = self.entries.iter().map(|(name, _)| name);
        readable.chain(&self.unreadable)
    }

    /// The value of `name`.
    pub fn get(&self, name: &str) -> Option<&T> {
        let entry = self.entries.iter().find(|(found, _)| **found == *name);
        entry.map(|(_, value)| value)
    }

    /// Whether the file has a thing of this name that is in error and therefore missing here.
    pub fn is_unreadable(&self, name: &str) -> bool {
        !self.is_readable || self.unreadable.iter().any(|found| **found == *name)
    }

    /// The number of things.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl<T> FromIterator<(Name, T)> for Nodes<T> {
    fn from_iter<I: IntoIterator<Item = (Name, T)>>(entries: I) -> Self {
        Self {
            entries: entries.into_iter().collect(),
            unreadable: Vec::new(),
            is_readable: true,
        }
    }
}

/// Reads all readable nodes: an error in one hides no problem of another.
impl<T: Read> Read for Nodes<T> {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let mut nodes = Self::default();
        for (key, node) in reader.map(node, "a map of names")? {
            let name = Name::of(key);
            match reader.enter(&name, node) {
                Some(value) => nodes.entries.push((name, value)),
                None => nodes.unreadable.push(name),
            }
        }
        Some(nodes)
    }
}

impl<T: Serialize> Serialize for Nodes<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.len()))?;
        for (name, value) in self.iter() {
            map.serialize_entry(&**name, value)?;
        }
        map.end()
    }
}

/// Serializes as pairs of name and value, because the order matters.
pub fn in_order<T: Serialize, S: Serializer>(
    nodes: &Nodes<T>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(nodes.iter().map(|(name, value)| (&**name, value)))
}

impl<T: JsonSchema> JsonSchema for Nodes<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("Nodes_{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let values = generator.subschema_for::<T>();
        json_schema!({"type": "object", "additionalProperties": values})
    }
}
