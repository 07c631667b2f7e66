//! The Kafka source: the engine's end of the consumer threads.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
    sync::Arc,
    thread,
};

use async_trait::async_trait;
use rdkafka::consumer::BaseConsumer;
use tagflow_engine::{
    Clock, Error, Result,
    source::{Offset, Positions, Source, SourceEvent, SourceReader},
};

use super::{
    chunk::ChunkLimits,
    client::Notes,
    config::KafkaConfig,
    control::Control,
    opening::Opening,
    partition,
    queue::{self, Receiver, Report},
    reader::TopicReader,
};

/// Rows of Kafka topics. A partition is named `topic/3`, and its offsets are
/// Kafka's.
///
/// Opening waits until the cluster has told which partitions there are, or has
/// failed to answer for some seconds. In that case the reader says
/// [`SourceEvent::Unreachable`] first, and [`SourceEvent::Assigned`] once the
/// cluster has answered. A topic that the cluster does not know is an error of
/// kind `Config`, of [`Source::open`] or, if the cluster answered only later,
/// of [`SourceReader::next`].
pub struct KafkaSource {
    config: KafkaConfig,
    group_id: String,
    clock: Arc<dyn Clock>,
}

impl KafkaSource {
    /// A source of `pipeline`, which names the default consumer group. The
    /// clock tells when rows were received.
    pub fn new(config: KafkaConfig, pipeline: &str, clock: Arc<dyn Clock>) -> Self {
        let group_id = config
            .group_id
            .clone()
            .unwrap_or_else(|| format!("tagflow-{pipeline}"));
        Self {
            config,
            group_id,
            clock,
        }
    }

    fn limits(&self) -> ChunkLimits {
        ChunkLimits {
            rows: 8192,
            bytes: (1 << 20).min(self.config.queue_bytes / 4),
        }
    }
}

impl fmt::Debug for KafkaSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaSource")
            .field("config", &self.config)
            .field("group_id", &self.group_id)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Source for KafkaSource {
    async fn open(&self, positions: &Positions) -> Result<Box<dyn SourceReader>> {
        let mut by_topic: BTreeMap<&str, BTreeMap<i32, Offset>> = BTreeMap::new();
        for (name, offset) in positions {
            let (topic, partition) = partition::parse(name).ok_or_else(|| {
                Error::data(format!(
                    "`{name}` in the commit log is not a Kafka partition"
                ))
            })?;
            by_topic
                .entry(topic)
                .or_default()
                .insert(partition, *offset);
        }
        let (sender, receiver) = queue::bounded(self.config.queue_bytes);
        let mut reader = KafkaReader {
            reports: receiver,
            controls: BTreeMap::new(),
            unopened: self.config.topics.len(),
            opened: Vec::new(),
            events: VecDeque::new(),
            unreachable: BTreeSet::new(),
        };
        for topic in &self.config.topics {
            let consumer: BaseConsumer<Notes> = self
                .config
                .client(&self.group_id)
                .create_with_context(Notes::default())
                .map_err(|error| {
                    Error::config(format!(
                        "the Kafka client does not accept the properties of the source of topic \
                         `{topic}`"
                    ))
                    .with_source(error)
                })?;
            let opening = Opening::new(
                topic.as_str().into(),
                by_topic.remove(topic.as_str()).unwrap_or_default(),
                self.config.start,
                self.config.topic_wait,
                self.config.brokers.clone(),
                self.group_id.clone(),
            );
            let control = Arc::new(Control::default());
            reader.controls.insert(topic.clone(), Arc::clone(&control));
            let topic_reader = TopicReader {
                control,
                reports: sender.clone(),
                on_data_loss: self.config.on_data_loss,
                limits: self.limits(),
                clock: Arc::clone(&self.clock),
            };
            thread::Builder::new()
                .name(format!("kafka {topic}"))
                .spawn(move || topic_reader.run(consumer, opening))
                .map_err(|error| Error::external("cannot start a thread").with_source(error))?;
        }
        for topic in by_topic.keys() {
            tracing::warn!(
                topic,
                "the pipeline has read this topic before and no longer does"
            );
        }
        while reader.unopened > 0 && reader.unreachable.is_empty() {
            reader.receive().await?;
        }
        Ok(Box::new(reader))
    }
}

/// The reader of all topics of a source.
struct KafkaReader {
    reports: Receiver,
    controls: BTreeMap<String, Arc<Control>>,
    /// How many topics have not been opened yet.
    unopened: usize,
    /// The partitions of those that have.
    opened: Vec<(Arc<str>, Offset)>,
    /// What comes next; at most a handful, for a thread reports only its
    /// connection until it is told to begin.
    events: VecDeque<SourceEvent>,
    unreachable: BTreeSet<Arc<str>>,
}

impl KafkaReader {
    /// Takes one report. Cancel-safe.
    async fn receive(&mut self) -> Result<()> {
        let report = self
            .reports
            .recv()
            .await
            .ok_or_else(|| Error::internal("the readers of the Kafka topics have ended"))?;
        match report {
            Report::Event(event) => self.events.push_back(event),
            Report::Opened(partitions) => {
                self.opened.extend(partitions);
                self.unopened -= 1;
                if self.unopened == 0 {
                    let all = std::mem::take(&mut self.opened);
                    self.events.push_back(SourceEvent::Assigned(all));
                    self.controls.values().for_each(|control| control.begin());
                }
            }
            Report::Unreachable(topic, message) => {
                if self.unreachable.is_empty() {
                    self.events.push_back(SourceEvent::Unreachable(message));
                }
                self.unreachable.insert(topic);
            }
            Report::Reachable(topic) => {
                if self.unreachable.remove(&topic) && self.unreachable.is_empty() {
                    self.events.push_back(SourceEvent::Reachable);
                }
            }
            Report::Failed(error) => return Err(error),
        }
        Ok(())
    }

    fn control(&self, partition: &str) -> Option<(&Control, i32)> {
        let (topic, partition) = partition::parse(partition)?;
        Some((self.controls.get(topic)?, partition))
    }
}

#[async_trait]
impl SourceReader for KafkaReader {
    async fn next(&mut self) -> Result<SourceEvent> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(event);
            }
            self.receive().await?;
        }
    }

    fn pause(&mut self, partition: &str) {
        if let Some((control, partition)) = self.control(partition) {
            control.pause(partition);
        }
    }

    fn resume(&mut self, partition: &str) {
        if let Some((control, partition)) = self.control(partition) {
            control.resume(partition);
        }
    }

    fn committed(&mut self, positions: &Positions) {
        for (name, offset) in positions {
            if let Some((control, partition)) = self.control(name) {
                control.commit(partition, *offset);
            }
        }
    }
}

impl Drop for KafkaReader {
    fn drop(&mut self) {
        self.controls.values().for_each(|control| control.stop());
    }
}
