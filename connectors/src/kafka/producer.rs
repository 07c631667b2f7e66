//! Sends events to Kafka, for `tagflow produce` and the demo.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rdkafka::{
    ClientConfig, ClientContext, Message,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    config::RDKafkaLogLevel,
    error::{KafkaError, RDKafkaErrorCode as Code},
    producer::{
        BaseRecord, DeliveryResult, NoCustomPartitioner, Producer as _, ProducerContext,
        ThreadedProducer,
    },
};
use tagflow_engine::{Error, Result};

use super::{
    client, newest,
    properties::{self, Side},
};

/// A producer that loses nothing silently: sends are idempotent and complete when all replicas have
/// the event. The send buffer is bounded by 100,000 events and 32 MiB.
///
/// Events with equal keys use the same partition, as with Java clients, and stay in order.
pub struct Producer {
    client: ThreadedProducer<Deliveries>,
    outcome: Arc<Mutex<Outcome>>,
    config: ClientConfig,
    properties: BTreeMap<String, String>,
    brokers: String,
}

/// The result of [`Producer::ensure_topic`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EnsuredTopic {
    /// The topic was missing and has been created.
    Created,
    /// The topic existed, with this number of partitions.
    Existed,
}

/// How long a send waits before it retries a full buffer.
const RETRY_AFTER: Duration = Duration::from_millis(2);

impl Producer {
    /// A producer to `brokers`; `properties` are librdkafka's, by their names there. Touches no
    /// network.
    ///
    /// # Errors
    /// `Config` where a property is not allowed.
    pub fn new(brokers: &str, properties: &BTreeMap<String, String>) -> Result<Self> {
        let mut problems: Vec<String> = properties::check_brokers(brokers).into_iter().collect();
        let found = properties::check(Side::Producer, properties);
        problems.extend(found.into_iter().map(|(_, message)| message));
        if !problems.is_empty() {
            return Err(Error::config(problems.join("; ")));
        }
        let mut config = ClientConfig::new();
        config
            .set("partitioner", "murmur2_random")
            .set("queue.buffering.max.messages", "100000")
            .set("queue.buffering.max.kbytes", "32768")
            .set("message.timeout.ms", "60000")
            .set("compression.type", "zstd");
        for (name, value) in properties {
            config.set(name, value);
        }
        config
            .set("bootstrap.servers", brokers)
            .set("enable.idempotence", "true");
        let outcome = Arc::new(Mutex::new(Outcome::default()));
        let client = config
            .create_with_context(Deliveries(Arc::clone(&outcome)))
            .map_err(|error| {
                Error::config("the Kafka client does not accept the properties of the producer")
                    .with_source(error)
            })?;
        Ok(Self {
            client,
            outcome,
            config,
            properties: properties.clone(),
            brokers: brokers.to_owned(),
        })
    }

    /// The newest event of each partition of `topic`. Empty if the topic does not
    /// exist yet, or if the cluster does not answer within a few seconds.
    ///
    /// # Errors
    /// `Config` if the client rejects a property.
    pub async fn newest_events(&self, topic: &str) -> Result<Vec<Vec<u8>>> {
        newest::events(&self.brokers, &self.properties, topic).await
    }

    /// Creates `topic` with `partitions` partitions and the cluster's default replication, unless
    /// it exists.
    ///
    /// # Errors
    /// `External` where the cluster does not answer or refuses.
    pub async fn ensure_topic(&self, topic: &str, partitions: u16) -> Result<EnsuredTopic> {
        let refused = |error: KafkaError| {
            Error::external(format!(
                "cannot create topic `{topic}` at `{}`",
                self.brokers
            ))
            .with_source(error)
        };
        let admin: AdminClient<DefaultClientContext> = self.config.create().map_err(refused)?;
        let created = NewTopic::new(topic, i32::from(partitions), TopicReplication::Fixed(-1));
        let options = AdminOptions::new().request_timeout(Some(Duration::from_secs(30)));
        let results = admin
            .create_topics([&created], &options)
            .await
            .map_err(refused)?;
        for result in results {
            match result {
                Ok(_) => {}
                Err((_, Code::TopicAlreadyExists)) => return Ok(EnsuredTopic::Existed),
                Err((_, code)) => return Err(refused(KafkaError::AdminOp(code))),
            }
        }
        Ok(EnsuredTopic::Created)
    }

