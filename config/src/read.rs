//! Reads the tree into types, and collects every mistake.

use std::sync::Arc;

use crate::{
    diagnostic::{Diagnostic, Diagnostics, Position, unknown},
    interpolate::{Resolved, Variables, resolve},
    yaml::{Key, Node, Scalar, Value},
};

/// A type that can be read from a node. `None` if it cannot, after reporting why.
pub trait Read: Sized {
    /// Reads `node`, and reports every mistake in it to `reader`.
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self>;
}

/// The state of reading.
pub struct Reader<'a> {
    /// The whole text of the file.
    pub text: &'a str,
    /// The targets of references.
    pub variables: Arc<Variables>,
    /// The problems so far.
    pub diagnostics: Diagnostics,
    path: Vec<String>,
}

impl<'a> Reader<'a> {
    /// A reader of the file `text`.
    pub fn new(text: &'a str, variables: Variables, diagnostics: Diagnostics) -> Self {
        Self {
            text,
            variables: Arc::new(variables),
            diagnostics,
            path: Vec::new(),
        }
    }

    /// Reads `node`, the value of `key`.
    pub fn enter<T: Read>(&mut self, key: &str, node: &Node) -> Option<T> {
        self.path.push(key.to_owned());
        let value = T::read(node, self);
        self.path.pop();
        value
    }

    /// Reports an error in the current field.
    pub fn error(&mut self, at: Position, message: impl Into<String>) -> &mut Diagnostic {
        self.diagnostics.error(at, self.path.join("."), message)
    }

    /// Reports a warning in the current field.
    pub fn warning(&mut self, at: Position, message: impl Into<String>) -> &mut Diagnostic {
        self.diagnostics.warning(at, self.path.join("."), message)
    }

    /// Reports that `node` is not the `expected` value.
    pub fn mismatch(&mut self, node: &Node, expected: &str) -> &mut Diagnostic {
        let got = node.describe();
        self.error(node.at, format!("expected {expected}, got {got}"))
    }

    /// The innermost current key.
    pub fn key(&self) -> &str {
        self.path.last().map_or("", String::as_str)
    }

    /// ` in …` for a message: the path without its block, which the name of a node implies. The
    /// items of a list have no names.
    pub fn place(&self) -> String {
        let path = match self.path.as_slice() {
            [_, index, ..] if index.parse::<usize>().is_ok() => &[],
            [_, inner @ ..] if !inner.is_empty() => inner,
            path => path,
        };
        if path.is_empty() {
            return String::new();
        }
        format!(" in `{}`", path.join("."))
    }

    /// The text of a scalar with its references resolved.
    pub fn resolve(&mut self, scalar: &Scalar, at: Position) -> Option<Resolved> {
        let problems = match resolve(&scalar.text, &self.variables) {
            Ok(resolved) => return Some(resolved),
            Err(problems) => problems,
        };
        let positions = scalar.positions(self.text, at);
        for problem in problems.into_iter().filter(|it| !it.message.is_empty()) {
            let at = positions.get(problem.index).copied().unwrap_or(at);
            self.error(at, problem.message).help = problem.help;
        }
        None
    }

    /// The entries of a map.
    pub fn map<'n>(&mut self, node: &'n Node, expected: &str) -> Option<&'n [(Key, Node)]> {
        let Value::Map(entries) = &node.value else {
            self.mismatch(node, expected);
            return None;
        };
        Some(entries)
    }

    /// The fields of a map with a fixed set of keys. Each is read by name, then [`Fields::finish`]
    /// reports the keys that were not read.
    pub fn fields<'n>(&mut self, node: &'n Node) -> Option<Fields<'n>> {
        let entries = self.map(node, "a map")?;
        Some(Fields {
            at: node.at,
            entries,
            known: Vec::new(),
            later: Vec::new(),
        })
    }
}

/// The fields of a map.
pub struct Fields<'n> {
    /// The position of the map.
    pub at: Position,
    entries: &'n [(Key, Node)],
    known: Vec<&'static str>,
    later: Vec<&'static str>,
}

