use std::{collections::BTreeSet, env, fs, path::Path};

use serde_json::{Map, Value};

use super::*;
use tagflow_config::{
    diagnostic::Diagnostics,
    yaml::{self, Kind, Node},
};

use crate::spec::tests::everything::EVERYTHING;

/// `UPDATE_SCHEMA=1 cargo test -p tagflow-pipelines json_schema` rewrites it.
#[test]
fn the_checked_in_schema_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../schemas/json/pipeline.schema.json");
    if env::var_os("UPDATE_SCHEMA").is_some() {
        fs::write(&path, json_schema()).unwrap();
    }
    let checked_in = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        checked_in == json_schema(),
        "schemas/json/pipeline.schema.json is old; run with UPDATE_SCHEMA=1"
    );
}

fn schema() -> Value {
    serde_json::from_str(&json_schema()).unwrap()
}

/// The tree as JSON.
fn value(node: &Node) -> Value {
    match &node.value {
        yaml::Value::Map(entries) => {
            let entries = entries.iter();
            let fields: Map<_, _> = entries
                .map(|(key, node)| (key.text.clone(), value(node)))
                .collect();
            Value::Object(fields)
        }
        yaml::Value::List(items) => items.iter().map(value).collect(),
        yaml::Value::Scalar(scalar) => match scalar.kind() {
            Kind::String => Value::String(scalar.text.clone()),
            _ => serde_json::from_str(&scalar.text).unwrap(),
        },
    }
}

/// Walks a file along the schema and records its properties.
struct Walk<'s> {
    schema: &'s Value,
    used: BTreeSet<String>,
    unknown: Vec<String>,
}

impl Walk<'_> {
    fn walk(&mut self, place: &str, schema: &Value, value: &Value) {
        if let Some(reference) = schema["$ref"].as_str() {
            let pointer = reference.trim_start_matches('#');
            let schema = self.schema.pointer(pointer).unwrap().clone();
            return self.walk(pointer, &schema, value);
        }
        for key in ["anyOf", "allOf", "oneOf"] {
            for (index, schema) in schema[key].as_array().into_iter().flatten().enumerate() {
                let is_object = schema["type"] == "object" || schema.get("$ref").is_some();
                let required = schema["required"].as_array().into_iter().flatten();
                let has = |name: &Value| value.get(name.as_str().unwrap()).is_some();
                if is_object == value.is_object() && required.into_iter().all(has) {
                    self.walk(&format!("{place}/{key}/{index}"), schema, value);
                }
            }
        }
        for item in value.as_array().into_iter().flatten() {
            self.walk(&format!("{place}/items"), &schema["items"], item);
        }
        let Some(fields) = value.as_object() else {
            return;
        };
        for (name, value) in fields {
            let property = format!("{place}/properties/{name}");
            if let Some(schema) = schema["properties"].get(name) {
                self.used.insert(property.clone());
                self.walk(&property, schema, value);
            } else if schema["additionalProperties"].is_object() {
                self.walk(
                    &format!("{place}/*"),
                    &schema["additionalProperties"],
                    value,
                );
            } else if schema["additionalProperties"] == false {
                self.unknown.push(property);
            }
        }
    }
}

/// The places of all properties in the schema.
fn properties(place: &str, schema: &Value, found: &mut BTreeSet<String>) {
    let Value::Object(fields) = schema else {
        for (index, schema) in schema.as_array().into_iter().flatten().enumerate() {
            properties(&format!("{place}/{index}"), schema, found);
        }
        return;
    };
    for (key, schema) in fields {
        if key == "properties" {
            for (name, schema) in schema.as_object().unwrap() {
                let property = format!("{place}/properties/{name}");
                properties(&property, schema, found);
                found.insert(property);
            }
        } else if key == "additionalProperties" {
            properties(&format!("{place}/*"), schema, found);
        } else if key != "default" && key != "examples" {
            properties(&format!("{place}/{key}"), schema, found);
        }
    }
}

/// The reader reads `EVERYTHING` (its own test), so the schema and the reader have the same keys.
#[test]
fn the_schema_knows_what_is_read_and_nothing_else() {
    let schema = schema();
    let mut diagnostics = Diagnostics::new("everything.yaml");
    let root = yaml::parse(EVERYTHING, &mut diagnostics).unwrap();
    let mut walk = Walk {
        schema: &schema,
        used: BTreeSet::new(),
        unknown: Vec::new(),
    };
    walk.walk("", &schema, &value(&root));
    assert_eq!(walk.unknown, [""; 0]);
    let mut known = BTreeSet::new();
    properties("", &schema, &mut known);
    let unused: Vec<_> = known.difference(&walk.used).collect();
    assert!(unused.is_empty(), "{unused:#?}");
    assert!(known.len() > 60, "{}", known.len());
}

#[test]
fn what_has_a_default_is_not_required() {
    let schema = schema();
    assert_eq!(
        schema["required"],
        serde_json::json!(["name", "sources", "sinks"])
    );
    assert_eq!(
        schema["definitions"]["Time"]["required"],
        serde_json::json!(["event_time"])
    );
    assert_eq!(schema["definitions"]["Admin"].get("required"), None);
}

#[test]
fn every_property_is_described() {
    let schema = schema();
    let mut known = BTreeSet::new();
    properties("", &schema, &mut known);
    for place in known {
        let property = schema
            .pointer(&place.replace("/*", "/additionalProperties"))
            .unwrap();
        let target = property["$ref"]
            .as_str()
            .map_or("", |it| it.trim_start_matches('#'));
        let described = if target.is_empty() {
            property
        } else {
            schema.pointer(target).unwrap()
        };
        assert!(
            described.get("description").is_some(),
            "{place}: {property}"
        );
    }
}
