//! The Kafka source against librdkafka's mock cluster, and against Tansu.

mod clusters;
mod fake;
mod faults;
mod harness;
mod holes;
mod recreated;
mod tansu;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::TcpListener,
    sync::Arc,
    time::Duration,
};

use tagflow_connectors::kafka::{KafkaConfig, MockBroker, OnDataLoss, Producer, StartAt};
use tagflow_engine::{
    ErrorKind, EventTime,
    source::{Offset, Positions, Reference, Rows, SourceEvent},
};
use tokio::time::timeout;

use harness::*;

#[tokio::test]
async fn every_row_of_every_partition_is_read_in_order() {
    let broker = broker(&[("events", 4)]);
    produce(&broker, "events", numbered(0..20_000)).await;
    let mut reader = open(config(&broker, &["events"]), &Positions::new())
        .await
        .unwrap();
    let names: Vec<_> = assigned(&mut reader).await.into_iter().collect();
    let expected = ["events/0", "events/1", "events/2", "events/3"];
    assert_eq!(names, expected.map(|name| (name.to_owned(), 0)));
    let read = read_to_end(&mut reader, 4).await;
    assert_eq!(values(&read), sorted(numbered(0..20_000)));
    for (name, rows) in &read {
        assert!(rows.len() > 1_000, "{name} has its share");
        assert!(
            rows.iter()
                .map(|(offset, _)| *offset)
                .eq(0..rows.len() as Offset)
        );
    }
}

#[tokio::test]
async fn rows_are_judged_against_the_time_of_receipt() {
    let broker = broker(&[("events", 1)]);
    produce(&broker, "events", numbered(0..1)).await;
    let mut reader = open(config(&broker, &["events"]), &Positions::new())
        .await
        .unwrap();
    assigned(&mut reader).await;
    let chunk = loop {
        if let SourceEvent::Chunk(chunk) = next(&mut reader).await.unwrap() {
            break chunk;
        }
    };
    let Rows::Encoded(rows) = chunk.rows else {
        panic!("encoded")
    };
    let Reference::Received(at) = rows.reference else {
        panic!("received")
    };
    assert!(
        at > EventTime::from_micros(1_700_000_000_000_000),
        "a time of day: {at}"
    );
}

#[tokio::test]
async fn it_goes_on_at_the_positions_of_the_log() {
    let broker = broker(&[("events", 1)]);
    produce(&broker, "events", numbered(0..1_000)).await;
    let mut latest = config(&broker, &["events"]);
    latest.start = StartAt::Latest.into();
    let at = positions(&[("events/0", 990), ("of-old/0", 5)]);
    let mut reader = open(latest, &at).await.unwrap();
    assert_eq!(
        assigned(&mut reader).await,
        BTreeMap::from([("events/0".to_owned(), 990)])
    );
    assert_eq!(
        values(&read_to_end(&mut reader, 1).await),
        sorted(numbered(990..1_000))
    );
}

#[tokio::test]
async fn a_topic_never_read_begins_where_start_says() {
    let broker = broker(&[("events", 1)]);
    produce(&broker, "events", numbered(0..10)).await;
    for (start, begin) in [
        (StartAt::Earliest, 0),
        (StartAt::Latest, 10),
        (StartAt::Committed, 0),
    ] {
        let mut config = config(&broker, &["events"]);
        config.start = start.into();
        let mut reader = open(config, &Positions::new()).await.unwrap();
        let assigned = assigned(&mut reader).await;
        assert_eq!(
            assigned,
            BTreeMap::from([("events/0".to_owned(), begin)]),
            "{start:?}"
        );
    }
}

#[tokio::test]
async fn a_partition_unknown_to_the_log_of_a_known_topic_is_read_from_its_beginning() {
    let broker = broker(&[("events", 2)]);
    produce(&broker, "events", numbered(0..100)).await;
    let mut config = config(&broker, &["events"]);
    config.start = StartAt::Latest.into();
    let mut reader = open(config, &positions(&[("events/0", 3)])).await.unwrap();
    let expected = BTreeMap::from([("events/0".to_owned(), 3), ("events/1".to_owned(), 0)]);
    assert_eq!(assigned(&mut reader).await, expected);
}

#[tokio::test]
async fn what_was_committed_is_told_to_the_group() {
    let broker = broker(&[("events", 2)]);
    produce(&broker, "events", numbered(0..100)).await;
    let mut config = config(&broker, &["events"]);
    config.start = StartAt::Committed.into();
    config.group_id = Some("lag-tool".into());
    let mut reader = open(config.clone(), &Positions::new()).await.unwrap();
    read_all_of(&mut reader, 2).await;
    reader.committed(&positions(&[("events/0", 7), ("elsewhere/0", 1)]));
    // The commit is asynchronous: read until it is visible.
    timeout(PATIENCE, async {
        loop {
            let mut another = open(config.clone(), &Positions::new()).await.unwrap();
            let begin = assigned(&mut another).await;
            assert_eq!(begin["events/1"], 0, "falls back to the oldest row");
            if begin["events/0"] == 7 {
                break;
            }
        }
    })
    .await
    .expect("the commit was seen");
}

