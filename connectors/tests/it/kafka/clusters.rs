//! Positions that were read in one cluster, and brokers of another.

use std::time::Duration;

use tagflow_connectors::kafka::{KafkaConfig, OnDataLoss};
use tagflow_engine::{
    ErrorKind,
    source::{Offset, Positions, SourceEvent},
};
use tokio::time::sleep;

use super::{
    fake::{CLUSTER, FakeBroker, Log, TOPIC},
    harness::*,
};

const LOG: Log = Log { id: 1, rows: 50 };

fn config_of(broker: &FakeBroker, on_data_loss: OnDataLoss) -> KafkaConfig {
    let mut config = config_at(&broker.servers(), &[TOPIC]);
    config.on_data_loss = on_data_loss.into();
    config
}

/// The reports of a reader up to the first end: partitions, the cluster, and rows.
#[derive(Debug, Default, PartialEq)]
struct Reported {
    partitions: Vec<(String, Offset)>,
    cluster: Option<String>,
    rows: Vec<String>,
}

async fn report(reader: &mut Reader) -> Reported {
    let mut reported = Reported::default();
    let mut read = Read::new();
    loop {
        match next(reader).await.unwrap() {
            SourceEvent::Assigned(partitions) => {
                let partitions = partitions.into_iter();
                let partitions = partitions.map(|(name, next)| (name.to_string(), next));
                reported.partitions.extend(partitions);
            }
            SourceEvent::System { part, id } => {
                assert_eq!(&*part, TOPIC);
                assert!(!reported.partitions.is_empty(), "after the partitions");
                assert!(read.is_empty(), "before the rows");
                reported.cluster = Some(id.to_string());
            }
            SourceEvent::Chunk(chunk) => absorb(&mut read, &chunk),
            SourceEvent::CaughtUp { .. } => {
                reported.rows = values(&read);
                return reported;
            }
            _ => {}
        }
    }
}

/// The partition, the cluster, and the rows from `from` on.
fn expected(partition: &str, from: u32, cluster: Option<&str>) -> Reported {
    Reported {
        partitions: vec![(partition.to_owned(), Offset::from(from))],
        cluster: cluster.map(str::to_owned),
        rows: sorted(numbered(from..LOG.rows)),
    }
}

#[tokio::test]
async fn the_cluster_of_positions_is_reported() {
    let broker = FakeBroker::start(LOG);
    let config = config_of(&broker, OnDataLoss::Fail);
    let mut reader = open(config.clone(), &Positions::new()).await.unwrap();
    let first = expected("events/0", 0, Some(CLUSTER));
    assert_eq!(report(&mut reader).await, first);

    let at = positions(&[("events/0", 40)]);
    let rest = expected("events/0", 40, Some(CLUSTER));
    // As the log names it, and where an older build wrote the log.
    for known in [&[(TOPIC, CLUSTER)][..], &[]] {
        let mut reader = open_in(config.clone(), &at, known).await.unwrap();
        assert_eq!(report(&mut reader).await, rest);
    }
    // A cluster without an id is accepted.
    broker.set_cluster("");
    let mut reader = open_in(config, &at, &[(TOPIC, "any")]).await.unwrap();
    assert_eq!(
        report(&mut reader).await,
        expected("events/0", 40, Some("any"))
    );
}

/// The other topic has as many rows, so its end does not show the difference.
#[tokio::test]
async fn regression_brokers_of_another_cluster_are_noticed_at_start() {
    let broker = FakeBroker::start(LOG);
    let at = positions(&[("events/0", 40)]);
    let known = &[(TOPIC, "first")][..];
    let error = open_in(config_of(&broker, OnDataLoss::Fail), &at, known).await;
    let error = error.err().expect("refused");
    assert_eq!(error.kind(), ErrorKind::Data);
    let expected_error = format!(
        "the pipeline has read topic `events` in Kafka cluster `first`, but `{}` belongs to \
         cluster `fake`: an offset of one cluster means another row in the next; if `brokers` is \
         wrong, correct it; to read the topic from its start, set `on_data_loss: record` or run \
         with `--reset` and the source's name",
        broker.servers()
    );
    assert_eq!(error.to_string(), expected_error);

    let mut reader = open_in(config_of(&broker, OnDataLoss::Record), &at, known)
        .await
        .unwrap();
    let all = expected("events/0#2", 0, Some(CLUSTER));
    assert_eq!(report(&mut reader).await, all);

    // Nothing was read there: there is nothing to lose or to double.
    let config = config_of(&broker, OnDataLoss::Fail);
    let mut reader = open_in(config, &Positions::new(), known).await.unwrap();
    let all = expected("events/0", 0, Some(CLUSTER));
    assert_eq!(report(&mut reader).await, all);
}

#[tokio::test]
async fn regression_another_cluster_is_noticed_while_running() {
    for on_data_loss in [OnDataLoss::Fail, OnDataLoss::Record] {
        let broker = FakeBroker::start(LOG);
        let config = config_of(&broker, on_data_loss);
        let mut reader = open(config, &Positions::new()).await.unwrap();
        report(&mut reader).await;
        broker.down();
        sleep(Duration::from_millis(700)).await;
        broker.set_cluster("second");
        broker.up();
        if on_data_loss == OnDataLoss::Record {
            loop {
                let reported = report(&mut reader).await;
                if reported.cluster.as_deref() == Some("second") {
                    assert_eq!(reported, expected("events/0#2", 0, Some("second")));
                    break;
                }
            }
            continue;
        }
        let error = loop {
            if let Err(error) = next(&mut reader).await {
                break error.to_string();
            }
        };
        let message = "topic `events` in Kafka cluster `fake`, but";
        assert!(error.contains(message), "{error}");
        assert!(error.contains("belongs to cluster `second`"), "{error}");
    }
}
