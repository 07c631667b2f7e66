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
    client,
    properties::{self, Properties},
};

/// A producer that loses nothing silently: sends are idempotent and count as
/// done when all replicas have the event. What is waiting to be sent is
/// bounded, by 100,000 events and 32 MiB.
///
/// Events with equal keys go to the same partition, the one that Java clients
/// choose too, and stay in order.
pub struct Producer {
    client: ThreadedProducer<Deliveries>,
    outcome: Arc<Mutex<Outcome>>,
    config: ClientConfig,
    brokers: String,
}

/// What [`Producer::ensure_topic`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EnsuredTopic {
    /// There was no such topic; there is now.
    Created,
    /// The topic was there, with the partitions that it has.
    Existed,
}

/// How long a send waits for room among what is waiting already.
const RETRY_AFTER: Duration = Duration::from_millis(2);

impl Producer {
    /// A producer to `brokers`; `properties` are librdkafka's, by their names
    /// there. Touches no network.
    ///
    /// # Errors
    /// `Config` where a property is not one that can be passed through.
    pub fn new(brokers: &str, properties: &BTreeMap<String, String>) -> Result<Self> {
        let mut problems: Vec<String> = properties::check_brokers(brokers).into_iter().collect();
        let found = properties::check(Properties::Producer, properties);
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
            brokers: brokers.to_owned(),
        })
    }

    /// Creates `topic` with `partitions` partitions, and the cluster's default
    /// of replicas, unless there is one of that name.
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

    /// Hands an event over for sending, waiting while too much is in flight.
    /// Without a payload it is a tombstone.
    ///
    /// # Errors
    /// `External` once any event before it could not be delivered.
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

    /// Waits until every event has been delivered, and says how many have been
    /// so far.
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

    /// How many events wait to be delivered.
    pub fn in_flight(&self) -> u64 {
        u64::try_from(self.client.in_flight_count()).unwrap_or(0)
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

/// What became of the events.
#[derive(Debug, Default)]
struct Outcome {
    delivered: u64,
    failed: u64,
    first_failure: Option<String>,
    /// Why the last broker that was lost was lost.
    connection: Option<String>,
}

struct Deliveries(Arc<Mutex<Outcome>>);

impl ClientContext for Deliveries {
    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() != Some(Code::AllBrokersDown) {
            let mut outcome = self.0.lock().unwrap_or_else(PoisonError::into_inner);
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
            Ok(_) => outcome.delivered += 1,
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