#[tokio::test]
async fn tombstones_empty_and_large_rows_arrive() {
    let broker = broker(&[("events", 1)]);
    let large = "x".repeat(3_000_000);
    let producer = producer(broker.bootstrap_servers());
    for value in [Some("a"), None, Some(""), Some(&large), Some("z")] {
        producer
            .send("events", Some(b"k"), value.map(str::as_bytes))
            .await
            .unwrap();
    }
    assert_eq!(producer.flush().await.unwrap(), 5);
    let mut reader = open(config(&broker, &["events"]), &Positions::new())
        .await
        .unwrap();
    let read = read_all_of(&mut reader, 1).await;
    let expected = [Some("a"), None, Some(""), Some(&*large), Some("z")];
    let expected: Vec<_> = (0..)
        .zip(expected.map(|value| value.map(|text| text.as_bytes().to_vec())))
        .collect();
    assert!(read["events/0"] == expected, "rows differ");
}

#[tokio::test]
async fn each_end_is_reported_for_the_right_topic_and_confirmed() {
    let broker = broker(&[("a", 2), ("b", 1)]);
    produce(&broker, "a", numbered(0..100)).await;
    let mut reader = open(config(&broker, &["a", "b"]), &Positions::new())
        .await
        .unwrap();
    let names: Vec<_> = assigned(&mut reader).await.into_keys().collect();
    assert_eq!(names, ["a/0", "a/1", "b/0"]);
    let read = read_to_end(&mut reader, 3).await;
    assert_eq!(values(&read), sorted(numbered(0..100)));

    produce(&broker, "b", numbered(0..3)).await;
    let mut ends: BTreeMap<String, Vec<Offset>> = BTreeMap::new();
    while ends.len() < 3 || ends.values().any(|ends| ends.len() < 3) {
        if let SourceEvent::CaughtUp { partition, end } = next(&mut reader).await.unwrap() {
            ends.entry(partition.to_string()).or_default().push(end);
        }
    }
    for (name, ends) in ends {
        let last = read.get(&name).map_or(3, Vec::len) as Offset;
        assert_eq!(ends.last(), Some(&last), "{name}: {ends:?}");
        assert!(ends.is_sorted(), "{name}: {ends:?}");
    }
}

/// A broker without answers confirms no end, however often it was asked before.
#[tokio::test]
async fn an_end_is_not_confirmed_while_the_broker_is_silent() {
    let broker = broker(&[("events", 1)]);
    let mut reader = open(config(&broker, &["events"]), &Positions::new())
        .await
        .unwrap();
    read_all_of(&mut reader, 1).await;
    broker.down().unwrap();
    while !matches!(
        next(&mut reader).await.unwrap(),
        SourceEvent::Unreachable(_)
    ) {}
    let silent = timeout(Duration::from_secs(3), async {
        loop {
            if let SourceEvent::CaughtUp { .. } = reader.next().await.unwrap() {
                return;
            }
        }
    });
    silent.await.unwrap_err();
}

#[tokio::test]
async fn the_lag_is_what_is_left_to_read() {
    let broker = broker(&[("events", 1)]);
    produce(&broker, "events", numbered(0..1_000)).await;
    let mut reader = open(config(&broker, &["events"]), &Positions::new())
        .await
        .unwrap();
    let mut lags = Vec::new();
    while lags.last() != Some(&0) {
        if let SourceEvent::Lag { rows, .. } = next(&mut reader).await.unwrap() {
            lags.push(rows);
        }
    }
    reader.pause("events/0");
    // Once the thread has read a command the partition no longer moves, whatever is sent.
    tokio::time::sleep(Duration::from_millis(500)).await;
    produce(&broker, "events", numbered(0..10)).await;
    while let Ok(event) = timeout(Duration::from_millis(1500), reader.next()).await {
        assert!(!matches!(event.unwrap(), SourceEvent::Chunk(_)), "paused");
    }
    reader.resume("events/0");
    assert_eq!(read_to_end(&mut reader, 1).await["events/0"].len(), 10);
}

