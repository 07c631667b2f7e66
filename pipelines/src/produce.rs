//! Sends events to a Kafka topic: the lines of a file, or made-up ones.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufRead, BufReader},
    path::PathBuf,
    time::Duration,
};

use serde_json::Value;
use tagflow_connectors::{
    generator::{Events, GeneratorConfig},
    kafka::{EnsuredTopic, Producer},
};
use tagflow_engine::{Error, Result};
use tokio::{sync::mpsc, time::Instant};

/// How many events may wait between the reader and the producer, and how many
/// travel at once.
const BATCHES: usize = 16;
const BATCH_EVENTS: usize = 256;

/// What to send.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// The lines of a file; empty ones are passed over.
    File(PathBuf),
    /// The lines of standard input.
    Stdin,
    /// This many made-up behaviour events, keyed by user unless told otherwise.
    Generated(u64),
}

/// Where to send it, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct ProduceOptions {
    /// Bootstrap brokers.
    pub brokers: String,
    /// Properties of librdkafka.
    pub properties: BTreeMap<String, String>,
    /// The topic.
    pub topic: String,
    /// Creates the topic with this many partitions, unless it exists.
    pub partitions: Option<u16>,
    /// The JSON field whose value is an event's key.
    pub key: Option<String>,
    /// Events a second at most.
    pub rate: Option<u64>,
}

/// How far it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sent {
    /// Events handed over.
    pub events: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Events among them that have no value for the key's field.
    pub without_key: u64,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Produced {
    /// What was sent; all of it was delivered.
    pub sent: Sent,
    /// What became of the topic, where it was to be created.
    pub topic: Option<EnsuredTopic>,
}

/// Sends everything, and waits until all of it is delivered. `on_progress` is
/// called now and then.
///
/// # Errors
/// `Config` where a property or the file is wrong; `External` where an event
/// cannot be delivered.
pub async fn produce(
    input: Input,
    options: &ProduceOptions,
    mut on_progress: impl FnMut(Sent),
) -> Result<Produced> {
    let producer = Producer::new(&options.brokers, &options.properties)?;
    let mut batches = read(input, options.key.clone())?;
    let topic = match options.partitions {
        Some(partitions) => Some(producer.ensure_topic(&options.topic, partitions).await?),
        None => None,
    };
    let pace = Pace::new(options.rate);
    let mut sent = Sent::default();
    while let Some(batch) = batches.recv().await {
        for message in batch? {
            pace.wait(sent.events).await;
            let key = message.key.as_deref();
            producer
                .send(&options.topic, key, Some(&message.payload))
                .await?;
            sent.events += 1;
            sent.bytes += message.payload.len() as u64;
            sent.without_key += u64::from(options.key.is_some() && key.is_none());
        }
        on_progress(sent);
    }
    producer.flush().await?;
    Ok(Produced { sent, topic })
}

/// An event on its way.
#[derive(Debug, PartialEq, Eq)]
struct Message {
    key: Option<Vec<u8>>,
    payload: Vec<u8>,
}

type Batches = mpsc::Receiver<Result<Vec<Message>>>;

/// Reads on a thread of its own, for a file or a terminal may take its time.
fn read(input: Input, key: Option<String>) -> Result<Batches> {
    let (sender, receiver) = mpsc::channel(BATCHES);
    match input {
        Input::Generated(count) => {
            let config = GeneratorConfig {
                count: Some(count),
                ..GeneratorConfig::default()
            };
            let events = Events::new(config)?.map(move |event| {
                let key = match &key {
                    Some(field) => key_of(&event.payload, field),
                    None => Some(event.key.into_bytes()),
                };
                Ok(Message {
                    key,
                    payload: event.payload,
                })
            });
            tokio::task::spawn_blocking(move || send_all(events, &sender));
        }
        Input::Stdin => {
            tokio::task::spawn_blocking(move || {
                send_all(lines(io::stdin().lock(), "standard input", key), &sender);
            });
        }
        Input::File(path) => {
            let name = path.display().to_string();
            let file = File::open(&path).map_err(|error| {
                Error::config(format!("cannot open `{name}`")).with_source(error)
            })?;
            tokio::task::spawn_blocking(move || {
                send_all(
                    lines(BufReader::with_capacity(1 << 20, file), &name, key),
                    &sender,
                );
            });
        }
    }
    Ok(receiver)
}

/// Ends early where nobody listens any more.
fn send_all(
    mut messages: impl Iterator<Item = Result<Message>>,
    batches: &mpsc::Sender<Result<Vec<Message>>>,
) {
    loop {
        let batch: Result<Vec<_>> = messages.by_ref().take(BATCH_EVENTS).collect();
        let is_last = batch.as_ref().map_or(true, Vec::is_empty);
        if batches.blocking_send(batch).is_err() || is_last {
            return;
        }
    }
}

