//! The JSON Schema of the pipeline file, for editors.

#[cfg(test)]
mod tests;

use schemars::{
    Schema, SchemaGenerator,
    generate::SchemaSettings,
    transform::{Transform, transform_subschemas},
};
use serde_json::Value;
use tagflow_config::stable_json::canonical;

use crate::spec::Spec;

/// The schema, as `schemas/json/pipeline.schema.json` contains it.
pub fn json_schema() -> String {
    let settings = SchemaSettings::draft07();
    let mut schema = SchemaGenerator::new(settings).into_root_schema_for::<Spec>();
    DefaultsAreOptional.transform(&mut schema);
    canonical(schema.to_value())
}

/// Makes settings with a default optional. The types cannot express it, because a parsed spec has
/// every setting.
struct DefaultsAreOptional;

impl Transform for DefaultsAreOptional {
    fn transform(&mut self, schema: &mut Schema) {
        transform_subschemas(self, schema);
        let Some(Value::Object(properties)) = schema.get("properties").cloned() else {
            return;
        };
        let Some(Value::Array(required)) = schema.get_mut("required") else {
            return;
        };
        required.retain(|name| {
            let property = name.as_str().and_then(|name| properties.get(name));
            property.is_none_or(|property| property.get("default").is_none())
        });
        if required.is_empty() {
            schema.remove("required");
        }
    }
}
