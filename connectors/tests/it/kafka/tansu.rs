//! The source against Tansu, if `TAGFLOW_TEST_TANSU` is set.

use std::{
    collections::BTreeMap,
    env,
    io::{self, Write},
    net::TcpListener,
    process::{Child, Command, Stdio},
    sync::Arc,
};

use tagflow_connectors::kafka::{EnsuredTopic, KafkaConfig, Producer};
use tagflow_engine::source::{Offset, Positions};

use super::harness::{numbered, open, open_in, positions, read_all_of, sorted, values};

/// A Tansu that ends with the test.
struct Tansu {
    bootstrap_servers: String,
    process: Option<Child>,
}

impl Tansu {
    /// The broker at the address in `TAGFLOW_TEST_TANSU`, or one started from the binary at that
    /// path.
    fn from_env() -> Option<Self> {
        let Ok(named) = env::var("TAGFLOW_TEST_TANSU") else {
            // Not with the macro, because its output is hidden when a test passes.
            let note = "NOT RUN: set TAGFLOW_TEST_TANSU to the Tansu binary or a broker's address";
            let _ = writeln!(io::stderr(), "{note}");
            return None;
        };
        if !named.contains('/') {
            return Some(Self {
                bootstrap_servers: named,
                process: None,
            });
        }
        Some(Self::cluster(&named, "tansu_cluster"))
    }

    /// A cluster of its own from `binary`, with this id.
    fn cluster(binary: &str, id: &str) -> Self {
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let url = format!("tcp://127.0.0.1:{port}");
        let process = Command::new(binary)
            .args(["broker", "--storage-engine", "memory://tansu/"])
            .args(["--listener-url", &url, "--advertised-listener-url", &url])
            .args(["--cluster-id", id])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("`TAGFLOW_TEST_TANSU` names a binary");
        Self {
            bootstrap_servers: format!("127.0.0.1:{port}"),
            process: Some(process),
        }
    }
}

impl Drop for Tansu {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

#[tokio::test]
async fn it_reads_what_it_produced_to_tansu() {
    let Some(tansu) = Tansu::from_env() else {
        return;
    };
    let topic = format!("events-{}", std::process::id());
    let producer = Producer::new(&tansu.bootstrap_servers, &BTreeMap::new()).unwrap();
    let ensured = producer.ensure_topic(&topic, 4).await.unwrap();
    assert_eq!(ensured, EnsuredTopic::Created);
    assert_eq!(
        producer.ensure_topic(&topic, 4).await.unwrap(),
        EnsuredTopic::Existed
    );
    for row in numbered(0..20_000) {
        producer
            .send(&topic, Some(row.as_bytes()), Some(row.as_bytes()))
            .await
            .unwrap();
    }
    assert_eq!(producer.flush().await.unwrap(), 20_000);

    let config = KafkaConfig::new(&tansu.bootstrap_servers, [&topic]);
    let mut reader = open(config.clone(), &Positions::new()).await.unwrap();
    let read = read_all_of(&mut reader, 4).await;
    assert_eq!(values(&read), sorted(numbered(0..20_000)));

    let name = format!("{topic}/2");
    let middle = read[&name].len() as Offset / 2;
    let at: Positions = read
        .iter()
        .map(|(name, rows)| (Arc::from(name.as_str()), rows.len() as Offset))
        .chain([(Arc::from(name.as_str()), middle)])
        .collect();
    reader.committed(&at);
    drop(reader);
    let mut reader = open(config, &at).await.unwrap();
    let rest = read_all_of(&mut reader, 4).await;
    assert_eq!(rest.len(), 1);
    assert_eq!(rest[&name], read[&name][middle as usize..]);
}

#[tokio::test]
async fn a_row_of_20_mb_arrives_from_tansu() {
    let Some(tansu) = Tansu::from_env() else {
        return;
    };
    let topic = format!("large-{}", std::process::id());
    let properties = [
        ("message.max.bytes", "30000000"),
        ("compression.type", "none"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()));
    let producer = Producer::new(&tansu.bootstrap_servers, &BTreeMap::from(properties)).unwrap();
    producer.ensure_topic(&topic, 1).await.unwrap();
    let large = vec![b'x'; 20_000_000];
    for value in [&b"before"[..], &large, b"after"] {
        producer.send(&topic, None, Some(value)).await.unwrap();
    }
    producer.flush().await.unwrap();
    let config = KafkaConfig::new(&tansu.bootstrap_servers, [&topic]);
    let mut reader = open(config, &Positions::new()).await.unwrap();
    let read = read_all_of(&mut reader, 1).await;
    let lengths: Vec<_> = read[&format!("{topic}/0")]
        .iter()
        .map(|(_, value)| value.as_ref().map_or(0, Vec::len))
        .collect();
    assert_eq!(lengths, [6, 20_000_000, 5]);
}

#[tokio::test]
async fn regression_a_second_tansu_is_another_cluster() {
    let binary = env::var("TAGFLOW_TEST_TANSU").unwrap_or_default();
    if !binary.contains('/') {
        let _ = writeln!(
            io::stderr(),
            "NOT RUN: set TAGFLOW_TEST_TANSU to the Tansu binary"
        );
        return;
    }
    let cluster = Tansu::cluster(&binary, "second");
    let producer = Producer::new(&cluster.bootstrap_servers, &BTreeMap::new()).unwrap();
    producer.ensure_topic("events", 1).await.unwrap();
    for row in numbered(0..20) {
        producer
            .send("events", None, Some(row.as_bytes()))
            .await
            .unwrap();
    }
    producer.flush().await.unwrap();
    let config = KafkaConfig::new(&cluster.bootstrap_servers, ["events"]);
    let at = positions(&[("events/0", 10)]);
    let refused = open_in(config.clone(), &at, &[("events", "first")]).await;
    let error = refused.err().expect("refused").to_string();
    assert!(error.contains("cluster `first`"), "{error}");
    assert!(error.contains("cluster `second`"), "{error}");
    let mut reader = open_in(config, &at, &[("events", "second")]).await.unwrap();
    let read = read_all_of(&mut reader, 1).await;
    assert_eq!(values(&read), sorted(numbered(10..20)));
}
