//! The meaning of the keys of a valid file, and the defaults of missing ones.

use std::{net::SocketAddr, time::Duration};

use tagflow_connectors::{
    kafka::{OnDataLoss, StartAt},
    parquet::Compression,
};

use super::*;

pub(crate) const EVERYTHING: &str = include_str!("everything.yaml");

#[test]
fn every_key_is_read() {
    let spec = spec(EVERYTHING);
    assert!(spec.warnings.is_empty());
    assert_eq!(spec.parallelism.as_deref(), Some(&4));
    assert_eq!(spec.memory.as_ref().unwrap().limit.bytes(), 2 << 30);
    assert_eq!(
        *spec.admin.listen,
        "127.0.0.1:9000".parse::<SocketAddr>().unwrap()
    );
    assert_eq!(*spec.checkpoint.every, Duration::from_millis(500));

    let live = spec.sources.get("live").unwrap();
    let SourceConfig::Kafka(kafka) = &live.input else {
        panic!("not Kafka");
    };
    assert_eq!(
        (*kafka.start, *kafka.on_data_loss),
        (StartAt::Committed, OnDataLoss::Record)
    );
    assert_eq!(*live.on_error, OnError::Fail);
    assert_eq!(live.max_row_bytes.bytes(), 64 << 10);
    assert_eq!(*live.time.delay, Duration::from_secs(90));
    let earliest = live.time.earliest.as_ref().unwrap();
    assert_eq!(earliest.to_string(), "2026-01-05T00:00:00Z");
    assert_eq!(
        *live.time.max_drift.as_deref().unwrap(),
        Duration::from_hours(168)
    );
    assert!(live.columns.get("tags").unwrap().nullable);

    let forgetful = spec.queries.get("forgetful").unwrap();
    let ttl = forgetful.ttl.as_ref().unwrap();
    assert_eq!(*ttl.value(), Duration::from_hours(168));

    let Format::Csv(csv) = &spec.sources.get("old").unwrap().format else {
        panic!("not CSV");
    };
    assert_eq!((*csv.header, csv.delimiter.as_str()), (false, "\t"));

    let SourceConfig::Generator(made) = &spec.sources.get("made").unwrap().input else {
        panic!("not a generator");
    };
    assert_eq!((*made.seed, made.count.as_deref()), (7, Some(&1000)));
    assert!((made.late.get() - 0.01).abs() < f64::EPSILON);

    let campaigns = spec.tables.get("campaigns").unwrap();
    assert_eq!(campaigns.key[0].as_str(), "campaign_id");
    assert_eq!(*campaigns.refresh, Duration::from_mins(5));

    let named = spec.steps.get("named").unwrap();
    assert_eq!(named.filter.as_ref().unwrap().text(), "id is not null");
    let columns: Vec<_> = named.select.as_ref().unwrap().columns().collect();
    assert_eq!(columns.len(), 2);
    assert_eq!(
        (columns[0].0.map(|name| &**name), columns[0].1.text()),
        (Some("id"), "upper(id)")
    );
    let listed = spec.steps.get("listed").unwrap().select.as_ref().unwrap();
    let items: Vec<_> = listed.columns().map(|(_, sql)| sql.text()).collect();
    assert_eq!(items, ["id", "at AS at"]);

    let by_hour = spec.metrics.get("by_hour").unwrap();
    let MetricsWindow::Tumble { width, timezone } = &by_hour.window else {
        panic!("not tumbling");
    };
    assert_eq!(**width, Width::Fixed(Duration::from_hours(1)));
    assert_eq!(**timezone, "Asia/Shanghai");
    let emit = &by_hour.emit;
    assert_eq!(
        *emit.corrections.as_ref().unwrap().until,
        Duration::from_hours(72)
    );
    let reach = by_hour.measures.get("reach").unwrap();
    assert_eq!(*reach.sketch.as_ref().unwrap().theta.lg_k, 10);
    assert_eq!(
        reach.sketch_column("reach").as_deref(),
        Some("reach_sketch")
    );
    let by_month = spec.metrics.get("by_month").unwrap();
    assert!(matches!(
        &by_month.window,
        MetricsWindow::Tumble { width, .. } if **width == Width::Month
    ));

    let sink = spec.sinks.get("table").unwrap();
    let deliver = sink.deliver.as_ref().unwrap();
    assert_eq!(*deliver.max_pending_commits, 8);
    assert_eq!(deliver.max_pending_bytes.bytes(), 100_000_000);
    let SinkConfig::Parquet(table) = &sink.output else {
        panic!("not Parquet");
    };
    assert_eq!(table.files.target.bytes(), 1 << 30);
    assert_eq!(table.files.max_open_bytes.bytes(), 10_000_000);
    assert_eq!(*table.files.compression, Compression::Snappy);
    assert_eq!(*table.mode, WriteMode::ReplaceWindows);
    let folders: Vec<_> = table.partition_by.names().map(|name| &**name).collect();
    assert_eq!(folders, ["dt", "region"]);
}