    /// Enqueues an event; waits while the send buffer is full. Without a payload it is a tombstone.
    ///
    /// # Errors
    /// `External` once any earlier event could not be delivered.
    pub async fn send(
        &self,
        topic: &str,
        key: Option<&[u8]>,
        payload: Option<&[u8]>,
    ) -> Result<()> {
        loop {
            self.check()?;
            let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic);
            record.key = key;
            record.payload = payload;
            match self.client.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(Code::QueueFull), _)) => {}
                Err((error, _)) => {
                    return Err(Error::external(format!("cannot send to topic `{topic}`"))
                        .with_source(error));
                }
            }
            tokio::time::sleep(RETRY_AFTER).await;
        }
    }

    /// Waits until every event has been delivered, and returns the count so far.
    ///
    /// # Errors
    /// `External` where some could not be delivered.
    pub async fn flush(&self) -> Result<u64> {
        while self.client.in_flight_count() > 0 {
            tokio::time::sleep(RETRY_AFTER).await;
        }
        self.check()?;
        Ok(self.outcome().delivered)
    }

    /// The number of undelivered events.
    pub fn in_flight(&self) -> u64 {
        u64::try_from(self.client.in_flight_count()).unwrap_or(0)
    }

    /// The number of delivered events.
    pub fn delivered(&self) -> u64 {
        self.outcome().delivered
    }

    /// Why the cluster has not been reached since the last delivered event, if it refuses.
    pub fn problem(&self) -> Option<String> {
        self.outcome().connection.clone()
    }

    fn check(&self) -> Result<()> {
        let outcome = self.outcome();
        let Some(failure) = &outcome.first_failure else {
            return Ok(());
        };
        let because = outcome
            .connection
            .as_ref()
            .map_or_else(String::new, |reason| format!(" ({reason})"));
        Err(Error::external(format!(
            "{} of {} events were not delivered to Kafka at `{}`: {failure}{because}",
            outcome.failed,
            outcome.failed + outcome.delivered,
            self.brokers,
        )))
    }

    fn outcome(&self) -> std::sync::MutexGuard<'_, Outcome> {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer")
            .field("brokers", &self.brokers)
            .field("in_flight", &self.in_flight())
            .finish_non_exhaustive()
    }
}

/// The delivery results.
#[derive(Debug, Default)]
struct Outcome {
    delivered: u64,
    failed: u64,
    first_failure: Option<String>,
    /// Why the broker that was lost last disconnected; `None` after a delivery.
    connection: Option<String>,
}

struct Deliveries(Arc<Mutex<Outcome>>);

impl ClientContext for Deliveries {
    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() != Some(Code::AllBrokersDown) {
            let mut outcome = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            // Without the duration of the attempt, which differs each time.
            let reason = reason.split(" (after ").next().unwrap_or(reason);
            outcome.connection = Some(reason.to_owned());
        }
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        client::log(level, facility, message);
    }
}

impl ProducerContext<NoCustomPartitioner> for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, _opaque: ()) {
        let mut outcome = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match result {
            Ok(_) => {
                outcome.delivered += 1;
                outcome.connection = None;
            }
            Err((error, message)) => {
                outcome.failed += 1;
                if outcome.first_failure.is_none() {
                    let what = error
                        .rdkafka_error_code()
                        .map_or_else(|| error.to_string(), |code| code.to_string());
                    outcome.first_failure = Some(format!("topic `{}`: {what}", message.topic()));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_set_is_refused() {
        let properties = BTreeMap::from([("acks".to_owned(), "0".to_owned())]);
        let error = Producer::new("localhost:9092", &properties).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`acks` cannot be set: an event counts as sent when all replicas have it"
        );
    }
}
