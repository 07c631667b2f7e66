//! Opening a topic: which partitions it has, and where each begins. Whatever
//! the cluster does not answer is asked again, until it does.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use rdkafka::{
    Offset as ClientOffset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, RDKafkaErrorCode as Code},
    metadata::{MetadataPartition, MetadataTopic},
};
use tagflow_engine::{Error, Result, source::Offset};

use super::{client::Notes, config::StartAt, edge::Edge, partition};

/// How long the first question may take. One that is not answered in time is
/// asked again with twice as much, for the cluster may be far away.
const PATIENCE: Duration = Duration::from_secs(2);
const MOST_PATIENCE: Duration = Duration::from_secs(16);

/// How many topics a message about an unknown one names.
const NEAREST: usize = 5;

/// What a topic is opened with.
#[derive(Debug)]
pub(super) struct Opening {
    /// The topic.
    pub(super) topic: Arc<str>,
    /// Where the pipeline's log says to go on, by partition.
    pub(super) positions: BTreeMap<i32, Offset>,
    /// Where to begin if the log says nothing.
    pub(super) start: StartAt,
    /// How long the topic may be unknown.
    pub(super) topic_wait: Duration,
    /// The brokers, as the user gave them.
    pub(super) brokers: String,
    /// The group whose committed offsets may be where to begin.
    pub(super) group_id: String,
    unknown_since: Option<Instant>,
    patience: Duration,
}

/// An attempt that did not succeed.
#[derive(Debug)]
pub(super) enum Obstacle {
    /// The cluster has not answered: try again.
    Unreachable(String),
    /// The cluster has answered, but is not ready: try again.
    NotReady,
    /// Trying again does not help.
    Failed(Error),
}

impl Opening {
    /// Opens `topic` at `positions`.
    pub(super) fn new(
        topic: Arc<str>,
        positions: BTreeMap<i32, Offset>,
        start: StartAt,
        topic_wait: Duration,
        brokers: String,
        group_id: String,
    ) -> Self {
        Self {
            topic,
            positions,
            start,
            topic_wait,
            brokers,
            group_id,
            unknown_since: None,
            patience: PATIENCE,
        }
    }

    /// What an answer that is an error means.
    fn refused(&mut self, error: KafkaError) -> Obstacle {
        match error.rdkafka_error_code() {
            Some(Code::TopicAuthorizationFailed) => Obstacle::Failed(not_authorized(&self.topic)),
            Some(Code::GroupAuthorizationFailed) => {
                let message = format!(
                    "not authorized to read the offsets of consumer group `{}`; allow it, or \
                     begin elsewhere (`start`)",
                    self.group_id
                );
                Obstacle::Failed(Error::external(message).permanent())
            }
            Some(code) => {
                if matches!(code, Code::OperationTimedOut | Code::BrokerTransportFailure) {
                    self.patience = (self.patience * 2).min(MOST_PATIENCE);
                }
                Obstacle::Unreachable(describe(code))
            }
            None => Obstacle::Unreachable(error.to_string()),
        }
    }

    /// Asks once for the first offset of every partition.
    pub(super) fn attempt(
        &mut self,
        consumer: &BaseConsumer<Notes>,
    ) -> Result<BTreeMap<i32, Offset>, Obstacle> {
        let partitions = self.partitions(consumer)?;
        if let Some(missing) = self
            .positions
            .keys()
            .find(|known| !partitions.contains(known))
        {
            return Err(Obstacle::Failed(Error::data(format!(
                "the pipeline has read `{}`, but topic `{}` has only {} partitions now: it was \
                 deleted and created again",
                partition::name(&self.topic, *missing),
                self.topic,
                partitions.len(),
            ))));
        }
        let mut offsets = self.positions.clone();
        offsets.extend(self.committed(consumer, &partitions)?);
        let unknown = partitions
            .into_iter()
            .filter(|id| !offsets.contains_key(id));
        let unknown = unknown.collect();
        offsets.extend(self.first_offsets(consumer, unknown)?);
        Ok(offsets)
    }

