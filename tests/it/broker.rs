//! A Kafka broker in the test's own process.

use rdkafka::{
    ClientConfig,
    mocking::MockCluster,
    producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer as _},
};

use crate::rows::Row;

/// librdkafka's mock cluster; it keeps at most 5 MiB of a partition.
pub(crate) struct Broker {
    cluster: MockCluster<'static, DefaultProducerContext>,
}

impl Broker {
    pub(crate) fn new(topic: &str, partitions: i32) -> Self {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic(topic, partitions, 1).unwrap();
        Self { cluster }
    }

    pub(crate) fn address(&self) -> String {
        self.cluster.bootstrap_servers()
    }

    /// Closes all connections and accepts none, until [`Broker::up`].
    pub(crate) fn down(&self) {
        self.cluster.broker_down(-1).unwrap();
    }

    /// Accepts connections again.
    pub(crate) fn up(&self) {
        self.cluster.broker_up(-1).unwrap();
    }

    /// Sends rows to the partitions in turn.
    pub(crate) fn send_rows(&self, topic: &str, partitions: i32, rows: &[Row]) {
        let messages = rows.iter().enumerate().map(|(index, row)| {
            let partition = index as i32 % partitions;
            (partition, Some(row.json().into_bytes()))
        });
        self.send(topic, messages);
    }

    /// Sends payloads to partitions; `None` is a tombstone.
    pub(crate) fn send(
        &self,
        topic: &str,
        messages: impl IntoIterator<Item = (i32, Option<Vec<u8>>)>,
    ) {
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", self.address())
            .set("queue.buffering.max.messages", "1000000")
            .set("linger.ms", "1")
            .set("message.max.bytes", "30000000")
            .create()
            .unwrap();
        for (partition, payload) in messages {
            let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic).partition(partition);
            record.payload = payload.as_deref();
            producer.send(record).map_err(|(error, _)| error).unwrap();
        }
        producer.flush(std::time::Duration::from_secs(30)).unwrap();
    }
}