#[tokio::test]
async fn an_unreachable_broker_is_waited_for() {
    let broker = broker(&[("events", 1)]);
    produce(&broker, "events", numbered(0..10)).await;
    broker.down().unwrap();
    let mut reader = open(config(&broker, &["events"]), &Positions::new())
        .await
        .unwrap();
    let SourceEvent::Unreachable(message) = next(&mut reader).await.unwrap() else {
        panic!("said to be unreachable")
    };
    assert!(message.contains(broker.bootstrap_servers()), "{message}");
    timeout(Duration::from_millis(200), reader.next())
        .await
        .unwrap_err();

    broker.up().unwrap();
    assert!(matches!(
        next(&mut reader).await.unwrap(),
        SourceEvent::Reachable
    ));
    assert_eq!(read_all_of(&mut reader, 1).await["events/0"].len(), 10);

    broker.down().unwrap();
    while !matches!(
        next(&mut reader).await.unwrap(),
        SourceEvent::Unreachable(_)
    ) {}
    broker.up().unwrap();
    while !matches!(next(&mut reader).await.unwrap(), SourceEvent::Reachable) {}
    produce(&broker, "events", numbered(10..20)).await;
    assert_eq!(
        values(&read_rows(&mut reader, 10).await),
        sorted(numbered(10..20))
    );
}

#[tokio::test]
async fn nobody_listening_is_not_an_error_either() {
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let config = KafkaConfig::new(format!("127.0.0.1:{port}"), ["events"]);
    let mut reader = open(config, &Positions::new()).await.unwrap();
    let SourceEvent::Unreachable(message) = next(&mut reader).await.unwrap() else {
        panic!("said to be unreachable")
    };
    assert!(message.contains("refused"), "says why: {message}");
}

#[tokio::test]
async fn an_unknown_topic_is_a_mistake_in_the_configuration() {
    let broker = broker(&[("events", 1)]);
    let config = config(&broker, &["events", "evnets"]);
    let error = open(config, &Positions::new())
        .await
        .err()
        .expect("refused");
    assert_eq!(error.kind(), ErrorKind::Config);
    let expected = format!(
        "Kafka at `{}` has no topic `evnets`; create it, or name one that is there: `events`",
        broker.bootstrap_servers()
    );
    assert_eq!(error.to_string(), expected);
}

#[tokio::test]
async fn a_topic_created_in_a_moment_is_waited_for() {
    let broker = Arc::new(broker(&[]));
    let mut config = config(&broker, &["events"]);
    config.topic_wait = PATIENCE;
    let creator = Arc::clone(&broker);
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(300)).await;
        creator.create_topic("events", 1).unwrap();
    });
    let mut reader = open(config, &Positions::new()).await.unwrap();
    assert_eq!(
        assigned(&mut reader).await,
        BTreeMap::from([("events/0".to_owned(), 0)])
    );
}

/// A broker that has deleted the first rows of its one partition, as the mock does beyond 5 MiB.
async fn broker_that_forgot() -> MockBroker {
    let broker = broker(&[("events", 1)]);
    let filler = "x".repeat(10_000);
    produce(
        &broker,
        "events",
        numbered(0..1_000).map(|row| format!("{row} {filler}")),
    )
    .await;
    broker
}

