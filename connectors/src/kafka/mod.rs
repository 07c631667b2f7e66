//! Kafka: the source that reads topics, the producer that fills them, and a mock broker for tests
//! and demos. Only this module uses librdkafka.
//!
//! # How reading works
//!
//! Each topic has its own consumer on its own thread (`reader::TopicReader`). The thread opens the
//! topic (`startup`) and polls the consumer at least every 100 ms. It passes every message through
//! the offset gate (`offset_tracker`) and copies it once into the chunk of its partition (`chunk`). It sends
//! chunks into a queue that is bounded in bytes (`queue`). While the queue is full, the thread
//! pauses the partitions: the client keeps its connections and memory does not grow.
//! `source::KafkaReader` is the async end of the queue. The engine commands the threads through
//! `control`.
//!
//! Each topic has its own consumer because the client reports the end of a partition by the
//! partition's number only. With several topics in one consumer the topic would be unknown.
//!
//! # How positions stay correct
//!
//! The commit log is the only authority on positions. Partitions are assigned at its offsets, never
//! subscribed, never sought, and the client's own offset handling is off. Offsets committed to the
//! consumer group only inform lag tools. Reading does not rely on the broker's answer for the log's
//! end either: the end of a partition is where a fetch was empty.

mod chunk;
mod client;
mod component;
mod config;
mod control;
mod log_bounds;
mod mock;
mod newest;
mod offset_tracker;
mod partition;
mod producer;
mod properties;
mod queue;
mod reachability;
mod reader;
mod source;
mod startup;

#[cfg(test)]
mod tests;

pub use config::{KafkaConfig, OnDataLoss, Properties, StartAt};
pub use mock::MockBroker;
pub use producer::{EnsuredTopic, Producer};
pub use source::KafkaSource;
