//! Where the logs of partitions begin and end, as their leaders say.

use std::{collections::BTreeMap, time::Duration};

use rdkafka::{
    Offset as ClientOffset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code},
};
use tagflow_engine::source::Offset;

use super::client::Notes;

/// One end of a log.
#[derive(Debug, Clone, Copy)]
pub(super) enum Edge {
    /// Its oldest row.
    Start,
    /// After its newest row.
    End,
}

impl Edge {
    /// Asks for the edge of `partitions`, all at once.
    ///
    /// Not by `fetch_watermarks`, which asks for both edges: where the question
    /// for the start fails and that for the end does not, it gives the end for
    /// both (librdkafka 2.12).
    ///
    /// # Errors
    /// Where some leader has not answered, or with an error.
    pub(super) fn of(
        self,
        consumer: &BaseConsumer<Notes>,
        topic: &str,
        partitions: impl IntoIterator<Item = i32>,
        patience: Duration,
    ) -> KafkaResult<BTreeMap<i32, Offset>> {
        let edge = match self {
            Self::Start => ClientOffset::Beginning,
            Self::End => ClientOffset::End,
        };
        let mut wanted = TopicPartitionList::new();
        for partition in partitions {
            wanted.add_partition_offset(topic, partition, edge)?;
        }
        if wanted.count() == 0 {
            return Ok(BTreeMap::new());
        }
        let answer = consumer.offsets_for_times(wanted, patience)?;
        let elements = answer.elements();
        let offsets = elements.iter().map(|element| {
            element.error()?;
            match element.offset() {
                ClientOffset::Offset(offset) => Ok((element.partition(), offset)),
                _ => Err(KafkaError::MetadataFetch(Code::NoOffset)),
            }
        });
        offsets.collect()
    }
}
