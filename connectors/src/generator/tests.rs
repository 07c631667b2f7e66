use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use futures::FutureExt;
use tagflow_config::{Ratio, Setting};
use tagflow_engine::{
    EventTime,
    source::{Decoder, Positions, Source, SourceEvent},
};
use tagflow_schemas::Column;

use super::*;
use crate::{
    format::{JsonFormat, JsonOptions},
    testing::{check_resume, read_all},
};

fn share(share: f64) -> Setting<Ratio> {
    Ratio::new(share).unwrap().into()
}

fn lively() -> GeneratorConfig {
    GeneratorConfig {
        partitions: 2.into(),
        late: share(0.05),
        duplicates: share(0.05),
        broken: share(0.05),
        ..GeneratorConfig::many(3_001)
    }
}

fn columns() -> Vec<Column> {
    let column = |(name, kind): (&str, &str)| Column {
        name: name.to_owned(),
        kind: kind.trim_end_matches('?').parse().unwrap(),
        nullable: kind.ends_with('?'),
    };
    COLUMNS.into_iter().map(column).collect()
}

fn occurred_at(payload: &[u8]) -> i64 {
    let event: serde_json::Value = serde_json::from_slice(payload).unwrap();
    event["occurred_at"].as_i64().unwrap()
}

#[test]
fn the_same_seed_gives_the_same_events() {
    let events = |seed: u64| {
        let config = GeneratorConfig {
            seed: seed.into(),
            ..lively()
        };
        Events::new(config).unwrap()
    };
    assert!(events(7).eq(events(7)));
    assert!(events(7).ne(events(8)));
    let mut lines = Vec::new();
    let mut written = events(7);
    while written.write_line(&mut lines).is_some() {}
    let payloads: Vec<_> = events(7).map(|event| event.payload).collect();
    assert_eq!(lines, [payloads.join(&b'\n'), b"\n".to_vec()].concat());
    assert_eq!(written.counts().rows(), 3_001);
}

