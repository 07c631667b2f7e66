//! W6: the latency from an event sent to Kafka to the tag that it changes.
//!
//! `cargo bench --bench latency` runs the release binary on a topic of 8 partitions. It
//! sends 50,000 events a second for a minute, and ten times a second one event of a new
//! user. It queries that user at the admin endpoint until the count appears. The latency
//! is from the call that sends the event to that answer, so it includes the producer's
//! linger of 5 ms. The watermark has no delay. The rest is Kafka, reading, the watermark
//! of eight partitions, the tags and the query. Before a latency counts, the counts of
//! the load's users are compared with the sent events.
//!
//! Kafka is librdkafka's mock cluster, a thread of this process, unless `--brokers
//! HOST:PORT` names another. Further options are `--rate`, `--seconds` and `--binary`
//! (another `tagflow`). The last line is JSON, for `peers/run.py`.

use std::{
    collections::BTreeMap,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use rdkafka::mocking::MockCluster;
use serde_json::{Value, json};
use tagflow_connectors::kafka::Producer;
use tagflow_engine::{Clock as _, SystemClock};
use tokio::task::JoinSet;

const TOPIC: &str = "w6";
const PARTITIONS: u16 = 8;
/// Users of the load.
const USERS: u64 = 100_000;
/// The number of users that are compared at the end.
const COMPARED: u64 = 500;
const TICK: Duration = Duration::from_millis(1);
const PROBE_EVERY: Duration = Duration::from_millis(100);
const ASK_EVERY: Duration = Duration::from_millis(2);
/// Excluded from the results: connections, first allocations.
const WARM_UP: Duration = Duration::from_secs(5);
/// Kafka answers as soon as it has rows. The mock cluster, once it had none, waits for
/// the maximum that the client allows.
const FETCH_WAIT_MS: u64 = 5;
const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::main]
async fn main() -> Result<()> {
    let number = |name: &str, default: u64| match argument(name) {
        Some(value) => value
            .parse()
            .with_context(|| format!("`{name}` is no number")),
        None => Ok(default),
    };
    let (rate, seconds) = (number("--rate", 50_000)?, number("--seconds", 60)?);
    let binary = argument("--binary").map_or_else(
        || PathBuf::from(env!("CARGO_BIN_EXE_tagflow")),
        PathBuf::from,
    );

    let mock = MockCluster::new(1)?;
    mock.create_topic(TOPIC, PARTITIONS.into(), 1)?;
    let other = argument("--brokers");
    let brokers = other.clone().unwrap_or_else(|| mock.bootstrap_servers());
    let properties = BTreeMap::from([("linger.ms".to_owned(), "5".to_owned())]);
    let producer = Producer::new(&brokers, &properties)?;
    if other.is_some() {
        producer.ensure_topic(TOPIC, PARTITIONS).await?;
    }
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let pipeline = Pipeline::start(&binary, folder.path(), &brokers)?;
    pipeline.ready().await?;

    let mut load = Load {
        producer,
        sent: vec![0; USERS as usize],
        events: 0,
    };
    let mut probes = JoinSet::new();
    let begun = Instant::now();
    let length = Duration::from_secs(seconds);
    let (mut due, mut next_probe) = (0, WARM_UP);
    let mut behind = Duration::ZERO;
    loop {
        let now = begun.elapsed();
        if now >= length {
            break;
        }
        let target = now.as_micros() as u64 * rate / 1_000_000;
        while due < target {
            load.send(due % USERS).await?;
            due += 1;
        }
        if now >= next_probe {
            let user = format!("probe-{}", next_probe.as_millis());
            next_probe += PROBE_EVERY;
            let sent_at = Instant::now();
            load.send_to(&user).await?;
            let ask = pipeline.clone_client();
            probes.spawn(async move { ask.until_known(&user, sent_at).await });
        }
        behind = behind.max(begun.elapsed().saturating_sub(now));
        tokio::time::sleep(TICK).await;
    }
    // Later events move the watermark past the last ones.
    let mut latencies = Vec::new();
    let flushing = Instant::now();
    while !probes.is_empty() || flushing.elapsed() < Duration::from_secs(2) {
        for other in 0..32 {
            load.send_to(&format!("after-{other}")).await?;
        }
        tokio::time::sleep(PROBE_EVERY).await;
        while let Some(latency) = probes.try_join_next() {
            latencies.push(latency??);
        }
    }
    load.compare(&pipeline).await?;
    let cpu_s = pipeline.cpu_s()?;
    drop(pipeline);

    latencies.sort_unstable();
    let at = |share: f64| {
        let place = (latencies.len() as f64 * share) as usize;
        latencies[place.min(latencies.len() - 1)].as_secs_f64() * 1e3
    };
    println!(
        "{} probes among {} events; the sender was behind by at most {behind:?}",
        latencies.len(),
        load.events
    );
    let result = json!({
        "probes": latencies.len(), "p50_ms": at(0.5), "p90_ms": at(0.9), "p99_ms": at(0.99),
        "max_ms": at(1.0), "cpu_s": cpu_s, "events": load.events,
    });
    println!("{result}");
    Ok(())
}

fn argument(name: &str) -> Option<String> {
    let mut arguments = std::env::args().skip_while(|argument| argument != name);
    arguments.next()?;
    arguments.next()
}

