//! The client's callbacks. They run inside `poll`, on the polling thread, and only record facts for
//! it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use rdkafka::{
    ClientContext, Statistics, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::ConsumerContext,
    error::{KafkaError, KafkaResult},
};

/// The facts that the callbacks recorded since the last call.
#[derive(Debug, Default)]
pub(super) struct EventContext {
    reason: Mutex<Option<String>>,
    statistics: Mutex<Option<Statistics>>,
}

impl EventContext {
    /// The client's own message for the last error of `poll`.
    pub(super) fn take_reason(&self) -> Option<String> {
        lock(&self.reason).take()
    }

    /// The newest statistics.
    pub(super) fn take_statistics(&self) -> Option<Statistics> {
        lock(&self.statistics).take()
    }
}

impl ClientContext for EventContext {
    fn stats(&self, statistics: Statistics) {
        *lock(&self.statistics) = Some(statistics);
    }

    fn error(&self, _error: KafkaError, reason: &str) {
        *lock(&self.reason) = Some(reason.to_owned());
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }
}

impl ConsumerContext for EventContext {
    fn commit_callback(&self, result: KafkaResult<()>, _offsets: &TopicPartitionList) {
        if let Err(error) = result {
            tracing::warn!(%error, "cannot commit offsets to the consumer group; this only affects lag tools");
        }
    }
}

/// The client's log. Lost connections are reported as events, not as errors.
pub(super) fn log(level: RDKafkaLogLevel, facility: &str, message: &str) {
    let of_connection = matches!(facility, "FAIL" | "ERROR" | "RESOLVE" | "REQTMOUT");
    match level {
        RDKafkaLogLevel::Emerg
        | RDKafkaLogLevel::Alert
        | RDKafkaLogLevel::Critical
        | RDKafkaLogLevel::Error
        | RDKafkaLogLevel::Warning
            if !of_connection =>
        {
            tracing::warn!(target: "librdkafka", facility, "{message}");
        }
        _ => tracing::debug!(target: "librdkafka", facility, "{message}"),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
