//! Sends events to a Kafka topic: the lines of a file, or generated ones.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufRead, BufReader},
    path::PathBuf,
    pin::pin,
    time::Duration,
};

use serde::de::IgnoredAny;
use serde_json::Value;
use tagflow_connectors::{
    generator::{Events, GeneratorConfig},
    kafka::{EnsuredTopic, Producer},
};
use tagflow_engine::{Error, EventTime, Result};
use tokio::{
    sync::mpsc,
    time::{Instant, interval},
};

/// The most batches between the reader and the producer, and in flight.
const BATCHES: usize = 16;
const BATCH_EVENTS: usize = 256;

/// The time between two reports of the progress.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// The span of event time that generated events cover before the present.
const RECENT: Duration = Duration::from_mins(10);

/// The events to send.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// The lines of a file; empty ones are skipped.
    File(PathBuf),
    /// The lines of standard input.
    Stdin,
    /// Generated behaviour events, keyed by user unless another key is given.
    Generated(Generated),
}

/// Generated behaviour events.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Generated {
    /// Their number.
    pub count: u64,
    /// The present. Event times end here, or advance from here at the rate that
    /// the options set. No event is older than the newest one in the topic.
    pub now: EventTime,
    /// The first event time; equal starts give equal events, a millisecond apart.
    pub start: Option<EventTime>,
}

/// The target, and the way of sending.
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
    /// Whether lines are sent as they are, even if they are not JSON objects.
    pub raw: bool,
}

/// The progress so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// Delivered events.
    pub delivered: u64,
    /// Why Kafka is not reached at present.
    pub problem: Option<String>,
}

/// The events of a whole input.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sent {
    /// Events handed to the producer.
    pub events: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Events among them that have no value for the key's field.
    pub without_key: u64,
}

/// The result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Produced {
    /// The sent events; all were delivered.
    pub sent: Sent,
    /// The result of the topic's creation, if requested.
    pub topic: Option<EnsuredTopic>,
}

/// Sends everything, and waits until all events are delivered. `on_progress` is called once a
/// second.
///
/// # Errors
/// `Config` where a property or the file is wrong; `Data` where a line is not a JSON
/// object; `External` where an event cannot be delivered.
pub async fn produce(
    input: Input,
    options: &ProduceOptions,
    mut on_progress: impl FnMut(Progress),
) -> Result<Produced> {
    let producer = Producer::new(&options.brokers, &options.properties)?;
    let newest = match input {
        Input::Generated(Generated { start: None, .. }) => {
            let events = producer.newest_events(&options.topic).await?;
            events.iter().filter_map(|event| time_of(event)).max()
        }
        _ => None,
    };
    let batches = read(input, options, newest)?;
    let topic = match options.partitions {
        Some(partitions) => Some(producer.ensure_topic(&options.topic, partitions).await?),
        None => None,
    };
    let mut sending = pin!(send(&producer, batches, options));
    let mut ticks = interval(PROGRESS_EVERY);
    loop {
        tokio::select! {
            sent = &mut sending => return Ok(Produced { sent: sent?, topic }),
            _ = ticks.tick() => on_progress(Progress {
                delivered: producer.delivered(),
                problem: producer.problem(),
            }),
        }
    }
}

/// Sends all batches, and waits until they are delivered.
async fn send(producer: &Producer, mut batches: Batches, options: &ProduceOptions) -> Result<Sent> {
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
    }
    producer.flush().await?;
    Ok(sent)
}

/// An event to send.
#[derive(Debug, PartialEq, Eq)]
struct Message {
    key: Option<Vec<u8>>,
    payload: Vec<u8>,
}

type Batches = mpsc::Receiver<Result<Vec<Message>>>;

/// The time of a generated event.
fn time_of(payload: &[u8]) -> Option<EventTime> {
    let row: Value = serde_json::from_slice(payload).ok()?;
    let millis = row.get("occurred_at")?.as_i64()?;
    Some(EventTime::from_micros(millis.checked_mul(1000)?))
}

impl Generated {
    /// The generator's settings; `newest` is the newest event time in the topic.
    fn config(&self, rate: Option<u64>, newest: Option<EventTime>) -> GeneratorConfig {
        let config = GeneratorConfig::many(self.count);
        if let Some(start) = self.start {
            return GeneratorConfig {
                start: start.into(),
                ..config
            };
        }
        // An event of the far future is a mistake that must not be repeated.
        let newest = newest.filter(|&it| it <= self.now.saturating_add(RECENT));
        let after = newest.map(|newest| newest.saturating_add(Duration::from_millis(1)));
        let (begin, spacing) = match rate {
            Some(rate) => (
                self.now,
                Duration::from_secs(1) / rate.clamp(1, 1_000_000) as u32,
            ),
            None => (self.now.saturating_sub(RECENT), Duration::ZERO),
        };
        let start = after.map_or(begin, |after| after.max(begin));
        let spacing = match rate {
            Some(_) => spacing,
            None => self.now.since(start).div_f64(self.count.max(1) as f64),
        };
        GeneratorConfig {
            // Different events each time, with different ids.
            seed: start.as_micros().unsigned_abs().into(),
            start: start.into(),
            interval: spacing.max(Duration::from_micros(1)).into(),
            ..config
        }
    }
}

