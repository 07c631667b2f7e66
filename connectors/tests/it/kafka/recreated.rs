//! A deleted and recreated topic, and a broker that has lost its data.

use std::time::Duration;

use tagflow_connectors::kafka::{KafkaConfig, OnDataLoss};
use tagflow_engine::{
    ErrorKind, Result,
    source::{Positions, SourceEvent},
};
use tokio::time::sleep;

use super::{
    fake::{FakeBroker, Log, TOPIC},
    harness::*,
};

const BEFORE: Log = Log { id: 1, rows: 50 };
const SHORTER: Log = Log { id: 2, rows: 10 };

fn config_of(broker: &FakeBroker, on_data_loss: OnDataLoss) -> KafkaConfig {
    let mut config = config_at(&broker.servers(), &[TOPIC]);
    config.on_data_loss = on_data_loss.into();
    config
}

/// Opens the topic and reads its rows before the test changes it.
async fn read_before(broker: &FakeBroker, on_data_loss: OnDataLoss) -> Reader {
    let config = config_of(broker, on_data_loss);
    let mut reader = open(config, &Positions::new()).await.unwrap();
    let read = read_all_of(&mut reader, 1).await;
    assert_eq!(values(&read), sorted(numbered(0..BEFORE.rows)));
    reader
}

/// Reads to the first error.
async fn error_of(reader: &mut Reader) -> String {
    loop {
        if let Err(error) = next(reader).await {
            assert_eq!(error.kind(), ErrorKind::Data, "{error}");
            return error.to_string();
        }
    }
}

/// Reads until the second topic of the name is at its end; its rows.
async fn read_second(reader: &mut Reader) -> Result<Vec<String>> {
    let mut read = Read::new();
    let mut is_assigned = false;
    loop {
        match next(reader).await? {
            SourceEvent::Assigned(partitions) => {
                is_assigned = partitions.iter().any(|(name, _)| &**name == "events/0#2");
            }
            // A run that ends at the end of all partitions must not end here.
            SourceEvent::Finished(_) => assert!(is_assigned, "nothing is left to read"),
            SourceEvent::Chunk(chunk) => absorb(&mut read, &chunk),
            SourceEvent::CaughtUp { partition, end } if &*partition == "events/0#2" => {
                assert_eq!(end, i64::from(SHORTER.rows));
                return Ok(values(&read));
            }
            _ => {}
        }
    }
}

const BEYOND_END: &str =
    "the pipeline has read `events/0` up to offset 50, but the partition ends at offset 10";

/// The broker refuses nothing: it answers that there are no new rows.
#[tokio::test]
async fn regression_a_recreated_topic_with_fewer_rows_is_noticed_at_start() {
    let broker = FakeBroker::start(SHORTER);
    let at = positions(&[("events/0", 50)]);
    let mut reader = open(config_of(&broker, OnDataLoss::Fail), &at)
        .await
        .unwrap();
    let error = error_of(&mut reader).await;
    assert!(error.starts_with(BEYOND_END), "{error}");
    assert!(error.contains("`on_data_loss: record`"), "{error}");
    assert!(error.contains("`--reset`"), "{error}");

    let mut reader = open(config_of(&broker, OnDataLoss::Record), &at)
        .await
        .unwrap();
    let rows = read_second(&mut reader).await.unwrap();
    assert_eq!(rows, sorted(numbered(0..SHORTER.rows)));

    // A later run continues at the end of the second topic.
    let at = positions(&[("events/0", 50), ("events/0#2", 4)]);
    let mut reader = open(config_of(&broker, OnDataLoss::Fail), &at)
        .await
        .unwrap();
    assert_eq!(
        assigned(&mut reader).await,
        [("events/0#2".to_owned(), 4)].into()
    );
    let rows = read_to_end(&mut reader, 1).await;
    assert_eq!(values(&rows), sorted(numbered(4..SHORTER.rows)));
}

#[tokio::test]
async fn regression_a_topic_that_shrinks_is_noticed_while_it_is_read() {
    let shorter = Some(Log {
        rows: SHORTER.rows,
        ..BEFORE
    });
    let broker = FakeBroker::start(BEFORE);
    let mut reader = read_before(&broker, OnDataLoss::Fail).await;
    broker.set_log(shorter);
    let error = error_of(&mut reader).await;
    assert!(error.starts_with(BEYOND_END), "{error}");

    broker.set_log(Some(BEFORE));
    let mut reader = read_before(&broker, OnDataLoss::Record).await;
    broker.set_log(shorter);
    let rows = read_second(&mut reader).await.unwrap();
    assert_eq!(rows, sorted(numbered(0..SHORTER.rows)));
}

/// The client asked the new broker for the id of the old topic; the answer, with an id of zeros,
/// ended the process with a segmentation fault.
#[tokio::test]
async fn regression_a_broker_that_returns_with_another_topic_does_not_end_the_process() {
    for on_data_loss in [OnDataLoss::Fail, OnDataLoss::Record] {
        let broker = FakeBroker::start(BEFORE);
        let mut reader = read_before(&broker, on_data_loss).await;
        broker.down();
        // About the start time of a broker.
        sleep(Duration::from_millis(700)).await;
        broker.set_log(Some(SHORTER));
        broker.up();
        if on_data_loss == OnDataLoss::Fail {
            let error = error_of(&mut reader).await;
            assert!(error.starts_with(BEYOND_END), "{error}");
        } else {
            let rows = read_second(&mut reader).await.unwrap();
            assert_eq!(rows, sorted(numbered(0..SHORTER.rows)));
        }
    }
}

#[tokio::test]
async fn regression_a_broker_that_returns_without_the_topic_is_an_error() {
    let broker = FakeBroker::start(BEFORE);
    let mut reader = read_before(&broker, OnDataLoss::Record).await;
    broker.down();
    sleep(Duration::from_millis(700)).await;
    broker.set_log(None);
    broker.up();
    let error = error_of(&mut reader).await;
    let expected = "has no topic `events` any more, and the pipeline has read `events/0` up to \
                    offset 50";
    assert!(error.contains(expected), "{error}");
}

/// The topic is the same: reading continues.
#[tokio::test]
async fn a_broker_that_returns_with_its_topic_is_read_on() {
    let broker = FakeBroker::start(BEFORE);
    let mut reader = read_before(&broker, OnDataLoss::Fail).await;
    broker.down();
    sleep(Duration::from_millis(700)).await;
    broker.set_log(Some(Log { rows: 60, ..BEFORE }));
    broker.up();
    let read = read_rows(&mut reader, 10).await;
    assert_eq!(values(&read), sorted(numbered(50..60)));
}
