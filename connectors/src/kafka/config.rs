//! The configuration of a Kafka source.

use std::{borrow::Cow, collections::BTreeMap, time::Duration};

use rdkafka::ClientConfig;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;
use tagflow_config::{Choice, Name, Nodes, Position, Read, Reader, Secret, Setting, yaml::Node};

use super::properties::{self, Side};

/// Topics of a Kafka cluster, all read by one consumer.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields, rename = "KafkaSource")]
pub struct KafkaConfig {
    /// Bootstrap brokers: `host:port`, several separated by commas.
    pub brokers: Setting<String>,
    /// The topics, at least one.
    #[schemars(length(min = 1))]
    pub topics: Vec<Setting<String>>,
    /// The start of a partition without a position in the commit log: its `earliest` or `latest`
    /// row, or the position that the consumer group has `committed` (otherwise the earliest).
    #[schemars(extend("default" = "earliest"))]
    pub start: Setting<StartAt>,
    /// The consumer group to report positions to, for lag tools. Default: `tagflow-` and the
    /// pipeline's name.
    pub group_id: Option<Setting<String>>,
    /// The reaction to rows that the cluster deleted before they were read, and to a topic that was
    /// recreated: `fail` stops the pipeline, `record` counts them and continues.
    #[schemars(extend("default" = "fail"))]
    pub on_data_loss: Setting<OnDataLoss>,
    /// Properties of librdkafka, such as `security.protocol`. Properties that Tagflow's guarantees
    /// depend on cannot be set. Read passwords from the environment or a file: `${env:X}`,
    /// `${file:path}`.
    #[schemars(extend("default" = serde_json::json!({})))]
    pub properties: Properties,
    /// The limit of buffered bytes between the consumer and the engine.
    #[serde(skip)]
    pub queue_bytes: usize,
    /// How often to check for new partitions of the topics.
    #[serde(skip)]
    pub discovery_interval: Duration,
    /// The longest row that is fetched together with others. A longer one, up to four times this
    /// size and 100 MB at least, still arrives alone: it becomes a dead letter and does not stop
    /// the source.
    #[serde(skip)]
    pub max_row_bytes: usize,
    /// How long a topic may be unknown to the cluster before that is an error. A new topic takes a
    /// moment to be known everywhere.
    #[serde(skip)]
    pub topic_wait: Duration,
}

/// Where to start in a topic that the pipeline has never read. Partitions that are added later are
/// read from their beginning.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum StartAt {
    /// At the oldest remaining row.
    #[default]
    Earliest,
    /// After the newest row.
    Latest,
    /// At the committed offset of the consumer group, and at the oldest row in partitions without
    /// one.
    Committed,
}

impl Choice for StartAt {
    const EXPECTED: &'static str = "`earliest`, `latest` or `committed`";
    const NAMES: &'static [(&'static str, Self)] = &[
        ("earliest", Self::Earliest),
        ("latest", Self::Latest),
        ("committed", Self::Committed),
    ];
}

/// The reaction to rows that the broker deleted before they were read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnDataLoss {
    /// Stop with an error that names the lost rows.
    #[default]
    Fail,
    /// Record the loss, and continue with the oldest remaining row.
    Record,
}

impl Choice for OnDataLoss {
    const EXPECTED: &'static str = "`fail` or `record`";
    const NAMES: &'static [(&'static str, Self)] =
        &[("fail", Self::Fail), ("record", Self::Record)];
}

impl Read for KafkaConfig {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let mut fields = reader.fields(node)?;
        let brokers = fields.required(reader, "brokers");
        let topics = fields.required(reader, "topics");
        let start = fields.or(reader, "start", StartAt::default());
        let group_id = fields.optional(reader, "group_id");
        let on_data_loss = fields.or(reader, "on_data_loss", OnDataLoss::default());
        let properties = fields.optional::<Properties>(reader, "properties");
        fields.finish(reader);
        Some(Self {
            start: start?,
            group_id: group_id?,
            on_data_loss: on_data_loss?,
            properties: properties?.unwrap_or_default(),
            ..Self::of(brokers?, topics?)
        })
    }
}

