use std::thread;

use tagflow_engine::{ErrorKind, SystemClock};

use super::*;
use crate::kafka::{KafkaConfig, MockBroker, queue};

fn reader(reports: Sender) -> TopicReader {
    TopicReader {
        control: Arc::new(Control::default()),
        reports,
        on_data_loss: OnDataLoss::Fail,
        limits: ChunkLimits {
            rows: 100,
            bytes: 1 << 20,
        },
        clock: Arc::new(SystemClock),
    }
}

/// The mock cannot add partitions to a topic. So the reader knows one partition only, and discovers
/// the other as if it were new.
#[tokio::test]
async fn a_new_partition_is_found_while_running() {
    let broker = MockBroker::start(1).unwrap();
    broker.create_topic("events", 2).unwrap();
    let (sender, mut reports) = queue::bounded(1 << 20);
    let reader = reader(sender);
    let control = Arc::clone(&reader.control);
    let consumer: BaseConsumer<EventContext> =
        KafkaConfig::new(broker.bootstrap_servers(), ["events"])
            .client("group")
            .create_with_context(EventContext::default())
            .unwrap();
    let opening = Startup::new(
        "events".into(),
        TopicPositions::default(),
        StartAt::Earliest,
        Duration::from_secs(10),
        broker.bootstrap_servers().into(),
        "group".into(),
    );
    let mut reading = Reading::new(reader, &opening);
    reading.add(0, 0);
    let thread = thread::spawn(move || {
        reading.assign(&consumer, &[0]).map_err(drop).unwrap();
        assert!(matches!(reading.read(&consumer), Err(End::Stopped)));
    });
    let found = tokio::time::timeout(Duration::from_secs(20), async {
        let mut assigned = false;
        loop {
            match reports.recv().await.unwrap() {
                Report::Event(SourceEvent::Assigned(partitions)) => {
                    assert_eq!(partitions, [("events/1".into(), 0)]);
                    assigned = true;
                }
                Report::Event(SourceEvent::CaughtUp { partition, .. })
                    if assigned && &*partition == "events/1" =>
                {
                    break;
                }
                _ => {}
            }
        }
    });
    found.await.expect("found and read");
    control.stop();
    thread.join().unwrap();
}

#[tokio::test]
async fn a_thread_that_dies_is_missed() {
    let (sender, mut reports) = queue::bounded(1 << 20);
    let died = thread::spawn(move || {
        let _obituary = PanicReport {
            topic: "events".into(),
            reports: sender,
        };
        panic!("on purpose");
    });
    died.join().unwrap_err();
    let Some(Report::Failed(error)) = reports.recv().await else {
        panic!("missed")
    };
    assert_eq!(error.kind(), ErrorKind::Internal);
    assert_eq!(error.to_string(), "the reader of Kafka topic `events` died");
}
