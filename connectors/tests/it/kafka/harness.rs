//! Shared parts of the tests of the Kafka source.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tagflow_connectors::kafka::{KafkaConfig, KafkaSource, MockBroker, Producer};
use tagflow_engine::{
    Result, SystemClock,
    source::{Chunk, Offset, Positions, Rows, Source, SourceEvent, SourceReader, Systems},
};
use tokio::time::timeout;

/// Only a hang takes this long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) type Reader = Box<dyn SourceReader>;

/// The rows of each partition, in order of arrival.
pub(crate) type Read = BTreeMap<String, Vec<(Offset, Option<Vec<u8>>)>>;

pub(crate) fn broker(topics: &[(&str, u16)]) -> MockBroker {
    let broker = MockBroker::start(1).unwrap();
    for (topic, partitions) in topics {
        broker.create_topic(topic, *partitions).unwrap();
    }
    broker
}

pub(crate) fn config(broker: &MockBroker, topics: &[&str]) -> KafkaConfig {
    config_at(broker.bootstrap_servers(), topics)
}

pub(crate) fn config_at(servers: &str, topics: &[&str]) -> KafkaConfig {
    let mut config = KafkaConfig::new(servers, topics.iter().copied());
    config.topic_wait = Duration::from_millis(500);
    config
}

pub(crate) fn producer(servers: &str) -> Producer {
    // The mock counts the stored bytes as they were sent.
    let properties = [
        ("message.max.bytes", "8000000"),
        ("compression.type", "none"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()));
    let properties = BTreeMap::from(properties);
    Producer::new(servers, &properties).unwrap()
}

/// Sends `rows` to a topic, each with itself as its key.
pub(crate) async fn produce(
    broker: &MockBroker,
    topic: &str,
    rows: impl IntoIterator<Item = String>,
) {
    produce_at(broker.bootstrap_servers(), topic, rows).await;
}

pub(crate) async fn produce_at(servers: &str, topic: &str, rows: impl IntoIterator<Item = String>) {
    let producer = producer(servers);
    for row in rows {
        producer
            .send(topic, Some(row.as_bytes()), Some(row.as_bytes()))
            .await
            .unwrap();
    }
    producer.flush().await.unwrap();
}

pub(crate) fn numbered(rows: std::ops::Range<u32>) -> impl Iterator<Item = String> {
    rows.map(|row| format!("row-{row}"))
}

pub(crate) fn positions(positions: &[(&str, Offset)]) -> Positions {
    positions
        .iter()
        .map(|(name, offset)| (Arc::from(*name), *offset))
        .collect()
}

pub(crate) async fn open(config: KafkaConfig, positions: &Positions) -> Result<Reader> {
    open_in(config, positions, &[]).await
}

/// Opens a source whose topics were read in these clusters.
pub(crate) async fn open_in(
    config: KafkaConfig,
    positions: &Positions,
    clusters: &[(&str, &str)],
) -> Result<Reader> {
    let source = KafkaSource::new(config, "test", Arc::new(SystemClock));
    let clusters = clusters.iter();
    let clusters: Systems = clusters
        .map(|(topic, id)| ((*topic).into(), (*id).into()))
        .collect();
    timeout(PATIENCE, source.open_in(positions, &clusters))
        .await
        .expect("opened in time")
}

pub(crate) async fn next(reader: &mut Reader) -> Result<SourceEvent> {
    timeout(PATIENCE, reader.next())
        .await
        .expect("an event in time")
}

/// Panics with the event, without the rows of a chunk.
pub(crate) fn unexpected(event: &SourceEvent) -> ! {
    match event {
        SourceEvent::Chunk(chunk) => {
            panic!(
                "unexpected rows {}..{} of {}",
                chunk.first, chunk.next, chunk.partition
            )
        }
        other => panic!("unexpected {other:?}"),
    }
}

pub(crate) async fn assigned(reader: &mut Reader) -> BTreeMap<String, Offset> {
    match next(reader).await.unwrap() {
        SourceEvent::Assigned(partitions) => partitions
            .into_iter()
            .map(|(name, offset)| (name.to_string(), offset))
            .collect(),
        other => unexpected(&other),
    }
}

/// Adds a chunk to the rows read so far, and checks that it continues them.
pub(crate) fn absorb(read: &mut Read, chunk: &Chunk) {
    let Rows::Encoded(rows) = &chunk.rows else {
        panic!("Kafka rows are encoded")
    };
    assert!(!rows.is_empty(), "an empty chunk of {}", chunk.partition);
    assert_eq!(chunk.first, rows.offsets[0]);
    assert!(
        rows.offsets.is_sorted_by(|a, b| a + 1 == *b),
        "rows are missing"
    );
    assert_eq!(chunk.next, rows.offsets[rows.len() - 1] + 1);
    let all = read.entry(chunk.partition.to_string()).or_default();
    assert!(
        all.last().is_none_or(|(last, _)| last + 1 == chunk.first),
        "rows are missing"
    );
    for row in 0..rows.len() {
        all.push((rows.offsets[row], rows.row(row).map(<[u8]>::to_vec)));
    }
}

/// Reads until each of `partitions` has reported its end. An unreachable broker must be reported
/// reachable again by then: the client reports it late, even when it is connected again.
pub(crate) async fn read_to_end(reader: &mut Reader, partitions: usize) -> Read {
    let mut read = Read::new();
    let mut ends = BTreeMap::new();
    let mut reachable = true;
    while ends.len() < partitions || !reachable {
        match next(reader).await.unwrap() {
            SourceEvent::Chunk(chunk) => {
                ends.remove(&chunk.partition);
                absorb(&mut read, &chunk);
            }
            SourceEvent::CaughtUp { partition, end } => {
                let last = read.get(&*partition).and_then(|rows| rows.last());
                assert!(
                    last.is_none_or(|(last, _)| last + 1 == end),
                    "{partition} at {end}"
                );
                ends.insert(partition, end);
            }
            SourceEvent::Unreachable(_) if reachable => reachable = false,
            SourceEvent::Reachable if !reachable => reachable = true,
            SourceEvent::Lag { .. } | SourceEvent::System { .. } => {}
            other => unexpected(&other),
        }
    }
    read
}

/// Reads until there are `rows` rows.
pub(crate) async fn read_rows(reader: &mut Reader, rows: usize) -> Read {
    let mut read = Read::new();
    while read.values().map(Vec::len).sum::<usize>() < rows {
        if let SourceEvent::Chunk(chunk) = next(reader).await.unwrap() {
            absorb(&mut read, &chunk);
        }
    }
    read
}

pub(crate) fn values(read: &Read) -> Vec<String> {
    let mut values: Vec<String> = read
        .values()
        .flatten()
        .map(|(_, value)| String::from_utf8(value.clone().unwrap()).unwrap())
        .collect();
    values.sort();
    values
}

pub(crate) fn sorted(rows: impl Iterator<Item = String>) -> Vec<String> {
    let mut rows: Vec<_> = rows.collect();
    rows.sort();
    rows
}

pub(crate) async fn read_all_of(reader: &mut Reader, partitions: usize) -> Read {
    assigned(reader).await;
    read_to_end(reader, partitions).await
}