impl KafkaConfig {
    /// The default configuration for `topics` on `brokers`.
    pub fn new(
        brokers: impl Into<String>,
        topics: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        let topics = topics.into_iter().map(|topic| topic.into().into());
        Self::of(brokers.into().into(), topics.collect())
    }

    fn of(brokers: Setting<String>, topics: Vec<Setting<String>>) -> Self {
        Self {
            brokers,
            topics,
            start: StartAt::default().into(),
            group_id: None,
            on_data_loss: OnDataLoss::default().into(),
            properties: Properties::default(),
            queue_bytes: 32 << 20,
            discovery_interval: Duration::from_secs(30),
            max_row_bytes: 1 << 20,
            topic_wait: Duration::from_secs(10),
        }
    }

    /// All errors of the configuration, each with its setting and its position. Touches no network.
    pub(super) fn problems(&self) -> Vec<(String, Position, String)> {
        let start = self.brokers.at();
        let mut problems = Vec::new();
        let mut problem = |path: &str, at: Position, message: String| {
            problems.push((path.to_owned(), at, message));
        };
        if let Some(message) = properties::check_brokers(&self.brokers) {
            problem("brokers", self.brokers.at(), message);
        }
        if self.topics.is_empty() {
            problem("topics", start, "at least one topic is needed".to_owned());
        }
        for (index, topic) in self.topics.iter().enumerate() {
            let path = format!("topics[{index}]");
            let before = &self.topics[..index];
            if let Err(message) = check_topic(topic) {
                problem(&path, topic.at(), message);
            } else if before.iter().any(|other| other.value() == topic.value()) {
                let message = format!("topic `{}` is listed twice", topic.value());
                problem(&path, topic.at(), message);
            }
        }
        if let Some(group) = self.group_id.as_ref().filter(|group| group.is_empty()) {
            let message = "a group id cannot be empty".to_owned();
            problem("group_id", group.at(), message);
        }
        if self.queue_bytes < MIN_QUEUE_BYTES {
            let message = format!("at least {MIN_QUEUE_BYTES} bytes are needed");
            problem("queue_bytes", start, message);
        }
        if self.max_row_bytes == 0 || self.max_row_bytes > MAX_ROW_BYTES {
            let message = format!("must be between 1 and {MAX_ROW_BYTES} bytes");
            problem("max_row_bytes", start, message);
        }
        let intervals = Duration::from_millis(100)..=Duration::from_hours(1);
        if !intervals.contains(&self.discovery_interval) {
            let message = "must be between 100 ms and 1 hour".to_owned();
            problem("discovery_interval", start, message);
        }
        for (name, message) in properties::check(Side::Consumer, &self.properties.values()) {
            let named = self.properties.iter().find(|(it, _)| ***it == *name);
            let at = named.map_or(start, |(name, _)| name.at());
            problem(&format!("properties.{name}"), at, message);
        }
        problems
    }

    /// The client's configuration. The properties that Tagflow requires are set last, so that no
    /// user property overrides them.
    pub(super) fn client(&self, group_id: &str) -> ClientConfig {
        let per_topic = self.queue_bytes / self.topics.len().max(1);
        let mut client = ClientConfig::new();
        client
            .set(
                "fetch.message.max.bytes",
                self.max_row_bytes.max(1 << 20).to_string(),
            )
            .set("fetch.wait.max.ms", "100")
            // After its queue was full, the client pauses fetching for this long. The default is a
            // second, in which the engine empties the queue many times.
            .set("fetch.queue.backoff.ms", "20")
            .set(
                "queued.max.messages.kbytes",
                (per_topic >> 10).max(1024).to_string(),
            )
            .set(
                "receive.message.max.bytes",
                self.max_row_bytes
                    .saturating_mul(4)
                    .max(100_000_000)
                    .to_string(),
            )
            .set("reconnect.backoff.max.ms", "2000");
        for (name, value) in self.properties.iter() {
            client.set(&**name, value.expose());
        }
        client
            .set("bootstrap.servers", self.brokers.as_str())
            .set("group.id", group_id)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "error")
            .set("check.crcs", "true")
            .set("isolation.level", "read_committed")
            .set("enable.partition.eof", "true")
            .set("allow.auto.create.topics", "false")
            // Every second report of statistics confirms ends.
            .set("statistics.interval.ms", "500")
            .set(
                "topic.metadata.refresh.interval.ms",
                self.discovery_interval.as_millis().to_string(),
            );
        client
    }
}

