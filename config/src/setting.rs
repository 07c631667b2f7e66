//! A single value of the file.

use std::{borrow::Cow, fmt, ops::Deref, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};

use crate::{
    diagnostic::Position,
    read::{Fields, Read, Reader},
    yaml::{Kind, Node, Value},
};

/// A value, its position in the file, and its text there.
///
/// It dereferences to the value. If the value is from a reference such as `${env:X}`, `Debug` and
/// `Serialize` show the reference. The content of a variable or a file is never printed or stored.
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

impl<T> From<T> for Setting<T> {
    /// A setting that no file contains.
    fn from(value: T) -> Self {
        Self::default_at(value, Position::START)
    }
}

impl From<&str> for Setting<String> {
    fn from(value: &str) -> Self {
        value.to_owned().into()
    }
}

impl<T> Setting<T> {
    /// The default value of a setting that the block at `at` lacks.
    pub fn default_at(value: T, at: Position) -> Self {
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

    /// Its position; for a default, the start of the block that lacks it.
    pub fn at(&self) -> Position {
        self.at
    }

    /// Whether the file omits it.
    pub fn is_default(&self) -> bool {
        self.origin == Origin::Default
    }

    /// The text in the file, if that is a reference.
    pub fn reference(&self) -> Option<&str> {
        match &self.origin {
            Origin::Reference(written) => Some(written),
            Origin::Default | Origin::Literal => None,
        }
    }
}

impl Setting<String> {
    /// The printable value: references instead of their values.
    pub fn shown(&self) -> &str {
        self.reference().unwrap_or(&self.value)
    }

    /// A default: this value with `suffix`.
    #[must_use]
    pub fn with_suffix(&self, suffix: &str) -> Self {
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

/// A type that can be read from a scalar.
pub trait Leaf: Sized {
    /// The expected value, for messages: ``a duration like `5s` ``.
    const EXPECTED: &'static str;

    /// Reads a scalar.
    fn parse(text: &str, kind: Kind) -> Result<Self, Mistake>;

    /// The value in the stored plan; reading it gives the same value.
    fn plan(&self) -> serde_json::Value;

    /// The schema of the scalar.
    fn schema() -> Schema;
}

/// Why a scalar cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mistake {
    /// It is not of the expected type.
    Type,
    /// It has the wrong type, and this is the correct notation.
    TypeWithHelp(String),
    /// It has this problem.
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
            // Values from references have no quotes, so any type fits.
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

impl Fields<'_> {
    /// A field with a default.
    pub fn or<T: Leaf>(
        &mut self,
        reader: &mut Reader<'_>,
        name: &'static str,
        default: T,
    ) -> Option<Setting<T>> {
        let found = self.optional(reader, name)?;
        Some(found.unwrap_or_else(|| Setting::default_at(default, self.at)))
    }

    /// The columns of a `key`, one at least.
    pub fn key(&mut self, reader: &mut Reader<'_>) -> Option<Vec<Setting<String>>> {
        let key: Vec<Setting<String>> = self.required(reader, "key")?;
        if key.is_empty() {
            let place = reader.place();
            reader.error(self.at, format!("`key` needs at least one column{place}"));
            return None;
        }
        Some(key)
    }

    /// A positive duration.
    pub fn positive(
        &mut self,
        reader: &mut Reader<'_>,
        name: &'static str,
    ) -> Option<Setting<Duration>> {
        let duration: Setting<Duration> = self.required(reader, name)?;
        if duration.is_zero() {
            reader.error(duration.at(), format!("`{name}` must be more than zero"));
            return None;
        }
        Some(duration)
    }

    /// A positive duration, if present.
    pub fn positive_or_none(
        &mut self,
        reader: &mut Reader<'_>,
        name: &'static str,
    ) -> Option<Option<Setting<Duration>>> {
        match self.get(name) {
            Some(_) => self.positive(reader, name).map(Some),
            None => Some(None),
        }
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

    /// A string of free text accepts references by itself.
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
