//! The configuration of a Kafka source.

use std::{collections::BTreeMap, fmt, time::Duration};

use rdkafka::ClientConfig;

use super::properties::{self, Properties};

/// A Kafka source.
///
/// `Debug` shows the names of the client properties and never their values, because some are
/// secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct KafkaConfig {
    /// The brokers: `host:port`, several separated by commas.
    pub brokers: String,
    /// The topics to read, by name.
    pub topics: Vec<String>,
    /// Where to start in a topic that the pipeline has never read. Partitions that are added later
    /// are read from their beginning.
    pub start: StartAt,
    /// The consumer group that receives the offsets for lag tools, and that [`StartAt::Committed`]
    /// starts from; `tagflow-<pipeline>` if `None`.
    pub group_id: Option<String>,
    /// The reaction to rows that the broker deleted before they were read.
    pub on_data_loss: OnDataLoss,
    /// Properties for librdkafka, by their names there.
    pub properties: BTreeMap<String, String>,
    /// The limit of buffered bytes between the consumer and the engine.
    pub queue_bytes: usize,
    /// How often to check for new partitions of the topics.
    pub discovery_interval: Duration,
    /// The longest row that is fetched together with others. A longer one, up to four times this
    /// size and 100 MB at least, still arrives alone: it becomes a dead letter and does not stop
    /// the source.
    pub max_row_bytes: usize,
    /// How long a topic may be unknown to the cluster before that is an error. A new topic takes a
    /// moment to be known everywhere.
    pub topic_wait: Duration,
}

/// Where to start in a topic that the pipeline has never read.
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

/// The reaction to rows that the broker deleted before they were read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnDataLoss {
    /// Stop with an error that names the lost rows.
    #[default]
    Fail,
    /// Record the loss, and continue with the oldest remaining row.
    Record,
}

impl KafkaConfig {
    /// The default configuration for `topics` on `brokers`.
    pub fn new(
        brokers: impl Into<String>,
        topics: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        Self {
            brokers: brokers.into(),
            topics: topics.into_iter().map(Into::into).collect(),
            start: StartAt::default(),
            group_id: None,
            on_data_loss: OnDataLoss::default(),
            properties: BTreeMap::new(),
            queue_bytes: 32 << 20,
            discovery_interval: Duration::from_secs(30),
            max_row_bytes: 1 << 20,
            topic_wait: Duration::from_secs(10),
        }
    }

    /// All errors of the configuration, each with the path of the setting. Touches no network.
    pub fn check(&self) -> Vec<(String, String)> {
        let mut problems = Vec::new();
        let mut problem = |path: &str, message: String| problems.push((path.to_owned(), message));
        if let Some(message) = properties::check_brokers(&self.brokers) {
            problem("brokers", message);
        }
        if self.topics.is_empty() {
            problem("topics", "at least one topic is needed".to_owned());
        }
        for (index, topic) in self.topics.iter().enumerate() {
            let path = format!("topics[{index}]");
            if let Err(message) = check_topic(topic) {
                problem(&path, message);
            } else if self.topics[..index].contains(topic) {
                problem(&path, format!("topic `{topic}` is listed twice"));
            }
        }
        if self.group_id.as_deref().is_some_and(str::is_empty) {
            problem("group_id", "a group id cannot be empty".to_owned());
        }
        if self.queue_bytes < MIN_QUEUE_BYTES {
            problem(
                "queue_bytes",
                format!("at least {MIN_QUEUE_BYTES} bytes are needed"),
            );
        }
        if self.max_row_bytes == 0 || self.max_row_bytes > MAX_ROW_BYTES {
            problem(
                "max_row_bytes",
                format!("must be between 1 and {MAX_ROW_BYTES} bytes"),
            );
        }
        if self.discovery_interval < Duration::from_millis(100)
            || self.discovery_interval > Duration::from_hours(1)
        {
            problem(
                "discovery_interval",
                "must be between 100 ms and 1 hour".to_owned(),
            );
        }
        for (name, message) in properties::check(Properties::Consumer, &self.properties) {
            problem(&format!("properties.{name}"), message);
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
        for (name, value) in &self.properties {
            client.set(name, value);
        }
        client
            .set("bootstrap.servers", &self.brokers)
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

impl fmt::Debug for KafkaConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaConfig")
            .field("brokers", &self.brokers)
            .field("topics", &self.topics)
            .field("start", &self.start)
            .field("group_id", &self.group_id)
            .field("on_data_loss", &self.on_data_loss)
            .field("properties", &self.properties.keys())
            .field("queue_bytes", &self.queue_bytes)
            .field("discovery_interval", &self.discovery_interval)
            .field("max_row_bytes", &self.max_row_bytes)
            .field("topic_wait", &self.topic_wait)
            .finish()
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
        config
            .check()
            .into_iter()
            .map(|(path, message)| format!("{path}: {message}"))
            .collect()
    }

    #[test]
    fn the_default_is_right() {
        assert_eq!(problems(|_| ()), Vec::<String>::new());
    }

    #[test]
    fn all_problems_are_found_at_once() {
        let found = problems(|config| {
            config.brokers = " ".into();
            config.topics = vec!["a".into(), "a".into(), "^b.*".into(), String::new()];
            config.group_id = Some(String::new());
            config.queue_bytes = 1;
            config.max_row_bytes = 0;
            config.discovery_interval = Duration::ZERO;
            config
                .properties
                .insert("enable.auto.commit".into(), "true".into());
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
        config
            .properties
            .insert("sasl.password".into(), "hunter2".into());
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
