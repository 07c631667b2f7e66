//! Values that must not be shown.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::{
    diagnostic::Position,
    read::{Read, Reader},
    yaml::{Node, Value},
};

/// The text that replaces a secret.
const HIDDEN: &str = "***";

/// Parts of a property's name that mark its value as secret.
const SECRET_NAMES: [&str; 6] = [
    "password",
    "secret",
    "key.pem",
    "token",
    "jaas",
    "sasl.oauthbearer.config",
];

/// A value that may be a secret, such as a Kafka password. `Debug`, `Display` and `Serialize` show
/// its reference, or a placeholder; only [`Secret::expose`] returns the value.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    value: String,
    shown: String,
    at: Position,
}

impl Secret {
    /// The value of the property `name`, which no file contains.
    pub fn new(name: &str, value: String) -> Self {
        let shown = if is_secret(name) {
            HIDDEN.to_owned()
        } else {
            value.clone()
        };
        Self {
            value,
            shown,
            at: Position::START,
        }
    }

    /// The value itself.
    pub fn expose(&self) -> &str {
        &self.value
    }

    /// Its position in the file.
    pub fn at(&self) -> Position {
        self.at
    }
}

fn is_secret(property: &str) -> bool {
    SECRET_NAMES.iter().any(|part| property.contains(part))
}

impl Read for Secret {
    /// Any scalar, because properties are text to librdkafka.
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let scalar = match &node.value {
            Value::Scalar(scalar) if !node.is_null() => scalar,
            _ => {
                reader.mismatch(node, "a string, number or boolean");
                return None;
            }
        };
        let resolved = reader.resolve(scalar, node.at)?;
        let property = reader.key().to_owned();
        let shown = if resolved.has_references {
            scalar.text.clone()
        } else if is_secret(&property) {
            reader
                .warning(
                    node.at,
                    format!("the secret `{property}` is written in the file"),
                )
                .help("take it from the environment or a file: `${env:X}`, `${file:path}`");
            HIDDEN.to_owned()
        } else {
            resolved.text.clone()
        };
        Some(Self {
            value: resolved.text,
            shown,
            at: node.at,
        })
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.shown)
    }
}
