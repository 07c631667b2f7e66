//! Faults of the brokers, one at a time: every row is still read once, or the reader stops and
//! states why. Nothing hangs.

use std::time::Duration;

use futures::{StreamExt, stream};
use rdkafka::{
    mocking::{MockCluster, MockCoordinator},
    producer::DefaultProducerContext,
    types::{
        RDKafkaApiKey as Request,
        RDKafkaRespErr::{
            self as Answer, RD_KAFKA_RESP_ERR__TRANSPORT as CUT,
            RD_KAFKA_RESP_ERR_BROKER_NOT_AVAILABLE as BROKER_NOT_AVAILABLE,
            RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS as COORDINATOR_LOAD_IN_PROGRESS,
            RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE as COORDINATOR_NOT_AVAILABLE,
            RD_KAFKA_RESP_ERR_FENCED_LEADER_EPOCH as FENCED_LEADER_EPOCH,
            RD_KAFKA_RESP_ERR_FETCH_SESSION_ID_NOT_FOUND as FETCH_SESSION_ID_NOT_FOUND,
            RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED as GROUP_AUTHORIZATION_FAILED,
            RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION as ILLEGAL_GENERATION,
            RD_KAFKA_RESP_ERR_INVALID_FETCH_SESSION_EPOCH as INVALID_FETCH_SESSION_EPOCH,
            RD_KAFKA_RESP_ERR_INVALID_MSG as INVALID_MSG,
            RD_KAFKA_RESP_ERR_KAFKA_STORAGE_ERROR as KAFKA_STORAGE_ERROR,
            RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE as LEADER_NOT_AVAILABLE,
            RD_KAFKA_RESP_ERR_NETWORK_EXCEPTION as NETWORK_EXCEPTION,
            RD_KAFKA_RESP_ERR_NO_ERROR as NO_ERROR,
            RD_KAFKA_RESP_ERR_NOT_COORDINATOR as NOT_COORDINATOR,
            RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION as NOT_LEADER_FOR_PARTITION,
            RD_KAFKA_RESP_ERR_OFFSET_METADATA_TOO_LARGE as OFFSET_METADATA_TOO_LARGE,
            RD_KAFKA_RESP_ERR_OFFSET_NOT_AVAILABLE as OFFSET_NOT_AVAILABLE,
            RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE as OFFSET_OUT_OF_RANGE,
            RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS as REBALANCE_IN_PROGRESS,
            RD_KAFKA_RESP_ERR_REPLICA_NOT_AVAILABLE as REPLICA_NOT_AVAILABLE,
            RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT as REQUEST_TIMED_OUT,
            RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED as TOPIC_AUTHORIZATION_FAILED,
            RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION as TOPIC_EXCEPTION,
            RD_KAFKA_RESP_ERR_UNKNOWN as UNKNOWN,
            RD_KAFKA_RESP_ERR_UNKNOWN_LEADER_EPOCH as UNKNOWN_LEADER_EPOCH,
            RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID as UNKNOWN_MEMBER_ID,
            RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART as UNKNOWN_TOPIC_OR_PART,
            RD_KAFKA_RESP_ERR_UNSUPPORTED_COMPRESSION_TYPE as UNSUPPORTED_COMPRESSION_TYPE,
        },
    },
};
use tagflow_connectors::kafka::{KafkaConfig, OnDataLoss, StartAt};
use tagflow_engine::{
    ErrorKind, Result,
    source::{Offset, Positions, SourceEvent},
};
use tokio::time::{sleep, timeout};

use super::harness::*;

const TOPIC: &str = "events";
const BROKERS: i32 = 3;
const PARTITIONS: i32 = 2;
/// The rows sent before the fault, and again after it.
const ROWS: u32 = 200;
/// How many requests a limited fault affects.
const STRIKES: usize = 3;
/// Enough for a fault without end.
const FOR_GOOD: usize = 100_000;
/// How long a fault of the cluster lasts.
const A_WHILE: Duration = Duration::from_secs(2);

type Cluster = MockCluster<'static, DefaultProducerContext>;

/// A fault.
#[derive(Debug, Clone, Copy)]
enum Fault {
    /// The next requests of a kind, this many, are answered with an error; `CUT` closes the
    /// connection instead.
    Answers(Request, Answer, usize),
    /// The topic's metadata is an error, for a while.
    Metadata(Answer),
    /// No broker answers, for a while.
    Down,
    /// One of the brokers does not answer, for a while.
    OneDown,
    /// Every answer takes two seconds.
    Slow,
    /// A partition has another leader.
    NewLeader,
    /// A partition has no leader, for a while.
    NoLeader,
    /// Another broker keeps the group's offsets.
    NewCoordinator,
}

