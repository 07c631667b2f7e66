//! YAML as a tree whose nodes know their positions.
//!
//! Deserializing straight into types stops at the first mistake. So the file becomes a tree first,
//! and the readers of each block walk it and collect all mistakes. Scalars follow YAML 1.2's
//! core schema: `yes`, `no`, `on` and `off` are strings.

mod align;
mod build;
mod flow;
mod scalar;
#[cfg(test)]
mod tests;

use crate::diagnostic::Position;

pub use build::parse;
pub use flow::NO_STRUCTS;
pub use scalar::{Kind, Scalar, Style};

/// A value and its position.
#[derive(Debug, Clone)]
pub struct Node {
    /// Its position in the file.
    pub at: Position,
    /// Its value.
    pub value: Value,
}

/// A scalar, a list or a map.
#[derive(Debug, Clone)]
pub enum Value {
    /// A single value.
    Scalar(Scalar),
    /// Values in order.
    List(Vec<Node>),
    /// In the file's order; keys are unique.
    Map(Vec<(Key, Node)>),
}

/// The key of a map's entry.
#[derive(Debug, Clone)]
pub struct Key {
    /// Its position in the file.
    pub at: Position,
    /// Its text.
    pub text: String,
}

impl Node {
    /// Whether it is empty: no value, `~` or `null`.
    pub fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar(scalar) if scalar.kind() == Kind::Null)
    }

    /// Its description, for "got …".
    pub fn describe(&self) -> String {
        match &self.value {
            Value::Scalar(scalar) => scalar.describe(),
            Value::List(_) => "a list".into(),
            Value::Map(_) => "a map".into(),
        }
    }
}