#[test]
fn what_is_left_out_has_its_default() {
    let spec = spec(MINIMAL);
    let events = spec.sources.get("events").unwrap();
    assert_eq!(*events.time.delay, Duration::from_secs(5));
    assert_eq!(*events.time.idle_after, Duration::from_mins(1));
    assert_eq!(
        *events.time.max_future.as_deref().unwrap(),
        Duration::from_mins(5)
    );
    assert_eq!(events.max_row_bytes.bytes(), 1 << 20);
    assert_eq!(*events.on_error, OnError::DeadLetter);
    assert_eq!(*spec.checkpoint.every, Duration::from_secs(10));
    assert_eq!(*spec.checkpoint.url, "./.tagflow");
    assert_eq!(
        *spec.errors.dead_letters.url,
        "./.tagflow/_dead_letters/demo"
    );
    assert_eq!(*spec.errors.late.url, "./.tagflow/_late/demo");
    assert_eq!(
        spec.errors.late.url.shown(),
        "${env:TAGFLOW_STATE:-./.tagflow}/_late/demo"
    );
    assert!(spec.admin.listen.is_default());
    assert_eq!(spec.admin.listen.port(), 8642);
    assert!(spec.parallelism.is_none() && spec.memory.is_none());
}

#[test]
fn files_may_be_a_day_ahead_unless_told_otherwise() {
    let kafka = "kafka: {brokers: localhost:9092, topics: [t]}";
    let files = with(kafka, "files: {url: a.ndjson}");
    let max_future = |text: &str| {
        let spec = spec(text);
        let time = &spec.sources.get("events").unwrap().time;
        time.max_future.as_deref().copied()
    };
    assert_eq!(max_future(&files), Some(Duration::from_hours(24)));
    let told = files.replace("event_time: ts", "event_time: ts, max_future: 1h");
    assert_eq!(max_future(&told), Some(Duration::from_hours(1)));
}

#[test]
fn a_generator_needs_no_columns() {
    let text = "name: g\nsources: {e: {generator: }}\nsinks: {o: {from: e, blackhole: }}\n";
    let spec = spec(text);
    let source = spec.sources.get("e").unwrap();
    assert_eq!(source.columns.as_slice().len(), 10);
    assert_eq!(*source.time.event_time, "occurred_at");
    assert_eq!(source.format.name(), "json");
}

#[test]
fn the_example_is_right() {
    let example = include_str!("../../../../examples/campaign_metrics.yaml");
    let spec = spec(example);
    assert_eq!(*spec.name, "campaign-metrics");
    let events = spec.sources.get("events").unwrap();
    assert_eq!(
        events.columns.as_slice(),
        Columns::generated(Position::START).as_slice()
    );
}

#[test]
fn the_reference_begins_with_a_right_file() {
    let page = include_str!("../../../../docs/reference/README.md");
    let (_, rest) = page.split_once("```yaml\n").unwrap();
    let (example, _) = rest.split_once("```").unwrap();
    assert_eq!(*spec(example).name, "clicks");
}
