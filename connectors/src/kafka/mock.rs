//! A Kafka broker inside the process, for tests and the demo.

use std::{sync::mpsc, thread};

use rdkafka::mocking::MockCluster;
use tagflow_engine::{Error, Result};

/// librdkafka's mock cluster, listening on loopback. It stops when dropped.
///
/// It keeps only the newest 5 MiB or 100,000 messages of a partition, so a producer must not run
/// further ahead of the reader. It has no isolation of transactions, no lookup by time, and cannot
/// add partitions to a topic. Producing to an unknown topic creates it with 4 partitions.
#[derive(Debug)]
pub struct MockBroker {
    bootstrap_servers: String,
    requests: mpsc::SyncSender<Request>,
}

type Task = Box<dyn FnOnce(&Cluster) -> Result<()> + Send>;
type Cluster = MockCluster<'static, rdkafka::producer::DefaultProducerContext>;

struct Request {
    task: Task,
    answer: mpsc::SyncSender<Result<()>>,
}

impl MockBroker {
    /// Starts a cluster of `brokers` brokers.
    ///
    /// # Errors
    /// `External` if it cannot listen.
    pub fn start(brokers: u8) -> Result<Self> {
        let (requests, served) = mpsc::sync_channel::<Request>(1);
        let (started, start) = mpsc::sync_channel(1);
        // The cluster must stay on the thread that created it.
        thread::Builder::new()
            .name("kafka mock".to_owned())
            .spawn(move || {
                let cluster = match MockCluster::new(i32::from(brokers)) {
                    Ok(cluster) => cluster,
                    Err(error) => {
                        let _ = started.send(Err(failed("start", error)));
                        return;
                    }
                };
                let _ = started.send(Ok(cluster.bootstrap_servers()));
                for request in served {
                    let _ = request.answer.send((request.task)(&cluster));
                }
            })
            .map_err(|error| Error::external("cannot start a thread").with_source(error))?;
        let bootstrap_servers = start.recv().map_err(|_| gone())??;
        Ok(Self {
            bootstrap_servers,
            requests,
        })
    }

    /// Its addresses: `127.0.0.1:port`, several separated by commas.
    pub fn bootstrap_servers(&self) -> &str {
        &self.bootstrap_servers
    }

    /// Creates an empty topic.
    ///
    /// # Errors
    /// `External` if the topic exists.
    pub fn create_topic(&self, name: &str, partitions: u16) -> Result<()> {
        let topic = name.to_owned();
        self.ask(Box::new(move |cluster| {
            cluster
                .create_topic(&topic, i32::from(partitions), 1)
                .map_err(|error| failed("create a topic in", error))
        }))
    }

    /// Closes all connections and accepts none until [`MockBroker::up`].
    ///
    /// # Errors
    /// `External` if the cluster refuses.
    pub fn down(&self) -> Result<()> {
        self.ask(Box::new(|cluster| {
            cluster
                .broker_down(-1)
                .map_err(|error| failed("take down", error))
        }))
    }

    /// Accepts connections again.
    ///
    /// # Errors
    /// `External` if the cluster refuses.
    pub fn up(&self) -> Result<()> {
        self.ask(Box::new(|cluster| {
            cluster
                .broker_up(-1)
                .map_err(|error| failed("bring up", error))
        }))
    }

    fn ask(&self, task: Task) -> Result<()> {
        let (answer, answered) = mpsc::sync_channel(1);
        self.requests
            .send(Request { task, answer })
            .map_err(|_| gone())?;
        answered.recv().map_err(|_| gone())?
    }
}

fn failed(what: &str, error: rdkafka::error::KafkaError) -> Error {
    Error::external(format!("cannot {what} the mock broker")).with_source(error)
}

fn gone() -> Error {
    Error::internal("the thread of the mock broker has ended")
}
