//! Reads the newest event of each partition, without a consumer group's offsets.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    error::{KafkaError, KafkaResult},
    metadata::{MetadataPartition, MetadataTopic},
};
use tagflow_engine::{Error, Result};

use super::{
    client::EventContext,
    log_bounds::LogBound,
    properties::{self, Side},
};

/// The time limit for each request, and for reading all partitions.
const PATIENCE: Duration = Duration::from_secs(5);

/// The timeout of a poll.
const POLL: Duration = Duration::from_millis(100);

/// The newest event of each partition of `topic`; empty without such a topic or without an answer.
pub(super) async fn events(
    brokers: &str,
    producer: &BTreeMap<String, String>,
    topic: &str,
) -> Result<Vec<Vec<u8>>> {
    let mut config = ClientConfig::new();
    for (name, value) in producer {
        // The client warns about producer-only properties.
        if properties::check(
            Side::Consumer,
            &BTreeMap::from([(name.clone(), value.clone())]),
        )
        .is_empty()
        {
            config.set(name, value);
        }
    }
    config
        .set("bootstrap.servers", brokers)
        .set("group.id", "tagflow-produce")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true");
    let consumer: BaseConsumer<EventContext> = config
        .create_with_context(EventContext::default())
        .map_err(|error| {
            Error::config("the Kafka client does not accept the properties").with_source(error)
        })?;
    let topic = topic.to_owned();
    let read = tokio::task::spawn_blocking(move || read(&consumer, &topic)).await;
    // A broken connection is reported when the first event is sent.
    Ok(read.ok().and_then(KafkaResult::ok).unwrap_or_default())
}

fn read(consumer: &BaseConsumer<EventContext>, topic: &str) -> KafkaResult<Vec<Vec<u8>>> {
    let metadata = consumer.fetch_metadata(Some(topic), PATIENCE)?;
    let partitions = metadata.topics().iter().flat_map(MetadataTopic::partitions);
    let partitions: Vec<i32> = partitions.map(MetadataPartition::id).collect();
    let starts = LogBound::Start.of(consumer, topic, partitions.iter().copied(), PATIENCE)?;
    let ends = LogBound::End.of(consumer, topic, partitions, PATIENCE)?;
    let mut assigned = TopicPartitionList::new();
    let mut unread = BTreeSet::new();
    for (partition, end) in ends {
        if starts.get(&partition).is_some_and(|start| *start < end) {
            assigned.add_partition_offset(topic, partition, Offset::Offset(end - 1))?;
            unread.insert(partition);
        }
    }
    consumer.assign(&assigned)?;
    let deadline = Instant::now() + PATIENCE;
    let mut events = Vec::new();
    while !unread.is_empty() && Instant::now() < deadline {
        match consumer.poll(POLL) {
            None => {}
            Some(Ok(message)) => {
                unread.remove(&message.partition());
                events.extend(message.payload().map(<[u8]>::to_vec));
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                unread.remove(&partition);
            }
            Some(Err(error)) => return Err(error),
        }
    }
    Ok(events)
}
