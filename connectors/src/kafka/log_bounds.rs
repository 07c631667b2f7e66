//! The bounds of the partitions' logs, from their leaders.

use std::{collections::BTreeMap, time::Duration};

use rdkafka::{
    Offset as ClientOffset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code},
};
use tagflow_engine::source::Offset;

use super::client::EventContext;

/// One bound of a log.
#[derive(Debug, Clone, Copy)]
pub(super) enum LogBound {
    /// Its oldest row.
    Start,
    /// After its newest row.
    End,
}

impl LogBound {
    /// Requests one bound of all `partitions` at once.
    ///
    /// It avoids `fetch_watermarks`, which requests both bounds: if only the request for the start
    /// fails, that returns the end for both (librdkafka 2.12).
    ///
    /// # Errors
    /// If some leader does not answer, or answers with an error.
    pub(super) fn of(
        self,
        consumer: &BaseConsumer<EventContext>,
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
