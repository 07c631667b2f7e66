//! A single value of the file.

use std::{borrow::Cow, fmt, ops::Deref};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};

use super::read::{Read, Reader};
use crate::{
    diagnostic::Position,
    yaml::{Kind, Node, Value},
};

/// A value, where it stands in the file, and how it is written there.
///
/// It dereferences to the value. Where the value came through a reference such
/// as `${env:X}`, `Debug` and `Serialize` show the reference: what a variable or
/// a file held is never printed or stored.
#[derive(Clone, PartialEq, Eq)]
pub struct Setting<T> {
    value: T,
    at: Position,
    origin: Origin,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Origin {
    Default,
    Literal,
    Reference(String),
}

impl<T> Setting<T> {
    /// The default value of something absent in the block at `at`.
    pub(crate) fn default_at(value: T, at: Position) -> Self {
        Self {
            value,
            at,
            origin: Origin::Default,
        }
    }

    /// The value.
    pub fn value(&self) -> &T {
        &self.value
    }

    /// Where it stands; for a default, where the block begins that lacks it.
    pub fn at(&self) -> Position {
        self.at
    }

    /// Whether the file does not say it.
    pub fn is_default(&self) -> bool {
        self.origin == Origin::Default
    }

    /// What the file says, where that is a reference.
    pub fn reference(&self) -> Option<&str> {
        match &self.origin {
            Origin::Reference(written) => Some(written),
            Origin::Default | Origin::Literal => None,
        }
    }
}

impl Setting<String> {
    /// The value as it may be printed: with references instead of what they
    /// stand for.
    pub fn shown(&self) -> &str {
        self.reference().unwrap_or(&self.value)
    }

    /// A default that is this value with `suffix`.
    pub(crate) fn with_suffix(&self, suffix: &str) -> Self {
        let append = |text: &str| format!("{}{suffix}", text.trim_end_matches('/'));
        Self {
            value: append(&self.value),
            at: self.at,
            origin: match &self.origin {
                Origin::Reference(written) => Origin::Reference(append(written)),
                Origin::Default | Origin::Literal => Origin::Default,
            },
        }
    }
}

impl<T> Deref for Setting<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: fmt::Debug> fmt::Debug for Setting<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reference() {
            Some(written) => f.write_str(written),
            None => self.value.fmt(f),
        }
    }
}

/// A type that a scalar can be read as.
pub(crate) trait Leaf: Sized {
    /// What is expected, for messages: ``a duration like `5s` ``.
    const EXPECTED: &'static str;

    /// Reads a scalar.
    fn parse(text: &str, kind: Kind) -> Result<Self, Mistake>;

    /// The value in the stored plan; reads back as the same value.
    fn plan(&self) -> serde_json::Value;

    /// The schema of the scalar.
    fn schema() -> Schema;
}

/// Why a scalar cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Mistake {
    /// It is not of the expected type.
    Type,
    /// It is not, and this is what to write.
    TypeWithHelp(String),
    /// This is wrong with it.
    Message(String),
}

impl<T: Leaf> Read for Setting<T> {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let Value::Scalar(scalar) = &node.value else {
            reader.mismatch(node, T::EXPECTED);
            return None;
        };
        let resolved = reader.resolve(scalar, node.at)?;
        let text = &resolved.text;
        let parsed = if resolved.has_references {
            // What comes from elsewhere has no quotes: it is what it must be.
            T::parse(text, Kind::String).or_else(|_| T::parse(text, Kind::of_plain(text)))
        } else {
            T::parse(text, scalar.kind())
        };
        let mistake = match parsed {
            Ok(value) => {
                let origin = if scalar.text.contains("${") {
                    Origin::Reference(scalar.text.clone())
                } else {
                    Origin::Literal
                };
                return Some(Self {
                    value,
                    at: node.at,
                    origin,
                });
            }
            Err(mistake) => mistake,
        };
        if resolved.has_references {
            let message = format!("the value of `{}` is not {}", scalar.text, T::EXPECTED);
            reader.error(node.at, message);
            return None;
        }
        match mistake {
            Mistake::Type => {
                reader.mismatch(node, T::EXPECTED);
            }
            Mistake::TypeWithHelp(help) => reader.mismatch(node, T::EXPECTED).help(help),
            Mistake::Message(message) => {
                reader.error(node.at, message);
            }
        }
        None
    }
}

impl<T: Leaf> Serialize for Setting<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.reference() {
            Some(written) => serializer.serialize_str(written),
            None => self.value.plan().serialize(serializer),
        }
    }
}

impl<T: Leaf> JsonSchema for Setting<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Setting".into()
    }

    /// A string that is nothing but free text takes references by itself.
    fn json_schema(_generator: &mut SchemaGenerator) -> Schema {
        let schema = T::schema();
        let is_free_text = schema.get("type").is_some_and(|it| it == "string")
            && schema.get("pattern").is_none()
            && schema.get("enum").is_none();
        if is_free_text {
            return schema;
        }
        let reference = json_schema!({"type": "string", "pattern": r"\$\{"});
        json_schema!({"anyOf": [schema, reference]})
    }
}
