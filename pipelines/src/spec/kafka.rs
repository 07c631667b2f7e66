//! `kafka`: topics of a Kafka cluster.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;
use tagflow_config::{Choice, Nodes, Read, Reader, Secret, Setting, yaml::Node};

/// Topics of a Kafka cluster, all read by one consumer.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct KafkaSource {
    /// Bootstrap brokers: `host:port`, several separated by commas.
    pub brokers: Setting<String>,
    /// The topics, at least one.
    #[schemars(length(min = 1))]
    pub topics: Vec<Setting<String>>,
    /// The start of a partition without a position in the commit log: its `earliest` or `latest`
    /// row, or the position that the consumer group has `committed` (otherwise the earliest).
    #[schemars(extend("default" = "earliest"))]
    pub start: Setting<Start>,
    /// The consumer group to report positions to, for lag tools. Default: `tagflow-` and the
    /// pipeline's name.
    pub group_id: Option<Setting<String>>,
    /// The reaction to rows that the cluster deleted before they were read: `fail` stops the
    /// pipeline, `record` counts them and continues.
    #[schemars(extend("default" = "fail"))]
    pub on_data_loss: Setting<OnDataLoss>,
    /// Properties of librdkafka, such as `security.protocol`. Properties that Tagflow's guarantees
    /// depend on cannot be set. Read passwords from the environment or a file: `${env:X}`,
    /// `${file:path}`.
    #[schemars(extend("default" = serde_json::json!({})))]
    pub properties: Properties,
}

/// The start of a partition without a committed position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// Its first row.
    Earliest,
    /// Its next new row.
    Latest,
    /// The committed position of the consumer group, otherwise its first row.
    Committed,
}

impl Choice for Start {
    const EXPECTED: &'static str = "`earliest`, `latest` or `committed`";
    const NAMES: &'static [(&'static str, Self)] = &[
        ("earliest", Self::Earliest),
        ("latest", Self::Latest),
        ("committed", Self::Committed),
    ];
}

/// The reaction to rows that were deleted before they were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnDataLoss {
    /// Stop the pipeline.
    Fail,
    /// Count the rows and continue.
    Record,
}

impl Choice for OnDataLoss {
    const EXPECTED: &'static str = "`fail` or `record`";
    const NAMES: &'static [(&'static str, Self)] =
        &[("fail", Self::Fail), ("record", Self::Record)];
}

impl Read for KafkaSource {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let mut fields = reader.fields(node)?;
        let brokers = fields.required(reader, "brokers");
        let topics = fields.required(reader, "topics");
        let start = fields.or(reader, "start", Start::Earliest);
        let group_id = fields.optional(reader, "group_id");
        let on_data_loss = fields.or(reader, "on_data_loss", OnDataLoss::Fail);
        let properties = fields.optional::<Properties>(reader, "properties");
        fields.finish(reader);
        Some(Self {
            brokers: brokers?,
            topics: topics?,
            start: start?,
            group_id: group_id?,
            on_data_loss: on_data_loss?,
            properties: properties?.unwrap_or_default(),
        })
    }
}

/// Properties of librdkafka, by name.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(transparent)]
pub struct Properties(Nodes<Secret>);

impl Properties {
    /// Each property's name and value, in the file's order.
    pub fn iter(&self) -> impl Iterator<Item = (&super::Name, &Secret)> {
        self.0.iter()
    }
}

impl Read for Properties {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        Nodes::read(node, reader).map(Self)
    }
}

impl JsonSchema for Properties {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Properties".into()
    }

    fn json_schema(_generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "additionalProperties": {"type": ["string", "number", "boolean"]},
        })
    }
}
