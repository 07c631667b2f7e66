//! `params`: values that a run can override.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};
use tagflow_config::{
    Fields, Name, Reader,
    diagnostic::{Position, unknown},
    interpolate::{self, Variables},
    yaml::{Node, Value},
};

/// The params, each with its value for this run.
#[derive(Debug, Clone, Default)]
pub struct Params {
    entries: Vec<(Name, Param)>,
}

#[derive(Clone)]
struct Param {
    /// `None` if it is in error.
    value: Option<String>,
    /// The text to print and store: the value, or its reference.
    shown: String,
}

impl std::fmt::Debug for Param {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.shown.fmt(f)
    }
}

impl Params {
    /// Reads the block and lets later reads refer to it.
    pub(crate) fn read_with(
        fields: &mut Fields<'_>,
        reader: &mut Reader<'_>,
        set: &[(String, String)],
    ) -> Self {
        let mut params = Self::default();
        let mut at = Position::START;
        if let Some((key, node)) = fields.get("params") {
            at = key.at;
            let entries = reader.map(node, "a map of params").unwrap_or_default();
            for (key, node) in entries {
                let name = Name::of(key);
                let set = set.iter().rev().find(|(param, _)| *param == key.text);
                let param = match set {
                    Some((_, value)) => Param {
                        value: Some(value.clone()),
                        shown: value.clone(),
                    },
                    None => Param::read(&name, node, reader),
                };
                params.entries.push((name, param));
            }
        }
        for (name, _) in set {
            if !params.entries.iter().any(|(param, _)| **param == **name) {
                let names = unknown(name, params.entries.iter().map(|(name, _)| &**name));
                let message = format!("unknown param `{name}` in `--set`{names}");
                reader.diagnostics.error(at, "params", message);
            }
        }
        let known = params
            .entries
            .iter()
            .map(|(name, param)| (name.to_string(), param.value.clone()));
        reader.variables = Arc::new(Variables {
            params: interpolate::Params::Known(known.collect::<BTreeMap<_, _>>()),
            ..(*reader.variables).clone()
        });
        params
    }

    /// The names.
    pub fn names(&self) -> impl Iterator<Item = &Name> {
        self.entries.iter().map(|(name, _)| name)
    }
}

impl Param {
    fn read(name: &Name, node: &Node, reader: &mut Reader<'_>) -> Self {
        let mut param = Self {
            value: None,
            shown: String::new(),
        };
        let path = format!("params.{name}");
        match &node.value {
            _ if node.is_null() => {
                let message = format!("param `{name}` has no value");
                let help = format!("give it one in the file, or run with `--set {name}=…`");
                reader.diagnostics.error(node.at, path, message).help(help);
            }
            Value::Scalar(scalar) => {
                let resolved = reader.resolve(scalar, node.at);
                param.value = resolved.map(|resolved| resolved.text);
                param.shown.clone_from(&scalar.text);
            }
            _ => {
                let got = node.describe();
                let message = format!("expected a string, number or boolean, got {got}");
                reader.diagnostics.error(node.at, path, message);
            }
        }
        param
    }
}

impl Serialize for Params {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.entries.iter().map(|(name, it)| (&**name, &it.shown)))
    }
}

impl JsonSchema for Params {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Params".into()
    }

    fn json_schema(_generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "additionalProperties": {"type": ["string", "number", "boolean", "null"]},
        })
    }
}
