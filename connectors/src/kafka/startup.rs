//! Opens a topic: finds its partitions and their first offsets. Unanswered requests are repeated.

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

use super::{
    client::EventContext,
    config::StartAt,
    log_bounds::LogBound,
    partition::{self, Generation, Named},
};

/// The timeout of the first request. After each timeout it doubles, because the cluster may be far
/// away.
const PATIENCE: Duration = Duration::from_secs(2);
const MOST_PATIENCE: Duration = Duration::from_secs(16);

/// Why a topic may differ from the one that was read.
pub(super) const RECREATED: &str =
    "the topic was deleted and created again, or the cluster has lost rows";
const OTHER_CLUSTER: &str = "an offset of one cluster means another row in the next; if `brokers` \
                             is wrong, correct it";

/// The most similar topics that a message about an unknown one names.
const NEAREST: usize = 5;

/// The positions at which to continue a topic.
#[derive(Debug, Clone, Default)]
pub(super) struct TopicPositions {
    /// The generation of the topic of that name.
    pub(super) generation: Generation,
    /// The id of the cluster of the positions, if it is known.
    pub(super) cluster: Option<Arc<str>>,
    /// The next offset of each partition.
    pub(super) next: BTreeMap<i32, Offset>,
}

impl TopicPositions {
    /// Adds a position. Positions of earlier generations belong to deleted topics.
    pub(super) fn insert(&mut self, named: Named<'_>, next: Offset) {
        if named.generation > self.generation {
            self.generation = named.generation;
            self.next.clear();
        }
        if named.generation == self.generation {
            self.next.insert(named.partition, next);
        }
    }
}

/// The settings to open a topic.
#[derive(Debug)]
pub(super) struct Startup {
    /// The topic.
    pub(super) topic: Arc<str>,
    /// The committed positions of the pipeline.
    pub(super) read: TopicPositions,
    /// Where to start without a position.
    pub(super) start: StartAt,
    /// How long the topic may be unknown.
    pub(super) topic_wait: Duration,
    /// The brokers, as the user gave them.
    pub(super) brokers: String,
    /// The group whose committed offsets may be the start.
    pub(super) group_id: String,
    /// The number of brokers in the cluster, once it has answered.
    pub(super) brokers_known: usize,
    unknown_since: Option<Instant>,
    patience: Duration,
}

/// A failed attempt.
#[derive(Debug)]
pub(super) enum Obstacle {
    /// The cluster has not answered: try again.
    Unreachable(String),
    /// The cluster has answered, but is not ready: try again.
    NotReady,
    /// The topic is not the one that was read; the text explains how it differs, and why.
    Recreated(String),
    /// A retry does not help.
    Failed(Error),
}

impl Startup {
    /// Opens `topic` where it was read to.
    pub(super) fn new(
        topic: Arc<str>,
        read: TopicPositions,
        start: StartAt,
        topic_wait: Duration,
        brokers: String,
        group_id: String,
    ) -> Self {
        Self {
            topic,
            read,
            start,
            topic_wait,
            brokers,
            group_id,
            brokers_known: 1,
            unknown_since: None,
            patience: PATIENCE,
        }
    }

    /// Drops the positions, because their topic was deleted. The topic that has its name now is
    /// read from its start.
    pub(super) fn renew(&mut self) {
        self.read.generation = self.read.generation.next();
        self.read.next.clear();
        self.start = StartAt::Earliest;
    }

    /// Classifies an error answer.
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

    /// Requests the first offset of every partition once.
    pub(super) fn attempt(
        &mut self,
        consumer: &BaseConsumer<EventContext>,
    ) -> Result<BTreeMap<i32, Offset>, Obstacle> {
        let partitions = self.partitions(consumer)?;
        self.check_cluster(consumer)?;
        let mut known = self.read.next.keys();
        if let Some(missing) = known.find(|known| !partitions.contains(known)) {
            let name = partition::name(&self.topic, *missing, self.read.generation);
            let seen = format!(
                "the pipeline has read `{name}`, but topic `{}` has only {} partitions now: \
                 {RECREATED}",
                self.topic,
                partitions.len(),
            );
            return Err(Obstacle::Recreated(seen));
        }
        let mut offsets = self.read.next.clone();
        offsets.extend(self.committed(consumer, &partitions)?);
        let unknown = partitions
            .into_iter()
            .filter(|id| !offsets.contains_key(id));
        let unknown = unknown.collect();
        offsets.extend(self.first_offsets(consumer, unknown)?);
        Ok(offsets)
    }

    fn partitions(
        &mut self,
        consumer: &BaseConsumer<EventContext>,
    ) -> Result<BTreeSet<i32>, Obstacle> {
        let metadata = consumer
            .fetch_metadata(Some(&self.topic), self.patience)
            .map_err(|error| self.refused(error))?;
        self.brokers_known = metadata.brokers().len();
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
                if let Some((partition, next)) = self.read.next.last_key_value() {
                    let name = partition::name(&self.topic, *partition, self.read.generation);
                    return Err(Obstacle::Failed(Error::data(format!(
                        "Kafka at `{}` has no topic `{}` any more, and the pipeline has read \
                         `{name}` up to offset {next}: the topic was deleted, or the broker has \
                         lost its data; bring the topic back and run the pipeline again",
                        self.brokers, self.topic
                    ))));
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

    /// Compares the cluster that answered with the cluster of the positions. A cluster without an
    /// id is accepted.
    fn check_cluster(&mut self, consumer: &BaseConsumer<EventContext>) -> Result<(), Obstacle> {
        // The metadata of the topic contained it, so this sends no request.
        let Some(now) = consumer.client().fetch_cluster_id(Duration::ZERO) else {
            return Ok(());
        };
        let read = self.read.cluster.replace(now.as_str().into());
        match read {
            Some(read) if *read != *now && !self.read.next.is_empty() => {
                Err(Obstacle::Recreated(format!(
                    "the pipeline has read topic `{}` in Kafka cluster `{read}`, but `{}` belongs \
                     to cluster `{now}`: {OTHER_CLUSTER}",
                    self.topic, self.brokers
                )))
            }
            _ => Ok(()),
        }
    }

    /// The committed offsets of the group, if reading starts there.
    fn committed(
        &mut self,
        consumer: &BaseConsumer<EventContext>,
        partitions: &BTreeSet<i32>,
    ) -> Result<BTreeMap<i32, Offset>, Obstacle> {
        if self.start != StartAt::Committed || !self.read.next.is_empty() {
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
        consumer: &BaseConsumer<EventContext>,
        partitions: BTreeSet<i32>,
    ) -> Result<BTreeMap<i32, Offset>, Obstacle> {
        // Partitions without a position in a known topic were added since: all their rows are new.
        let latest = self.start == StartAt::Latest && self.read.next.is_empty();
        let edge = if latest {
            LogBound::End
        } else {
            LogBound::Start
        };
        edge.of(consumer, &self.topic, partitions, self.patience)
            .map_err(|error| self.refused(error))
    }
}

/// The rest of the message about an unknown topic: similar topics of the cluster.
fn nearest(wrong: &str, consumer: &BaseConsumer<EventContext>) -> String {
    let Ok(metadata) = consumer.fetch_metadata(None, PATIENCE) else {
        return String::new();
    };
    let mut names: Vec<&str> = metadata.topics().iter().map(MetadataTopic::name).collect();
    // The prefix of Kafka's internal topics.
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

/// A description of an error code.
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