#[tokio::test]
async fn lost_rows_are_an_error() {
    let broker = broker_that_forgot().await;
    let mut reader = open(config(&broker, &["events"]), &positions(&[("events/0", 5)]))
        .await
        .unwrap();
    assigned(&mut reader).await;
    let error = loop {
        match next(&mut reader).await {
            Ok(SourceEvent::Lag { .. } | SourceEvent::System { .. }) => {}
            Ok(other) => unexpected(&other),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::Data);
    let message = error.to_string();
    assert!(message.starts_with("offsets 5 to "), "{message}");
    assert!(
        message.contains("of Kafka partition `events/0` were deleted"),
        "{message}"
    );
    assert!(message.contains("on_data_loss: record"), "{message}");
}

#[tokio::test]
async fn lost_rows_are_recorded_where_that_is_asked_for() {
    let broker = broker_that_forgot().await;
    let mut config = config(&broker, &["events"]);
    config.on_data_loss = OnDataLoss::Record.into();
    let mut reader = open(config, &positions(&[("events/0", 5)])).await.unwrap();
    assigned(&mut reader).await;
    let (from, to) = loop {
        match next(&mut reader).await.unwrap() {
            SourceEvent::Lag { .. } | SourceEvent::System { .. } => {}
            SourceEvent::Lost {
                partition,
                from,
                to,
            } => {
                assert_eq!(&*partition, "events/0");
                break (from, to);
            }
            other => unexpected(&other),
        }
    };
    assert_eq!(from, 5);
    assert!((100..1_000).contains(&to), "{to}");
    let read = read_to_end(&mut reader, 1).await;
    let offsets = read["events/0"].iter().map(|(offset, _)| *offset);
    assert!(offsets.eq(to..1_000), "all that is left, once");
}

#[tokio::test]
async fn a_position_beyond_the_end_is_an_error() {
    let broker = broker(&[("events", 1)]);
    produce(&broker, "events", numbered(0..10)).await;
    let mut reader = open(
        config(&broker, &["events"]),
        &positions(&[("events/0", 500)]),
    )
    .await
    .unwrap();
    assigned(&mut reader).await;
    let error = loop {
        if let Err(error) = next(&mut reader).await {
            break error;
        }
    };
    assert_eq!(error.kind(), ErrorKind::Data);
    assert!(error.to_string().contains("ends at offset 10"), "{error}");
}

#[tokio::test]
async fn a_topic_with_fewer_partitions_than_were_read_is_refused() {
    let broker = broker(&[("events", 1)]);
    let at = positions(&[("events/0", 0), ("events/3", 7)]);
    let error = open(config(&broker, &["events"]), &at)
        .await
        .err()
        .expect("refused");
    assert_eq!(error.kind(), ErrorKind::Data);
    assert!(error.to_string().contains("`events/3`"), "{error}");
}

#[tokio::test]
async fn a_paused_partition_stands_still_while_others_go_on() {
    let broker = broker(&[("events", 2)]);
    let mut reader = open(config(&broker, &["events"]), &Positions::new())
        .await
        .unwrap();
    read_all_of(&mut reader, 2).await;
    reader.pause("events/0");
    tokio::time::sleep(Duration::from_millis(300)).await;
    produce(&broker, "events", numbered(0..200)).await;
    let mut others = Read::new();
    loop {
        match next(&mut reader).await.unwrap() {
            SourceEvent::Chunk(chunk) => absorb(&mut others, &chunk),
            SourceEvent::CaughtUp { partition, end } if &*partition == "events/1" && end > 0 => {
                break;
            }
            _ => {}
        }
    }
    assert_eq!(others.keys().collect::<Vec<_>>(), ["events/1"]);
    reader.resume("events/0");
    let rest = read_rows(&mut reader, 200 - others["events/1"].len()).await;
    assert_eq!(rest.keys().collect::<Vec<_>>(), ["events/0"]);
    assert_eq!(others["events/1"].len() + rest["events/0"].len(), 200);
}

#[tokio::test]
async fn a_slow_engine_holds_the_reader_back_and_gets_every_row_once() {
    let broker = broker(&[("events", 4)]);
    let filler = "x".repeat(1_000);
    let rows = || numbered(0..4_000).map(|row| format!("{row} {filler}"));
    produce(&broker, "events", rows()).await;
    let mut config = config(&broker, &["events"]);
    config.queue_bytes = 64 << 10;
    let mut reader = open(config, &Positions::new()).await.unwrap();
    assigned(&mut reader).await;
    // Long enough for the client to be paused.
    let mut read = Read::new();
    let mut ended = BTreeSet::new();
    let mut chunks = 0;
    while ended.len() < 4 {
        match next(&mut reader).await.unwrap() {
            SourceEvent::Chunk(chunk) => {
                absorb(&mut read, &chunk);
                chunks += 1;
                if chunks % 40 == 1 {
                    tokio::time::sleep(Duration::from_millis(300)).await;
                }
            }
            SourceEvent::CaughtUp { partition, end } => {
                assert_eq!(read[&*partition].len() as Offset, end);
                ended.insert(partition);
            }
            _ => {}
        }
    }
    assert!(values(&read) == sorted(rows()), "rows differ");
}

#[tokio::test]
async fn a_dropped_call_loses_no_event() {
    let broker = broker(&[("events", 2)]);
    produce(&broker, "events", numbered(0..5_000)).await;
    let mut reader = open(config(&broker, &["events"]), &Positions::new())
        .await
        .unwrap();
    assigned(&mut reader).await;
    let mut read = Read::new();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while values(&read).len() < 5_000 {
        assert!(tokio::time::Instant::now() < deadline, "rows are missing");
        // Polled once and dropped, again and again.
        tokio::select! {
            biased;
            event = reader.next() => if let SourceEvent::Chunk(chunk) = event.unwrap() {
                absorb(&mut read, &chunk);
            },
            () = tokio::task::yield_now() => {}
        }
    }
    assert_eq!(values(&read), sorted(numbered(0..5_000)));
}

#[tokio::test]
async fn undelivered_events_are_an_error() {
    let broker = broker(&[("events", 1)]);
    broker.down().unwrap();
    let properties = BTreeMap::from([("message.timeout.ms".to_owned(), "1000".to_owned())]);
    let producer = Producer::new(broker.bootstrap_servers(), &properties).unwrap();
    for _ in 0..3 {
        producer.send("events", None, Some(b"x")).await.unwrap();
    }
    let error = timeout(PATIENCE, producer.flush())
        .await
        .unwrap()
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::External);
    assert!(
        error
            .to_string()
            .starts_with("3 of 3 events were not delivered"),
        "{error}"
    );
}