/// The outcome of reading.
#[derive(Debug, Clone, Copy)]
enum Then {
    /// All rows are read.
    AllIsRead,
    /// An error that contains this text.
    Stops(ErrorKind, &'static str),
    /// Reading waits, and the reader reports this reason.
    IsSaid(&'static str),
}

/// When the fault happens.
#[derive(Debug, Clone, Copy)]
enum When {
    /// Before the topic is opened.
    Opening,
    /// Between two rows.
    Reading,
}

use Then::{AllIsRead, IsSaid, Stops};
use When::{Opening, Reading};

/// Every error that a broker can answer to a fetch (Kafka's protocol guide), and those that a proxy
/// or another make of broker might answer.
const OF_FETCH: &[Answer] = &[
    UNKNOWN,
    OFFSET_OUT_OF_RANGE,
    INVALID_MSG,
    UNKNOWN_TOPIC_OR_PART,
    LEADER_NOT_AVAILABLE,
    NOT_LEADER_FOR_PARTITION,
    REQUEST_TIMED_OUT,
    BROKER_NOT_AVAILABLE,
    REPLICA_NOT_AVAILABLE,
    NETWORK_EXCEPTION,
    KAFKA_STORAGE_ERROR,
    FETCH_SESSION_ID_NOT_FOUND,
    INVALID_FETCH_SESSION_EPOCH,
    FENCED_LEADER_EPOCH,
    UNKNOWN_LEADER_EPOCH,
    UNSUPPORTED_COMPRESSION_TYPE,
    OFFSET_NOT_AVAILABLE,
    CUT,
];

const OF_LIST_OFFSETS: &[Answer] = &[
    UNKNOWN,
    UNKNOWN_TOPIC_OR_PART,
    LEADER_NOT_AVAILABLE,
    NOT_LEADER_FOR_PARTITION,
    REQUEST_TIMED_OUT,
    REPLICA_NOT_AVAILABLE,
    KAFKA_STORAGE_ERROR,
    FENCED_LEADER_EPOCH,
    UNKNOWN_LEADER_EPOCH,
    OFFSET_NOT_AVAILABLE,
    CUT,
];

const OF_COORDINATOR: &[Answer] = &[
    COORDINATOR_LOAD_IN_PROGRESS,
    COORDINATOR_NOT_AVAILABLE,
    NOT_COORDINATOR,
    CUT,
];

/// Errors of a commit to the group that no retry resolves.
const OF_COMMIT: &[Answer] = &[
    ILLEGAL_GENERATION,
    UNKNOWN_MEMBER_ID,
    REBALANCE_IN_PROGRESS,
    GROUP_AUTHORIZATION_FAILED,
    OFFSET_METADATA_TOO_LARGE,
];

fn table() -> Vec<(When, Fault, Then)> {
    let struck = |request: Request, codes: &'static [Answer], when: When| {
        let strike =
            move |code: &Answer| (when, Fault::Answers(request, *code, STRIKES), AllIsRead);
        codes.iter().map(strike)
    };
    let denied = "not authorized to read Kafka topic `events`";
    let for_good = |request, code| Fault::Answers(request, code, FOR_GOOD);
    let mut table = vec![
        (Opening, Fault::Down, AllIsRead),
        (Reading, Fault::Down, AllIsRead),
        (Opening, Fault::OneDown, AllIsRead),
        (Reading, Fault::OneDown, AllIsRead),
        (Opening, Fault::Slow, AllIsRead),
        (Reading, Fault::Slow, AllIsRead),
        (Reading, Fault::NewLeader, AllIsRead),
        (Opening, Fault::NoLeader, AllIsRead),
        (Reading, Fault::NoLeader, AllIsRead),
        (Opening, Fault::NewCoordinator, AllIsRead),
        (Reading, Fault::NewCoordinator, AllIsRead),
        (Opening, Fault::Metadata(LEADER_NOT_AVAILABLE), AllIsRead),
        (Reading, Fault::Metadata(LEADER_NOT_AVAILABLE), AllIsRead),
        (
            Opening,
            Fault::Metadata(TOPIC_AUTHORIZATION_FAILED),
            Stops(ErrorKind::External, denied),
        ),
        (
            Opening,
            Fault::Metadata(TOPIC_EXCEPTION),
            Stops(
                ErrorKind::Config,
                "does not accept `events` as a topic's name",
            ),
        ),
        (
            Opening,
            Fault::Metadata(UNKNOWN_TOPIC_OR_PART),
            Stops(ErrorKind::Config, "has no topic `events`"),
        ),
        (
            Opening,
            for_good(Request::ListOffsets, TOPIC_AUTHORIZATION_FAILED),
            Stops(ErrorKind::External, denied),
        ),
        (
            Reading,
            for_good(Request::Fetch, TOPIC_AUTHORIZATION_FAILED),
            Stops(ErrorKind::External, denied),
        ),
        (
            Opening,
            for_good(Request::OffsetFetch, GROUP_AUTHORIZATION_FAILED),
            Stops(
                ErrorKind::External,
                "not authorized to read the offsets of consumer group `tagflow-test`",
            ),
        ),
        (
            Opening,
            for_good(Request::ListOffsets, KAFKA_STORAGE_ERROR),
            IsSaid("Disk error"),
        ),
        (
            Reading,
            for_good(Request::Fetch, INVALID_MSG),
            IsSaid("Invalid message"),
        ),
    ];
    table.extend(struck(Request::Fetch, OF_FETCH, Reading));
    table.extend(struck(Request::ListOffsets, OF_LIST_OFFSETS, Opening));
    table.extend(struck(Request::OffsetFetch, OF_COORDINATOR, Opening));
    table.extend(struck(Request::FindCoordinator, OF_COORDINATOR, Opening));
    table.extend(struck(Request::OffsetCommit, OF_COORDINATOR, Reading));
    table.extend(struck(Request::OffsetCommit, OF_COMMIT, Reading));
    table.extend(struck(Request::ApiVersion, &[CUT], Opening));
    table
}

#[tokio::test]
async fn every_row_is_read_once_or_the_fault_is_named() {
    let cases = table().into_iter().map(|(when, fault, then)| async move {
        let ended = timeout(4 * PATIENCE, case(when, fault)).await;
        let rows = match when {
            Opening => ROWS,
            Reading => 2 * ROWS,
        };
        let right = match (then, &ended) {
            (AllIsRead, Ok((read, Ok(Met::Rows)))) => values(read) == sorted(numbered(0..rows)),
            (Stops(kind, part), Ok((_, Err(error)))) => {
                error.kind() == kind && error.chain().contains(part)
            }
            (IsSaid(part), Ok((_, Ok(Met::Silence(said))))) => said.contains(part),
            _ => false,
        };
        let ended = ended.map(|(_, ended)| ended);
        (!right).then(|| format!("{when:?} {fault:?}: {ended:?}, not {then:?}"))
    });
    // They wait for the brokers most of the time.
    let wrong: Vec<_> = stream::iter(cases).buffer_unordered(16).collect().await;
    let wrong: Vec<String> = wrong.into_iter().flatten().collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

async fn case(when: When, fault: Fault) -> (Read, Result<Met>) {
    let cluster = MockCluster::new(BROKERS).unwrap();
    cluster.create_topic(TOPIC, PARTITIONS, BROKERS).unwrap();
    let servers = cluster.bootstrap_servers();
    produce_at(&servers, TOPIC, numbered(0..ROWS)).await;
    let mut config = config_at(&servers, &[TOPIC]);
    // Then a first run asks the group, too.
    config.start = StartAt::Committed.into();

    let mut read = Read::new();
    let ((), ended) = match when {
        Opening => {
            strike(&cluster, fault);
            tokio::join!(mend(&cluster, fault), read_rows(config, &mut read))
        }
        Reading => {
            let mut reader = open(config, &Positions::new()).await.unwrap();
            go_on(&mut reader, &mut read, ROWS).await.unwrap();
            strike(&cluster, fault);
            reader.committed(&positions(&[("events/0", 1), ("events/1", 1)]));
            let mended = async {
                mend(&cluster, fault).await;
                produce_at(&servers, TOPIC, numbered(ROWS..2 * ROWS)).await;
            };
            tokio::join!(mended, go_on(&mut reader, &mut read, 2 * ROWS))
        }
    };
    (read, ended)
}

/// The result of reading.
#[derive(Debug)]
enum Met {
    /// All expected rows.
    Rows,
    /// Nothing for long; the reader's reason.
    Silence(String),
}

async fn read_rows(config: KafkaConfig, read: &mut Read) -> Result<Met> {
    let mut reader = open(config, &Positions::new()).await?;
    go_on(&mut reader, read, ROWS).await
}

/// Reads until `rows` rows have arrived, or none arrives for long. [`absorb`] checks that no row is
/// repeated or missing.
async fn go_on(reader: &mut Reader, read: &mut Read, rows: u32) -> Result<Met> {
    let mut said = String::new();
    while read.values().map(Vec::len).sum::<usize>() < rows as usize {
        match timeout(PATIENCE, reader.next()).await {
            Ok(Ok(SourceEvent::Chunk(chunk))) => absorb(read, &chunk),
            Ok(Ok(SourceEvent::Unreachable(reason))) => said = reason,
            Ok(Ok(SourceEvent::Reachable)) => said.clear(),
            Ok(event) => drop(event?),
            Err(_) => return Ok(Met::Silence(said)),
        }
    }
    Ok(Met::Rows)
}

fn strike(cluster: &Cluster, fault: Fault) {
    match fault {
        Fault::Answers(request, code, times) => {
            cluster.request_errors(request, &vec![code; times]);
        }
        Fault::Metadata(code) => cluster.topic_error(TOPIC, code).unwrap(),
        Fault::Down => cluster.broker_down(-1).unwrap(),
        Fault::OneDown => cluster.broker_down(2).unwrap(),
        Fault::Slow => cluster
            .broker_round_trip_time(-1, Duration::from_secs(2))
            .unwrap(),
        Fault::NewLeader => {
            for partition in 0..PARTITIONS {
                cluster.partition_leader(TOPIC, partition, Some(3)).unwrap();
            }
        }
        Fault::NoLeader => {
            // From version 12 on the mock checks the missing leader.
            let versions = (Some(4), Some(11));
            cluster
                .apiversion(Request::Fetch, versions.0, versions.1)
                .unwrap();
            cluster.partition_leader(TOPIC, 1, None).unwrap();
        }
        Fault::NewCoordinator => {
            let group = MockCoordinator::Group("tagflow-test".to_owned());
            cluster.coordinator(group, 3).unwrap();
        }
    }
}

/// Ends a temporary fault.
async fn mend(cluster: &Cluster, fault: Fault) {
    match fault {
        Fault::Metadata(_) => {
            sleep(A_WHILE).await;
            cluster.topic_error(TOPIC, NO_ERROR).unwrap();
        }
        Fault::Down | Fault::OneDown => {
            sleep(A_WHILE).await;
            cluster.broker_up(-1).unwrap();
        }
        Fault::NoLeader => {
            sleep(A_WHILE).await;
            cluster.partition_leader(TOPIC, 1, Some(1)).unwrap();
        }
        Fault::Answers(..) | Fault::Slow | Fault::NewLeader | Fault::NewCoordinator => {}
    }
}

/// The client's own request for both bounds of a log returned the end twice, so a topic opened at a
/// bad moment was read from its end.
#[tokio::test]
async fn regression_a_failed_question_for_the_start_is_not_answered_with_the_end() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic(TOPIC, 1, 1).unwrap();
    let servers = cluster.bootstrap_servers();
    produce_at(&servers, TOPIC, numbered(0..10)).await;
    cluster.request_errors(Request::ListOffsets, &[KAFKA_STORAGE_ERROR]);
    let config = config_at(&servers, &[TOPIC]);
    let mut reader = open(config, &Positions::new()).await.unwrap();
    assert_eq!(assigned(&mut reader).await["events/0"], 0);
}

/// The log's start moves past the position of a reader that is held up. Returns the lost range, and
/// the offsets read after it.
async fn read_across_a_loss(on_data_loss: OnDataLoss) -> Result<((Offset, Offset), Vec<Offset>)> {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic(TOPIC, 1, 1).unwrap();
    let servers = cluster.bootstrap_servers();
    produce_at(&servers, TOPIC, numbered(0..10)).await;
    let mut config = config_at(&servers, &[TOPIC]);
    config.on_data_loss = on_data_loss.into();
    let mut reader = open(config, &Positions::new()).await?;
    go_on(&mut reader, &mut Read::new(), 10).await?;
    reader.pause("events/0");
    // Once the thread has read the command, the partition no longer moves.
    sleep(Duration::from_millis(500)).await;
    // The mock deletes all but the last 5 MiB.
    let filler = "x".repeat(10_000);
    let rows = numbered(10..1_000).map(|row| format!("{row} {filler}"));
    produce_at(&servers, TOPIC, rows).await;
    reader.resume("events/0");
    let (mut lost, mut offsets) = (None, Vec::new());
    while offsets.last() != Some(&999) {
        match next(&mut reader).await? {
            SourceEvent::Chunk(chunk) => offsets.extend(chunk.first..chunk.next),
            SourceEvent::Lost { from, to, .. } => lost = Some((from, to)),
            _ => {}
        }
    }
    Ok((lost.expect("the loss is told"), offsets))
}

#[tokio::test]
async fn rows_deleted_before_a_running_reader_are_an_error() {
    let error = read_across_a_loss(OnDataLoss::Fail).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Data);
    let message = error.to_string();
    assert!(message.starts_with("offsets 10 to "), "{message}");
    assert!(message.contains("`events/0` were deleted"), "{message}");
}

#[tokio::test]
async fn rows_deleted_before_a_running_reader_are_recorded() {
    let ((from, to), read) = read_across_a_loss(OnDataLoss::Record).await.unwrap();
    assert_eq!(from, 10);
    assert!((100..900).contains(&to), "{to}");
    assert!(read.into_iter().eq(to..1_000), "all that is left, once");
}