/// The sender of the events.
struct Load {
    producer: Producer,
    /// Events sent to each user.
    sent: Vec<u64>,
    events: u64,
}

impl Load {
    async fn send(&mut self, number: u64) -> Result<()> {
        // Consecutive events are of users that are far apart in the state.
        let user = number.wrapping_mul(7_919) % USERS;
        self.sent[user as usize] += 1;
        self.send_to(&format!("user-{user}")).await
    }

    async fn send_to(&mut self, user: &str) -> Result<()> {
        self.events += 1;
        let now = SystemClock.now().as_micros();
        let (event, category) = (self.events, self.events % 13);
        let row = format!(
            "{{\"event_id\":\"e{event}\",\"user_id\":\"{user}\",\"event_type\":\"click\",\
             \"category\":\"c{category}\",\"amount\":{category}.5,\"occurred_at\":{now}}}"
        );
        let (key, row) = (user.as_bytes(), row.as_bytes());
        Ok(self.producer.send(TOPIC, Some(key), Some(row)).await?)
    }

    /// Verifies the counts of some users against the sent events.
    async fn compare(&self, pipeline: &Pipeline) -> Result<()> {
        for step in 0..COMPARED {
            let user = step * (USERS / COMPARED);
            let sent = self.sent[user as usize];
            let known = pipeline.ask.get(&format!("user-{user}")).await?;
            let count = known
                .as_ref()
                .map(|known| known["tags"]["clicks_lifetime"]["value"].clone());
            ensure!(
                count == (sent > 0).then(|| json!(sent)),
                "`user-{user}` was sent {sent} events and has counted {count:?}"
            );
        }
        Ok(())
    }
}

/// A running pipeline, killed on drop.
struct Pipeline {
    process: Child,
    ask: Ask,
}

impl Pipeline {
    fn start(binary: &Path, folder: &Path, brokers: &str) -> Result<Self> {
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        std::fs::write(folder.join("w6.yaml"), pipeline_file(brokers))?;
        let process = Command::new(binary)
            .args(["run", "w6.yaml", "--admin", &address.to_string()])
            .current_dir(folder)
            .spawn()?;
        let ask = Ask {
            client: reqwest::Client::new(),
            url: Arc::from(format!("http://{address}")),
        };
        Ok(Self { process, ask })
    }

    async fn ready(&self) -> Result<()> {
        let begun = Instant::now();
        let url = format!("{}/readyz", self.ask.url);
        while begun.elapsed() < PATIENCE {
            if let Ok(answer) = self.ask.client.get(&url).send().await
                && answer.status().is_success()
            {
                return Ok(());
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
        bail!("the pipeline is not ready after {PATIENCE:?}")
    }

    fn clone_client(&self) -> Ask {
        self.ask.clone()
    }

    /// User and system CPU time of the process.
    fn cpu_s(&self) -> Result<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.id()))?;
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split(' ').collect();
        let ticks = |place: usize| fields.get(place).and_then(|it| it.parse::<f64>().ok());
        // Fields 14 and 15 of the line, in hundredths of a second.
        let (user, system) = ticks(12).zip(ticks(13)).context("no times in `stat`")?;
        Ok((user + system) / 100.0)
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The admin endpoint.
#[derive(Clone)]
struct Ask {
    client: reqwest::Client,
    url: Arc<str>,
}

impl Ask {
    /// The profile of `user`.
    async fn get(&self, user: &str) -> Result<Option<Value>> {
        let url = format!("{}/tags/{user}", self.url);
        let answer = self.client.get(url).send().await?;
        if answer.status() == reqwest::StatusCode::NOT_FOUND {
            return Ok(None);
        }
        Ok(Some(answer.error_for_status()?.json().await?))
    }

    async fn until_known(&self, user: &str, sent_at: Instant) -> Result<Duration> {
        while sent_at.elapsed() < PATIENCE {
            if let Some(known) = self.get(user).await?
                && known["tags"]["clicks_lifetime"]["value"] == 1
            {
                return Ok(sent_at.elapsed());
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
        bail!("`{user}` is not known after {PATIENCE:?}")
    }
}

fn pipeline_file(brokers: &str) -> String {
    format!(
        "name: w6
sources:
  events:
    kafka: {{brokers: '{brokers}', topics: [{TOPIC}], properties: {{fetch.wait.max.ms: '{FETCH_WAIT_MS}'}}}}
    format: {{json: {{}}}}
    columns: {{event_id: string, user_id: string, event_type: string, category: string?, amount: 'decimal(18,2)?', occurred_at: timestamp(us)}}
    time: {{event_time: occurred_at, delay: 0s}}
tags:
  from: events
  key: user_id
  define:
    clicks: {{agg: count, where: \"event_type = 'click'\", windows: [1d, lifetime]}}
    spend: {{agg: sum, arg: amount, windows: [30d]}}
    last_seen: {{agg: last, arg: occurred_at}}
    interests: {{top_k: {{arg: category, k: 5, half_life: 14d}}}}
segments:
  active: {{when: clicks_1d >= 3}}
sinks:
  changes: {{from: tags.changes, parquet: {{url: ./lake/changes}}}}
parallelism: 2
"
    )
}