#[test]
fn rows_are_what_they_are_said_to_be() {
    let config = lively();
    let disorder = config.disorder.as_millis() as i64;
    let mut format = JsonFormat::new(columns(), JsonOptions::default());
    let mut latest = HashMap::new();
    let mut seen: HashMap<u32, HashSet<Vec<u8>>> = HashMap::new();
    let mut events = Events::new(config).unwrap();
    let mut bytes = 0;
    for event in events.by_ref() {
        bytes += event.payload.len();
        let text = String::from_utf8_lossy(&event.payload).into_owned();
        let rows = tagflow_engine::source::EncodedRows {
            spans: vec![(0, event.payload.len() as u32)],
            offsets: vec![0],
            data: event.payload.clone().into(),
            ..Default::default()
        };
        let decoded = format
            .decode(&tagflow_engine::source::Rows::Encoded(rows))
            .unwrap();
        assert_eq!(
            decoded.rejected.len(),
            usize::from(event.kind == RowKind::Broken),
            "{text}"
        );
        assert!(!event.payload.contains(&b'\n') && !event.payload.is_empty());
        let repeated = !seen
            .entry(event.partition)
            .or_default()
            .insert(event.payload.clone());
        if event.kind != RowKind::Broken {
            assert_eq!(repeated, event.kind == RowKind::Duplicate, "{text}");
            assert!(text.contains(&format!(r#""user_id":"{}""#, event.key)));
            let time = occurred_at(&event.payload);
            let latest = latest.entry(event.partition).or_insert(time);
            let late = *latest - time > disorder;
            assert_eq!(late, event.kind == RowKind::Late, "{text}");
            *latest = time.max(*latest);
        }
    }
    let counts = events.counts();
    assert_eq!(counts.rows(), 3_001);
    for (kind, count, least) in [
        ("late", counts.late, 100),
        ("broken", counts.broken, 100),
        ("duplicate", counts.duplicate, 70),
    ] {
        assert!((least..220).contains(&count), "{count} {kind}");
    }
    assert!(
        (180..220).contains(&(bytes / 3_001)),
        "{} bytes a row",
        bytes / 3_001
    );
}

#[test]
fn events_look_like_a_campaign() {
    let config = GeneratorConfig::many(20_000);
    let mut types: HashMap<String, u32> = HashMap::new();
    let mut campaigns: HashMap<String, u32> = HashMap::new();
    let mut ids = HashSet::new();
    for event in Events::new(config).unwrap() {
        let event: serde_json::Value = serde_json::from_slice(&event.payload).unwrap();
        let text = |name: &str| event[name].as_str().unwrap_or("none").to_owned();
        assert_eq!(
            event.get("amount").is_some(),
            text("event_type") == "purchase"
        );
        assert!(ids.insert(text("event_id")), "an event id comes twice");
        *types.entry(text("event_type")).or_default() += 1;
        *campaigns.entry(text("campaign_id")).or_default() += 1;
    }
    let of = |name: &str| f64::from(types[name]) / 20_000.0;
    assert!((of("impression") - 0.8).abs() < 0.02 && (of("purchase") - 0.012).abs() < 0.005);
    assert!((f64::from(campaigns["none"]) / 20_000.0 - 0.1).abs() < 0.01);
    // Zipf: the first campaign has about twice as many as the second.
    let ratio = f64::from(campaigns["c0000"]) / f64::from(campaigns["c0001"]);
    assert!((1.6..2.4).contains(&ratio), "{ratio}");
}

#[test]
fn wrong_settings_are_refused() {
    let base = GeneratorConfig::default;
    for (config, part) in [
        (
            GeneratorConfig {
                late: share(0.6),
                broken: share(0.6),
                ..base()
            },
            "more than all rows",
        ),
        (
            GeneratorConfig {
                users: 0.into(),
                ..base()
            },
            "`users`",
        ),
        (
            GeneratorConfig {
                rate: Some(0.into()),
                ..base()
            },
            "`rate`",
        ),
    ] {
        let error = GeneratorSource::new(config).unwrap_err();
        assert!(error.to_string().contains(part), "{error}");
    }
}

#[test]
fn extreme_settings_do_not_panic() {
    let config = GeneratorConfig {
        start: EventTime::MAX.into(),
        interval: Duration::ZERO.into(),
        disorder: Duration::ZERO.into(),
        duplicates: share(0.5),
        late: share(0.5),
        late_by: Duration::MAX,
        ..GeneratorConfig::many(200)
    };
    assert_eq!(Events::new(config).unwrap().count(), 200);
}

#[tokio::test]
async fn the_source_gives_the_events_and_goes_on_anywhere() {
    let config = GeneratorConfig {
        count: Some(61.into()),
        partitions: 3.into(),
        ..lively()
    };
    let source = GeneratorSource::new(config.clone()).unwrap();
    let whole = read_all(&source, &Positions::new(), 3).await;
    let mut expected: Vec<_> = Events::new(config)
        .unwrap()
        .map(|event| (event.partition, event.row, event.payload))
        .collect();
    expected.sort_unstable();
    let actual: Vec<_> = whole
        .rows
        .iter()
        .flat_map(|(name, rows)| rows.iter().map(move |row| (name, row)))
        .collect();
    assert_eq!(actual.len(), 61);
    for ((name, (offset, text)), (partition, row, payload)) in actual.into_iter().zip(expected) {
        assert_eq!(
            (&**name, *offset),
            (partition.to_string().as_str(), row as i64)
        );
        assert_eq!(*text, String::from_utf8_lossy(&payload));
    }
    check_resume(&source, &whole).await;
}

#[tokio::test]
async fn no_more_rows_come_than_their_rate_allows() {
    let config = GeneratorConfig {
        rate: Some(50_000.into()),
        partitions: 4.into(),
        ..GeneratorConfig::default()
    };
    let begin = std::time::Instant::now();
    let source = GeneratorSource::new(config).unwrap();
    let mut reader = source.open(&Positions::new()).await.unwrap();
    let mut rows = 0;
    while rows < 5_000 {
        if let SourceEvent::Chunk(chunk) = reader.next().await.unwrap() {
            rows += chunk.rows.len();
            // Each share of the due rows is rounded up.
            assert!((rows as f64) < begin.elapsed().as_secs_f64() * 50_000.0 + 1.0);
        }
    }
    assert!(begin.elapsed() > Duration::from_millis(99));
}

#[tokio::test]
async fn a_paused_partition_gives_nothing_until_it_is_resumed() {
    let config = GeneratorConfig {
        partitions: 2.into(),
        ..GeneratorConfig::default()
    };
    let mut reader = GeneratorSource::new(config)
        .unwrap()
        .open(&Positions::new())
        .await
        .unwrap();
    reader.next().await.unwrap();
    reader.pause("0");
    for _ in 0..3 {
        let SourceEvent::Chunk(chunk) = reader.next().await.unwrap() else {
            panic!("no chunk")
        };
        assert_eq!(&*chunk.partition, "1");
    }
    reader.pause("1");
    assert!(reader.next().now_or_never().is_none());
    reader.resume("0");
    let SourceEvent::Chunk(chunk) = reader.next().await.unwrap() else {
        panic!("no chunk")
    };
    assert_eq!((&*chunk.partition, chunk.first), ("0", 0));
}