/// Reads on its own thread, because a file or a terminal may block.
fn read(input: Input, options: &ProduceOptions, newest: Option<EventTime>) -> Result<Batches> {
    let (sender, receiver) = mpsc::channel(BATCHES);
    let (key, form) = (options.key.clone(), Form::of(options));
    match input {
        Input::Generated(generated) => {
            let config = generated.config(options.rate, newest);
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
                let lines = lines(io::stdin().lock(), "standard input", key, form);
                send_all(lines, &sender);
            });
        }
        Input::File(path) => {
            let name = path.display().to_string();
            let file = File::open(&path).map_err(|error| {
                Error::config(format!("cannot open `{name}`")).with_source(error)
            })?;
            tokio::task::spawn_blocking(move || {
                let reader = BufReader::with_capacity(1 << 20, file);
                send_all(lines(reader, &name, key, form), &sender);
            });
        }
    }
    Ok(receiver)
}

/// Ends early if the receiver is dropped.
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

/// The form of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// A JSON object.
    Object,
    /// Any bytes.
    Raw,
}

impl Form {
    fn of(options: &ProduceOptions) -> Self {
        if options.raw { Self::Raw } else { Self::Object }
    }

    /// Fails if a line does not have this form.
    fn check(self, payload: &[u8], name: &str, number: u64) -> Result<()> {
        if self == Self::Raw {
            return Ok(());
        }
        let because = match std::str::from_utf8(payload) {
            Err(_) => "it is not UTF-8 text".to_owned(),
            Ok(text) => match serde_json::from_str::<IgnoredAny>(text) {
                Ok(_) if text.starts_with('{') => return Ok(()),
                Ok(_) => "it is JSON, but no object".to_owned(),
                Err(error) if error.is_eof() => {
                    "it ends inside a value: put each event on one line, as `jq -c` does".to_owned()
                }
                Err(error) => error.to_string(),
            },
        };
        Err(Error::data(format!(
            "line {number} of `{name}` is not a JSON object: {because}; `--raw` sends lines as \
             they are"
        )))
    }
}

fn lines(
    mut reader: impl BufRead,
    name: &str,
    key: Option<String>,
    form: Form,
) -> impl Iterator<Item = Result<Message>> {
    let mut line = Vec::new();
    let mut number = 0;
    std::iter::from_fn(move || {
        loop {
            line.clear();
            number += 1;
            match reader.read_until(b'\n', &mut line) {
                Ok(0) => return None,
                Ok(_) => {}
                Err(error) => {
                    let error = Error::external(format!("cannot read `{name}`")).with_source(error);
                    return Some(Err(error));
                }
            }
            let payload = match form {
                Form::Object => without_mark(&line, number).trim_ascii(),
                Form::Raw => line.trim_ascii_end(),
            };
            if !payload.is_empty() {
                if let Err(error) = form.check(payload, name, number) {
                    return Some(Err(error));
                }
                let key = key.as_deref().and_then(|field| key_of(payload, field));
                return Some(Ok(Message {
                    key,
                    payload: payload.to_vec(),
                }));
            }
        }
    })
}