fn lines(
    mut reader: impl BufRead,
    name: &str,
    key: Option<String>,
) -> impl Iterator<Item = Result<Message>> {
    let mut line = Vec::new();
    std::iter::from_fn(move || {
        loop {
            line.clear();
            match reader.read_until(b'\n', &mut line) {
                Ok(0) => return None,
                Ok(_) => {}
                Err(error) => {
                    let error = Error::external(format!("cannot read `{name}`")).with_source(error);
                    return Some(Err(error));
                }
            }
            let payload = line.trim_ascii_end();
            if !payload.is_empty() {
                let key = key.as_deref().and_then(|field| key_of(payload, field));
                return Some(Ok(Message {
                    key,
                    payload: payload.to_vec(),
                }));
            }
        }
    })
}

/// The value of a field, as the bytes of a key: a string without its quotes,
/// anything else as JSON.
fn key_of(payload: &[u8], field: &str) -> Option<Vec<u8>> {
    let row: Value = serde_json::from_slice(payload).ok()?;
    match row.get(field)? {
        Value::Null => None,
        Value::String(text) => Some(text.clone().into_bytes()),
        other => Some(other.to_string().into_bytes()),
    }
}

/// Holds events back to a rate.
struct Pace {
    begun: Instant,
    rate: Option<u64>,
}

impl Pace {
    fn new(rate: Option<u64>) -> Self {
        Self {
            begun: Instant::now(),
            rate,
        }
    }

    /// Waits until the event after `sent` others is due.
    async fn wait(&self, sent: u64) {
        if let Some(pause) = self.pause(sent, Instant::now()) {
            tokio::time::sleep(pause).await;
        }
    }

    /// How long to wait `now`.
    fn pause(&self, sent: u64, now: Instant) -> Option<Duration> {
        let due = self.begun + Duration::from_secs_f64(sent as f64 / self.rate? as f64);
        let pause = due.saturating_duration_since(now);
        // Shorter waits cost more than they are worth: events go in small groups.
        (pause > Duration::from_millis(5)).then_some(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(text: &str, field: Option<&str>) -> Vec<(Option<String>, String)> {
        let string = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        lines(text.as_bytes(), "test", field.map(str::to_owned))
            .map(|message| {
                let message = message.unwrap();
                (message.key.map(string), string(message.payload))
            })
            .collect()
    }

    #[test]
    fn a_line_is_an_event_with_its_key() {
        let text = "{\"user\":\"a\"}\r\n\n{\"user\":7}\n{\"user\":null}\nno json\n{\"user\":\"b\"}";
        let found = keys(text, Some("user"));
        let expected = [
            (Some("a"), "{\"user\":\"a\"}"),
            (Some("7"), "{\"user\":7}"),
            (None, "{\"user\":null}"),
            (None, "no json"),
            (Some("b"), "{\"user\":\"b\"}"),
        ];
        let expected = expected.map(|(key, line)| (key.map(str::to_owned), line.to_owned()));
        assert_eq!(found, expected);
        assert!(keys(text, None).iter().all(|(key, _)| key.is_none()));
    }

    #[tokio::test]
    async fn reading_ends_with_the_input() {
        let mut batches = read(Input::Generated(600), None).unwrap();
        let mut sizes = Vec::new();
        while let Some(batch) = batches.recv().await {
            sizes.push(batch.unwrap().len());
        }
        assert_eq!(sizes, [256, 256, 88, 0]);
        let mut keyed = read(Input::Generated(1), Some("event_type".into())).unwrap();
        let message = keyed.recv().await.unwrap().unwrap().remove(0);
        let event: Value = serde_json::from_slice(&message.payload).unwrap();
        assert_eq!(
            message.key.unwrap(),
            event["event_type"].as_str().unwrap().as_bytes()
        );
        let missing = read(Input::File("none.ndjson".into()), None).unwrap_err();
        assert_eq!(missing.to_string(), "cannot open `none.ndjson`");
    }

    #[test]
    fn a_rate_holds_events_back() {
        let pace = Pace::new(Some(1000));
        let after = |ms| pace.begun + Duration::from_millis(ms);
        assert_eq!(
            pace.pause(500, after(400)),
            Some(Duration::from_millis(100))
        );
        assert_eq!(pace.pause(500, after(496)), None, "it is not worth it");
        assert_eq!(pace.pause(500, after(900)), None, "it is behind");
        assert_eq!(Pace::new(None).pause(500, after(0)), None);
    }
}