impl<'n> Fields<'n> {
    /// The key and value of the field `name`, if it is there and not null.
    pub fn get(&mut self, name: &'static str) -> Option<&'n (Key, Node)> {
        self.known.push(name);
        self.entries
            .iter()
            .find(|(key, node)| key.text == name && !node.is_null())
    }

    /// A required field.
    pub fn required<T: Read>(&mut self, reader: &mut Reader<'_>, name: &'static str) -> Option<T> {
        let Some((_, node)) = self.get(name) else {
            let place = reader.place();
            reader.error(self.at, format!("missing key `{name}`{place}"));
            return None;
        };
        reader.enter(name, node)
    }

    /// An optional field: `Some(None)` if absent; `None` is a mistake.
    pub fn optional<T: Read>(
        &mut self,
        reader: &mut Reader<'_>,
        name: &'static str,
    ) -> Option<Option<T>> {
        match self.get(name) {
            Some((_, node)) => reader.enter(name, node).map(Some),
            None => Some(None),
        }
    }

    /// A field whose presence has a meaning: without a value it is a map without entries.
    pub fn settings<T: Read>(
        &mut self,
        reader: &mut Reader<'_>,
        name: &'static str,
    ) -> Option<Option<T>> {
        self.known.push(name);
        let Some((key, node)) = self.entries.iter().find(|(key, _)| key.text == name) else {
            return Some(None);
        };
        if !node.is_null() {
            return reader.enter(name, node).map(Some);
        }
        let value = Value::Map(Vec::new());
        reader.enter(name, &Node { at: key.at, value }).map(Some)
    }

    /// The only present one of `names`; none or several are a mistake.
    pub fn one_of(&self, reader: &mut Reader<'_>, names: &[&'static str]) -> Option<&'static str> {
        let is_there = |name: &str| self.entries.iter().find(|(key, _)| key.text == name);
        let there: Vec<_> = names
            .iter()
            .filter_map(|name| is_there(name).map(|(key, _)| (*name, key.at)))
            .collect();
        let place = reader.place();
        let names = names.join("`, `");
        match *there {
            [(name, _)] => Some(name),
            // The unknown key is the only mistake; `finish` reports it.
            [] if self.entries.iter().any(|(key, _)| is_elsewhere(&key.text)) => None,
            [] => {
                reader.error(self.at, format!("missing one of `{names}`{place}"));
                None
            }
            [_, (_, at), ..] => {
                reader.error(at, format!("only one of `{names}` can stand{place}"));
                None
            }
        }
    }

    /// A field that is designed but that this version does not support yet.
    pub fn later(&mut self, reader: &mut Reader<'_>, name: &'static str) {
        if let Some((key, _)) = self.entries.iter().find(|(key, _)| key.text == name) {
            self.later.push(name);
            reader.error(
                key.at,
                format!("`{name}` is not available in this version yet"),
            );
        }
    }

    /// Reports the unknown keys.
    pub fn finish(self, reader: &mut Reader<'_>) {
        for (key, _) in self.entries {
            let key_text = key.text.as_str();
            if self.known.contains(&key_text) || self.later.contains(&key_text) {
                continue;
            }
            let place = reader.place();
            let names = unknown(&key.text, self.known.iter().copied());
            let message = format!("unknown key `{}`{place}{names}", key.text);
            let diagnostic = reader.error(key.at, message);
            if key.text == "<<" {
                diagnostic.help("merge keys are not part of YAML 1.2; an alias `*name` is");
            } else if is_elsewhere(&key.text) {
                let help = format!("this version has no `{}` here", key.text);
                diagnostic.help(help);
            }
        }
    }
}

/// Whether other systems have a source, a format or a sink of this name.
fn is_elsewhere(name: &str) -> bool {
    const NAMES: [&str; 19] = [
        "avro",
        "protobuf",
        "orc",
        "kafka",
        "kinesis",
        "pulsar",
        "nats",
        "rabbitmq",
        "postgres",
        "mysql",
        "redis",
        "http",
        "webhook",
        "iceberg",
        "delta",
        "elasticsearch",
        "clickhouse",
        "s3",
        "xml",
    ];
    NAMES.contains(&name)
}

impl<T: Read> Read for Vec<T> {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let Value::List(items) = &node.value else {
            reader.mismatch(node, "a list");
            return None;
        };
        let read: Vec<Option<T>> = items
            .iter()
            .enumerate()
            .map(|(index, item)| reader.enter(&index.to_string(), item))
            .collect();
        read.into_iter().collect()
    }
}