    fn partitions(&mut self, consumer: &BaseConsumer<Notes>) -> Result<BTreeSet<i32>, Obstacle> {
        let metadata = consumer
            .fetch_metadata(Some(&self.topic), self.patience)
            .map_err(|error| self.refused(error))?;
        let found = metadata
            .topics()
            .iter()
            .find(|topic| topic.name() == &*self.topic);
        let error = found.and_then(MetadataTopic::error).map(Code::from);
        let partitions: BTreeSet<i32> = found
            .into_iter()
            .flat_map(MetadataTopic::partitions)
            .map(MetadataPartition::id)
            .collect();
        match error {
            None if !partitions.is_empty() => {
                self.unknown_since = None;
                Ok(partitions)
            }
            Some(Code::TopicAuthorizationFailed) => {
                Err(Obstacle::Failed(not_authorized(&self.topic)))
            }
            Some(Code::InvalidTopic) => Err(Obstacle::Failed(Error::config(format!(
                "Kafka at `{}` does not accept `{}` as a topic's name",
                self.brokers, self.topic
            )))),
            None | Some(Code::UnknownTopicOrPartition | Code::UnknownTopic) => {
                let since = *self.unknown_since.get_or_insert_with(Instant::now);
                if since.elapsed() < self.topic_wait {
                    return Err(Obstacle::NotReady);
                }
                let others = nearest(&self.topic, consumer);
                Err(Obstacle::Failed(Error::config(format!(
                    "Kafka at `{}` has no topic `{}`{others}",
                    self.brokers, self.topic
                ))))
            }
            Some(_) => Err(Obstacle::NotReady),
        }
    }

    /// Where the group has committed, if that is where to begin.
    fn committed(
        &mut self,
        consumer: &BaseConsumer<Notes>,
        partitions: &BTreeSet<i32>,
    ) -> Result<BTreeMap<i32, Offset>, Obstacle> {
        if self.start != StartAt::Committed || !self.positions.is_empty() {
            return Ok(BTreeMap::new());
        }
        let mut wanted = TopicPartitionList::new();
        for partition in partitions {
            wanted.add_partition(&self.topic, *partition);
        }
        let committed = consumer
            .committed_offsets(wanted, self.patience)
            .map_err(|error| self.refused(error))?;
        Ok(committed
            .elements()
            .iter()
            .filter_map(|element| match element.offset() {
                ClientOffset::Offset(offset) => Some((element.partition(), offset)),
                _ => None,
            })
            .collect())
    }

    fn first_offsets(
        &mut self,
        consumer: &BaseConsumer<Notes>,
        partitions: BTreeSet<i32>,
    ) -> Result<BTreeMap<i32, Offset>, Obstacle> {
        // Partitions that the log does not know, of a topic that it does, were
        // added since: their rows are all new.
        let latest = self.start == StartAt::Latest && self.positions.is_empty();
        let edge = if latest { Edge::End } else { Edge::Start };
        edge.of(consumer, &self.topic, partitions, self.patience)
            .map_err(|error| self.refused(error))
    }
}

/// How the message about an unknown topic goes on: with what the cluster has.
fn nearest(wrong: &str, consumer: &BaseConsumer<Notes>) -> String {
    let Ok(metadata) = consumer.fetch_metadata(None, PATIENCE) else {
        return String::new();
    };
    let mut names: Vec<&str> = metadata.topics().iter().map(MetadataTopic::name).collect();
    // Kafka's own topics begin so.
    names.retain(|name| !name.starts_with("__") && *name != wrong);
    names.sort_by_key(|name| (strsim::damerau_levenshtein(wrong, name), *name));
    names.truncate(NEAREST);
    match names.as_slice() {
        [] => "; create it".to_owned(),
        names => format!(
            "; create it, or name one that is there: `{}`",
            names.join("`, `")
        ),
    }
}

/// Access to the topic is denied.
pub(super) fn not_authorized(topic: &str) -> Error {
    Error::external(format!("not authorized to read Kafka topic `{topic}`")).permanent()
}

/// An error code in words.
pub(super) fn describe(code: Code) -> String {
    let words = match code {
        Code::AllBrokersDown => "all brokers are down",
        Code::Authentication | Code::SaslAuthenticationFailed => "authentication failed",
        Code::BrokerTransportFailure => "no connection",
        Code::OperationTimedOut | Code::RequestTimedOut => "no answer in time",
        Code::Resolve => "the host name cannot be resolved",
        Code::SSL => "the TLS handshake failed",
        Code::LeaderNotAvailable => "a partition has no leader",
        Code::CoordinatorNotAvailable | Code::NotCoordinator => "the group has no coordinator",
        Code::GroupAuthorizationFailed => "not authorized for the consumer group",
        code => return format!("the cluster answered: {code}"),
    };
    words.to_owned()
}
