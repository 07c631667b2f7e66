//! The source passes the conformance tests of sources.

use std::{collections::BTreeMap, sync::Arc};

use tagflow_engine::{SystemClock, source::Positions};

use super::{KafkaConfig, KafkaSource, MockBroker, Producer};
use crate::testing::{check_resume, read_all};

#[tokio::test]
async fn conforms() {
    let broker = MockBroker::start(1).unwrap();
    broker.create_topic("clicks", 2).unwrap();
    broker.create_topic("orders", 1).unwrap();
    let producer = Producer::new(broker.bootstrap_servers(), &BTreeMap::new()).unwrap();
    for (topic, rows) in [("clicks", 6), ("orders", 2)] {
        for row in 0..rows {
            let row = format!("{topic}-{row}");
            let sent = producer.send(topic, Some(row.as_bytes()), Some(row.as_bytes()));
            sent.await.unwrap();
        }
    }
    producer.flush().await.unwrap();
    let config = KafkaConfig::new(broker.bootstrap_servers(), ["clicks", "orders"]);
    let source = KafkaSource::new(config, "test", Arc::new(SystemClock));
    let whole = read_all(&source, &Positions::new(), 3).await;
    let count = |of: &str| {
        let rows = whole.rows.values().flatten();
        rows.filter(|(_, text)| text.starts_with(of)).count()
    };
    assert_eq!((count("clicks"), count("orders")), (6, 2));
    check_resume(&source, &whole).await;
}