const MIN_QUEUE_BYTES: usize = 64 << 10;
const MAX_ROW_BYTES: usize = 256 << 20;

/// Properties of librdkafka, by name.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(transparent)]
pub struct Properties(Nodes<Secret>);

impl Properties {
    /// The properties with the given values.
    pub fn of(values: &BTreeMap<String, String>) -> Self {
        let entries = values.iter().map(|(name, value)| {
            let value = Secret::new(name, value.clone());
            (Name::new(name), value)
        });
        Self(entries.collect())
    }

    fn values(&self) -> BTreeMap<String, String> {
        let values = self.0.iter();
        values
            .map(|(name, value)| (name.to_string(), value.expose().to_owned()))
            .collect()
    }

    /// Each property's name and value, in the file's order.
    pub fn iter(&self) -> impl Iterator<Item = (&Name, &Secret)> {
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

/// Kafka's rule for topic names.
fn check_topic(topic: &str) -> Result<(), String> {
    if topic.is_empty() {
        return Err("a topic's name cannot be empty".to_owned());
    }
    let legal = topic
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'));
    if !legal || topic.len() > 249 || topic == "." || topic == ".." {
        return Err(format!(
            "`{topic}` cannot be a topic's name: up to 249 letters, digits, `.`, `_` and `-` \
             (patterns are not supported)"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(change: impl FnOnce(&mut KafkaConfig)) -> Vec<String> {
        let mut config = KafkaConfig::new("localhost:9092", ["events"]);
        change(&mut config);
        let problems = config.problems().into_iter();
        problems
            .map(|(path, _, message)| format!("{path}: {message}"))
            .collect()
    }

    fn property(name: &str, value: &str) -> Properties {
        Properties::of(&BTreeMap::from([(name.to_owned(), value.to_owned())]))
    }

    #[test]
    fn the_default_is_right() {
        assert_eq!(problems(|_| ()), Vec::<String>::new());
    }

    #[test]
    fn all_problems_are_found_at_once() {
        let found = problems(|config| {
            config.brokers = " ".into();
            config.topics = vec!["a".into(), "a".into(), "^b.*".into(), "".into()];
            config.group_id = Some(String::new().into());
            config.queue_bytes = 1;
            config.max_row_bytes = 0;
            config.discovery_interval = Duration::ZERO;
            config.properties = property("enable.auto.commit", "true");
        });
        let paths: Vec<_> = found
            .iter()
            .filter_map(|line| line.split(':').next())
            .collect();
        assert_eq!(
            paths,
            [
                "brokers",
                "topics[1]",
                "topics[2]",
                "topics[3]",
                "group_id",
                "queue_bytes",
                "max_row_bytes",
                "discovery_interval",
                "properties.enable.auto.commit",
            ]
        );
    }

    #[test]
    fn secrets_do_not_print() {
        let mut config = KafkaConfig::new("localhost:9092", ["events"]);
        config.properties = property("sasl.password", "hunter2");
        let shown = format!("{config:?}");
        assert!(
            shown.contains("sasl.password") && !shown.contains("hunter2"),
            "{shown}"
        );
    }

    #[test]
    fn the_client_accepts_the_configuration() {
        let config = KafkaConfig::new("localhost:9092", ["events"]);
        config.client("group").create_native_config().unwrap();
    }
}
