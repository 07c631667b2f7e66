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
    source::{EndReports, Offset, Positions, Source, SourceEvent, SourceReader, Systems},
};

use super::{
    chunk::ChunkLimits,
    client::EventContext,
    config::KafkaConfig,
    control::Control,
    partition::{self, Generation},
    queue::{self, Receiver, Report},
    reader::TopicReader,
    startup::{Startup, TopicPositions},
};

/// Rows of Kafka topics. A partition is named `topic/3`, and its offsets are Kafka's.
///
/// Opening waits for the cluster's list of partitions, or for some seconds without an answer.
/// Without an answer the reader returns [`SourceEvent::Unreachable`] first, and
/// [`SourceEvent::Assigned`] once the cluster has answered. An unknown topic is an error of kind
/// `Config`: of [`Source::open`] or, if the cluster answers only later, of [`SourceReader::next`].
pub struct KafkaSource {
    config: KafkaConfig,
    group_id: String,
    clock: Arc<dyn Clock>,
}

impl KafkaSource {
    /// A source of `pipeline`, which names the default consumer group. The clock gives the time at
    /// which rows are received.
    pub fn new(config: KafkaConfig, pipeline: &str, clock: Arc<dyn Clock>) -> Self {
        let group_id = match &config.group_id {
            Some(group) => group.value().clone(),
            None => format!("tagflow-{pipeline}"),
        };
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
        self.open_in(positions, &Systems::new()).await
    }

    async fn open_in(
        &self,
        positions: &Positions,
        clusters: &Systems,
    ) -> Result<Box<dyn SourceReader>> {
        let mut by_topic: BTreeMap<&str, TopicPositions> = BTreeMap::new();
        for (name, offset) in positions {
            let named = partition::parse(name).ok_or_else(|| {
                Error::data(format!(
                    "`{name}` in the commit log is not a Kafka partition"
                ))
            })?;
            let of_topic = by_topic.entry(named.topic).or_default();
            of_topic.insert(named, *offset);
        }
        let (sender, receiver) = queue::bounded(self.config.queue_bytes);
        let mut reader = KafkaReader {
            reports: receiver,
            controls: BTreeMap::new(),
            generations: BTreeMap::new(),
            unopened: self.config.topics.len(),
            opened: Vec::new(),
            events: VecDeque::new(),
            unreachable: BTreeSet::new(),
        };
        for topic in &self.config.topics {
            let consumer: BaseConsumer<EventContext> = self
                .config
                .client(&self.group_id)
                .create_with_context(EventContext::default())
                .map_err(|error| {
                    Error::config(format!(
                        "the Kafka client does not accept the properties of the source of topic \
                         `{}`",
                        topic.value()
                    ))
                    .with_source(error)
                })?;
            let mut read = by_topic.remove(topic.as_str()).unwrap_or_default();
            read.cluster = clusters.get(topic.as_str()).cloned();
            let opening = Startup::new(
                topic.as_str().into(),
                read,
                *self.config.start,
                self.config.topic_wait,
                self.config.brokers.value().clone(),
                self.group_id.clone(),
            );
            let control = Arc::new(Control::default());
            reader
                .controls
                .insert(topic.value().clone(), Arc::clone(&control));
            let topic_reader = TopicReader {
                control,
                reports: sender.clone(),
                on_data_loss: *self.config.on_data_loss,
                limits: self.limits(),
                clock: Arc::clone(&self.clock),
            };
            thread::Builder::new()
                .name(format!("kafka {}", topic.value()))
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
    /// The generation of each topic.
    generations: BTreeMap<String, Generation>,
    /// The number of unopened topics.
    unopened: usize,
    /// The partitions of the opened topics.
    opened: Vec<(Arc<str>, Offset)>,
    /// Events to return next; at most a handful, because a thread reports only its connection
    /// before it may start.
    events: VecDeque<SourceEvent>,
    unreachable: BTreeSet<Arc<str>>,
}

impl KafkaReader {
    /// Processes one report. Cancel-safe.
    async fn receive(&mut self) -> Result<()> {
        let report = self
            .reports
            .recv()
            .await
            .ok_or_else(|| Error::internal("the readers of the Kafka topics have ended"))?;
        match report {
            Report::Event(event) => {
                if let SourceEvent::Assigned(partitions) = &event {
                    self.note_generations(partitions);
                }
                self.events.push_back(event);
            }
            Report::Opened(partitions) => {
                self.note_generations(&partitions);
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

    fn note_generations(&mut self, partitions: &[(Arc<str>, Offset)]) {
        for (name, _) in partitions {
            if let Some(named) = partition::parse(name) {
                let generation = named.generation;
                self.generations.insert(named.topic.to_owned(), generation);
            }
        }
    }

    /// The thread that reads a partition; `None` for a partition of an earlier topic.
    fn control(&self, partition: &str) -> Option<(&Control, i32)> {
        let named = partition::parse(partition)?;
        let control = self.controls.get(named.topic)?;
        let is_read = self.generations.get(named.topic) == Some(&named.generation);
        is_read.then_some((control, named.partition))
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

    fn end_reports(&self) -> EndReports {
        EndReports::Repeated
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
