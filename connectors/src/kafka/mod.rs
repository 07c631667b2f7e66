//! Kafka: the source that reads topics, the producer that fills them, and a
//! mock broker for tests and demos. The one door to librdkafka.
//!
//! # How reading works
//!
//! Each topic has a consumer of its own on a thread of its own
//! (`reader::TopicReader`). The thread opens the topic (`opening`), polls
//! the consumer at least every 100 ms, lets every message through the offset
//! gate (`gate`), copies it once into the chunk of its partition (`chunk`),
//! and sends chunks into a queue that is bounded in bytes (`queue`). When the
//! queue stays full the partitions are paused, so that the client keeps its
//! connections and nothing else grows. `source::KafkaReader` is the async end
//! of the queue; what the engine wants of the threads travels the other way
//! through `control`.
//!
//! One consumer a topic, because the client reports the end of a partition by
//! the partition's number only: with several topics in one consumer it could
//! not be told whose end was reached.
//!
//! # What keeps the positions right
//!
//! The commit log is the only authority on positions: partitions are assigned
//! at its offsets, never subscribed, never sought, and the client's own offset
//! handling is off. Offsets committed to the consumer group are advice for lag
//! tools. What the broker answers to "where does the log end?" is not relied
//! on for reading either: the end of a partition is where a fetch was empty.

mod chunk;
mod client;
mod config;
mod control;
mod edge;
mod gate;
mod mock;
mod opening;
mod partition;
mod producer;
mod properties;
mod queue;
mod reachability;
mod reader;
mod source;

#[cfg(test)]
mod tests;

pub use config::{KafkaConfig, OnDataLoss, StartAt};
pub use mock::MockBroker;
pub use producer::{EnsuredTopic, Producer};
pub use source::KafkaSource;
