//! One entry of `define`.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;

use super::{AbsenceTag, AggregateTag, FunnelTag, ScoreTag, TimeSinceTag, TopKTag};
use tagflow_config::{Read, Reader, yaml::Node};

/// The kind of a tag: exactly one of these.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub enum TagDefinition {
    /// `agg`: an aggregate of events.
    Aggregate(AggregateTag),
    /// `time_since`: the age of another tag's time.
    TimeSince(TimeSinceTag),
    /// `top_k`: the items with the highest weight.
    TopK(TopKTag),
    /// `funnel`: the furthest step reached in order.
    Funnel(FunnelTag),
    /// `absence`: whether an event did not follow in time.
    Absence(AbsenceTag),
    /// `score`: a small number for another tag's value.
    Score(ScoreTag),
}

/// The key that selects the kind.
const KINDS: [&str; 6] = ["agg", "time_since", "top_k", "funnel", "absence", "score"];

impl TagDefinition {
    /// The columns of the tag `name`: with windows one each, `<name>_<window>`.
    pub fn outputs(&self, name: &str) -> Vec<String> {
        match self {
            Self::Aggregate(AggregateTag {
                windows: Some(windows),
                ..
            }) => {
                let windows = windows.iter();
                windows
                    .map(|window| format!("{name}_{}", window.text()))
                    .collect()
            }
            _ => vec![name.to_owned()],
        }
    }
}

impl Read for TagDefinition {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let kind = reader.fields(node)?.one_of(reader, &KINDS)?;
        match kind {
            "agg" => Read::read(node, reader).map(Self::Aggregate),
            "time_since" => Read::read(node, reader).map(Self::TimeSince),
            "top_k" => Read::read(node, reader).map(Self::TopK),
            "funnel" => Read::read(node, reader).map(Self::Funnel),
            "absence" => Read::read(node, reader).map(Self::Absence),
            _ => Read::read(node, reader).map(Self::Score),
        }
    }
}

impl JsonSchema for TagDefinition {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "TagDefinition".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let schemas = [
            generator.subschema_for::<AggregateTag>(),
            generator.subschema_for::<TimeSinceTag>(),
            generator.subschema_for::<TopKTag>(),
            generator.subschema_for::<FunnelTag>(),
            generator.subschema_for::<AbsenceTag>(),
            generator.subschema_for::<ScoreTag>(),
        ];
        let schemas = KINDS.iter().zip(schemas).map(|(kind, mut schema)| {
            schema.insert("type".to_owned(), "object".into());
            schema.insert("required".to_owned(), serde_json::json!([kind]));
            schema
        });
        json_schema!({"oneOf": schemas.collect::<Vec<_>>()})
    }
}