/// The line without the byte order mark that may begin a file.
fn without_mark(line: &[u8], number: u64) -> &[u8] {
    match line.strip_prefix(b"\xef\xbb\xbf") {
        Some(rest) if number == 1 => rest,
        _ => line,
    }
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

/// Limits the rate of events.
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
        // Shorter waits are not worth their cost: events are sent in small groups.
        (pause > Duration::from_millis(5)).then_some(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(text: &str, field: Option<&str>) -> Vec<(Option<String>, String)> {
        let string = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        lines(text.as_bytes(), "test", field.map(str::to_owned), Form::Raw)
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

    fn options(key: Option<&str>) -> ProduceOptions {
        ProduceOptions {
            brokers: "b:9092".into(),
            properties: BTreeMap::new(),
            topic: "events".into(),
            partitions: None,
            key: key.map(str::to_owned),
            rate: None,
            raw: false,
        }
    }

    const NOW: EventTime = EventTime::from_micros(1_767_688_191_000_000);

    fn generated(count: u64) -> Generated {
        Generated {
            count,
            now: NOW,
            start: None,
        }
    }

    fn times(config: GeneratorConfig) -> Vec<EventTime> {
        let events = Events::new(config).unwrap();
        events.filter_map(|event| time_of(&event.payload)).collect()
    }

    #[test]
    fn regression_generated_events_end_now_and_are_never_older_than_those_before() {
        let first = times(generated(1000).config(None, None));
        let newest = first.iter().copied().max().unwrap();
        assert!(NOW.since(newest) < Duration::from_secs(3), "{newest}");
        assert!(newest <= NOW, "{newest}");
        let oldest = first.iter().copied().min().unwrap();
        assert!(newest.since(oldest) > Duration::from_mins(9), "{oldest}");
        // The events of a second call, ten seconds later, may be behind those of the first. The
        // most is the disorder of the generator, which is less than the delay of the example.
        let now = NOW.saturating_add(Duration::from_secs(10));
        let again = Generated {
            now,
            ..generated(1000)
        };
        let config = again.config(None, Some(newest));
        assert_ne!(config.seed, generated(1000).config(None, None).seed);
        let second = times(config);
        let oldest = second.iter().copied().min().unwrap();
        assert!(newest.since(oldest) <= Duration::from_secs(1), "{oldest}");
        assert!(second.iter().all(|&time| time <= now));
        // Immediately after, there is no time between the two; no event is lost or older.
        let at_once = times(generated(1000).config(None, Some(NOW)));
        assert_eq!(at_once.len(), 1000);
        let oldest = at_once.iter().copied().min().unwrap();
        assert!(NOW.since(oldest) <= Duration::from_secs(1), "{oldest}");
    }

    #[test]
    fn an_event_of_the_far_future_does_not_move_those_behind_it() {
        let future = NOW.saturating_add(Duration::from_hours(24));
        let config = generated(10).config(None, Some(future));
        assert_eq!(config, generated(10).config(None, None));
    }

    #[test]
    fn a_rate_makes_event_time_follow_the_clock() {
        let config = generated(1000).config(Some(100), None);
        assert_eq!(
            (*config.start, *config.interval),
            (NOW, Duration::from_millis(10))
        );
        let fixed = Generated {
            start: Some(NOW),
            ..generated(5)
        };
        let config = fixed.config(Some(100), Some(NOW));
        let expected = GeneratorConfig {
            start: NOW.into(),
            ..GeneratorConfig::many(5)
        };
        assert_eq!(config, expected, "equal starts give equal events");
    }

    #[test]
    fn regression_lines_that_are_no_json_objects_are_refused() {
        let problem = |bytes: &[u8]| {
            let found: Result<Vec<_>> = lines(bytes, "x", None, Form::Object).collect();
            found
                .map(|found| found.len())
                .map_err(|error| error.to_string())
        };
        assert_eq!(problem(b"\xef\xbb\xbf{\"a\":1}\r\n\n  {}\n"), Ok(2));
        for (bytes, part) in [
            (
                &b"\x00\xff\x10\x80"[..],
                "line 1 of `x` is not a JSON object: ",
            ),
            (b"{\"a\":1}\nid,name\n", "line 2 of `x`"),
            (b"{\n  \"a\": 1\n}\n", "put each event on one line"),
            (b"[{\"a\": 1}]", "it is JSON, but no object"),
            (b"5", "it is JSON, but no object"),
            (b"{\"a\":1} {\"a\":2}", "trailing characters"),
            (b"{\"a\":\"\xff\"}", "it is not UTF-8 text"),
        ] {
            let message = problem(bytes).unwrap_err();
            assert!(message.contains(part), "{message}");
            assert!(
                message.ends_with("`--raw` sends lines as they are"),
                "{message}"
            );
        }
    }

    #[tokio::test]
    async fn reading_ends_with_the_input() {
        let mut batches = read(Input::Generated(generated(600)), &options(None), None).unwrap();
        let mut sizes = Vec::new();
        while let Some(batch) = batches.recv().await {
            sizes.push(batch.unwrap().len());
        }
        assert_eq!(sizes, [256, 256, 88, 0]);
        let mut keyed = read(
            Input::Generated(generated(1)),
            &options(Some("event_type")),
            None,
        )
        .unwrap();
        let message = keyed.recv().await.unwrap().unwrap().remove(0);
        let event: Value = serde_json::from_slice(&message.payload).unwrap();
        assert_eq!(
            message.key.unwrap(),
            event["event_type"].as_str().unwrap().as_bytes()
        );
        let missing = read(Input::File("none.ndjson".into()), &options(None), None).unwrap_err();
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
