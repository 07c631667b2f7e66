use std::{collections::BTreeMap, sync::Arc, time::Duration};

use arrow::{
    array::{ArrayRef, AsArray, BooleanArray, Int64Array, StringArray, TimestampMicrosecondArray},
    datatypes::{Int64Type, TimestampMicrosecondType},
    record_batch::RecordBatch,
};
use object_store::{ObjectStoreExt, path::Path};
use proptest::prelude::*;
use tagflow_engine::{
    Batch, ErrorKind,
    element::BarrierKind,
    files::prepared,
    sink::{PreparedCommit, Sink, SinkFactory},
};

use crate::{
    parquet::{
        FileOptions, Newest, ParquetSinkConfig, ParquetSinkFactory, PartitionColumn, Revisions,
        tests,
    },
    sink_conformance::{Log, ManualClock, conformance_of_epochs, context, context_with},
};

/// Seconds of event time that windows may be corrected for.
const LATENESS: i64 = 100;

/// One row: its window's end, its key, its revision, its value.
type Row = (i64, &'static str, i64, i64);

fn batch(rows: &[Row]) -> RecordBatch {
    let time = |seconds: fn(&Row) -> i64| -> ArrayRef {
        let times = rows.iter().map(|row| seconds(row) * 1_000_000);
        Arc::new(TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC"))
    };
    let number = |number: fn(&Row) -> i64| -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(rows.iter().map(number)))
    };
    RecordBatch::try_from_iter([
        ("window_start", time(|row| row.0 - 10)),
        ("window_end", time(|row| row.0)),
        (
            "campaign",
            Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.1))) as _,
        ),
        ("clicks", number(|row| row.3)),
        ("revision", number(|row| row.2)),
        // Windows of 50 seconds share a folder.
        ("part", number(|row| row.0 / 50)),
    ])
    .unwrap()
}

fn config() -> ParquetSinkConfig {
    ParquetSinkConfig {
        partition_by: vec![PartitionColumn {
            name: "part".to_owned(),
            column: 5,
        }],
        newest: Some(Newest::Revisions(Revisions {
            key: vec![0, 1, 2],
            window_end: 1,
            revision: 4,
            retracted: None,
            lateness: Duration::from_secs(LATENESS as u64),
        })),
        files: FileOptions {
            max_open: Duration::ZERO,
            ..FileOptions::default()
        },
        ..tests::config(&batch(&[]))
    }
}

fn factory(config: ParquetSinkConfig) -> ParquetSinkFactory {
    ParquetSinkFactory::new(config).unwrap()
}

#[tokio::test]
async fn conforms() {
    let carried = FileOptions::default();
    for files in [config().files, carried] {
        let factory = factory(ParquetSinkConfig { files, ..config() });
        let rows = |epoch: u64| {
            let end = epoch as i64 * 10;
            batch(&[(end, "a", 0, 1), (end, "b", 0, 2)])
        };
        conformance_of_epochs(&factory, rows, |epochs| 2 * epochs).await;
    }
}

async fn cut(sink: &mut Box<dyn Sink>, rows: &[Row]) -> PreparedCommit {
    sink.write(Batch::derived(batch(rows))).await.unwrap();
    sink.prepare_commit(BarrierKind::Checkpoint).await.unwrap()
}

/// The number of files that a cut adds, and the number that it removes.
fn counts(cut: &PreparedCommit) -> (usize, usize) {
    let (files, removed) = prepared(&cut.committables, &Path::from("lake/campaigns")).unwrap();
    (files.len(), removed.len())
}

/// The clicks of each window and key for a reader of every row.
async fn seen(log: &Log) -> Vec<(i64, String, i64)> {
    let mut seen = Vec::new();
    for (_, batches) in log.file_rows().await {
        for rows in batches {
            let ends = rows["window_end"].as_primitive::<TimestampMicrosecondType>();
            let keys = rows["campaign"].as_string::<i32>();
            let clicks = rows["clicks"].as_primitive::<Int64Type>();
            for row in 0..rows.num_rows() {
                let end = ends.value(row) / 1_000_000;
                seen.push((end, keys.value(row).to_owned(), clicks.value(row)));
            }
        }
    }
    seen.sort();
    seen
}

async fn assert_seen(log: &Log, expected: &[(i64, &str, i64)]) {
    let expected = expected.iter();
    let expected: Vec<_> = expected
        .map(|(end, key, clicks)| (*end, (*key).to_owned(), *clicks))
        .collect();
    assert_eq!(seen(log).await, expected);
}

#[tokio::test]
async fn a_window_that_comes_out_again_is_there_once() {
    let factory = factory(config());
    let mut log = Log::new(&factory);
    let mut sink = factory.open(context()).unwrap();
    let first = cut(
        &mut sink,
        &[(10, "a", -2, 1), (10, "b", -2, 1), (60, "a", -9, 5)],
    )
    .await;
    assert_eq!(counts(&first), (2, 0));
    log.commit(first).await;
    log.publish().await;

    // The next preview replaces a preview, and the result with one more key replaces that one. The
    // other folder does not change.
    let next = cut(
        &mut sink,
        &[(10, "a", -1, 2), (10, "a", 0, 3), (10, "c", 0, 7)],
    )
    .await;
    assert_eq!(counts(&next), (1, 1));
    log.commit(next).await;
    log.publish().await;
    assert_seen(
        &log,
        &[(10, "a", 3), (10, "b", 1), (10, "c", 7), (60, "a", 5)],
    )
    .await;

    // A correction, before the file is published.
    log.commit(cut(&mut sink, &[(10, "b", 1, 2)]).await).await;
    log.commit(cut(&mut sink, &[(10, "b", 2, 4)]).await).await;
    log.publish().await;
    assert_seen(
        &log,
        &[(10, "a", 3), (10, "b", 4), (10, "c", 7), (60, "a", 5)],
    )
    .await;
}

/// Rows with one more column: those without clicks are retracted.
fn retracting(rows: &[Row]) -> RecordBatch {
    let rows_of = batch(rows);
    let retracted: BooleanArray = rows.iter().map(|row| Some(row.3 == 0)).collect();
    let names = rows_of.schema();
    let names = names.fields().iter().map(|field| field.name().clone());
    let columns = names.zip(rows_of.columns().to_vec());
    let columns = columns.chain([("retracted".to_owned(), Arc::new(retracted) as _)]);
    RecordBatch::try_from_iter(columns).unwrap()
}

#[tokio::test]
async fn what_is_retracted_takes_its_row_away() {
    let Some(Newest::Revisions(revisions)) = config().newest else {
        panic!()
    };
    let config = ParquetSinkConfig {
        newest: Some(Newest::Revisions(Revisions {
            retracted: Some(6),
            ..revisions
        })),
        partition_by: config().partition_by,
        files: config().files,
        ..tests::config(&retracting(&[]))
    };
    let factory = factory(config);
    let mut log = Log::new(&factory);
    let mut sink = factory.open(context()).unwrap();
    let mut cut = async |rows: &[Row]| {
        let rows = Batch::derived(retracting(rows));
        sink.write(rows).await.unwrap();
        sink.prepare_commit(BarrierKind::Checkpoint).await.unwrap()
    };
    log.commit(cut(&[(10, "a", 0, 1), (20, "a", 0, 2), (60, "a", 0, 5)]).await)
        .await;
    // One new file replaces two old ones.
    let joined = cut(&[(10, "a", 1, 0), (20, "a", 1, 0), (30, "a", 1, 3)]).await;
    assert_eq!(counts(&joined), (1, 1));
    log.commit(joined).await;
    assert_seen(&log, &[(30, "a", 3), (60, "a", 5)]).await;
    // The removal of the last row removes the file.
    let gone = cut(&[(60, "a", 1, 0)]).await;
    assert_eq!(counts(&gone), (0, 1));
    log.commit(gone).await;
    assert_seen(&log, &[(30, "a", 3)]).await;
    // A row that was never in a file leaves nothing.
    let nothing = cut(&[(70, "b", 0, 4), (70, "b", 1, 0)]).await;
    assert_eq!(counts(&nothing), (0, 0));
}

#[tokio::test]
async fn only_files_with_a_window_in_question_are_written_anew() {
    let factory = factory(config());
    let mut log = Log::new(&factory);
    let mut sink = factory.open(context()).unwrap();
    for end in [10, 20, 30] {
        let rows = cut(&mut sink, &[(end, "a", 0, end)]).await;
        assert_eq!(counts(&rows), (1, 0));
        log.commit(rows).await;
    }
    let correction = cut(&mut sink, &[(20, "a", 1, 7), (40, "a", 0, 40)]).await;
    assert_eq!(counts(&correction), (2, 1));
    log.commit(correction).await;
    assert_seen(
        &log,
        &[(10, "a", 10), (20, "a", 7), (30, "a", 30), (40, "a", 40)],
    )
    .await;
}

#[tokio::test]
async fn files_are_forgotten_when_their_windows_have_settled() {
    let factory = factory(config());
    let mut log = Log::new(&factory);
    let mut sink = factory.open(context()).unwrap();
    let remembered = |log: &Log| log.parts.get("published").map_or(0, RecordBatch::num_rows);
    for (end, files) in [(10, 1), (60, 2), (109, 3), (110, 3), (300, 1)] {
        log.commit(cut(&mut sink, &[(end, "a", 0, 1)]).await).await;
        assert_eq!(remembered(&log), files, "at {end}");
    }
    // A preview closes no window.
    log.commit(cut(&mut sink, &[(900, "a", -3, 1)]).await).await;
    assert_eq!(remembered(&log), 2);
    log.commit(sink.prepare_commit(BarrierKind::Stop).await.unwrap())
        .await;
    assert_eq!(remembered(&log), 2, "they are of use after a stop");
}

#[tokio::test]
async fn rows_wait_until_their_folder_is_due() {
    let mut config = config();
    config.files.max_open = Duration::from_mins(1);
    let factory = factory(config);
    let clock = Arc::new(ManualClock::default());
    let mut log = Log::new(&factory);
    let mut sink = factory.open(context_with(clock.clone())).unwrap();
    for revision in -5..0 {
        let rows = cut(&mut sink, &[(10, "a", revision, revision)]).await;
        assert_eq!(counts(&rows), (0, 0));
        log.commit(rows).await;
    }
    assert_eq!(log.parts.len(), 5);
    clock.set_back(Duration::from_hours(1));
    clock.advance(Duration::from_mins(1));
    log.commit(cut(&mut sink, &[]).await).await;
    assert_seen(&log, &[(10, "a", -1)]).await;
    assert_eq!(log.parts.len(), 1, "only what is published is remembered");
}

#[tokio::test]
async fn a_row_replaced_before_any_commit_leaves_no_file() {
    let mut config = config();
    config.files.open_bytes = 1;
    let (store, factory) = (config.store.clone(), factory(config));
    let mut log = Log::new(&factory);
    let mut sink = factory.open(context()).unwrap();
    // Each batch exceeds the memory.
    for revision in -3..0 {
        let rows = batch(&[(10, "a", revision, revision)]);
        sink.write(Batch::derived(rows)).await.unwrap();
    }
    let rows = sink.prepare_commit(BarrierKind::Checkpoint).await.unwrap();
    assert_eq!(counts(&rows), (1, 0));
    log.commit(rows).await;
    assert_seen(&log, &[(10, "a", -1)]).await;
    let folder = Path::from("lake/campaigns/_staging/main/7");
    let staged = store.list_with_delimiter(Some(&folder)).await.unwrap();
    assert_eq!(staged.objects.len(), 1);
}

#[tokio::test]
async fn a_large_file_is_written_anew_as_several() {
    let mut config = config();
    config.files.target_bytes = 1;
    let factory = factory(config);
    let mut log = Log::new(&factory);
    let mut sink = factory.open(context()).unwrap();
    log.commit(cut(&mut sink, &[(10, "a", 0, 1), (10, "b", 0, 2)]).await)
        .await;
    let correction = cut(&mut sink, &[(10, "a", 1, 3)]).await;
    assert_eq!(counts(&correction), (2, 1));
    log.commit(correction).await;
    let correction = cut(&mut sink, &[(10, "b", 2, 4)]).await;
    assert_eq!(counts(&correction), (2, 2));
    log.commit(correction).await;
    assert_seen(&log, &[(10, "a", 3), (10, "b", 4)]).await;
}

#[tokio::test]
async fn a_file_that_someone_took_away_is_named() {
    let config = config();
    let (store, factory) = (config.store.clone(), factory(config));
    let mut sink = factory.open(context()).unwrap();
    let first = cut(&mut sink, &[(10, "a", -1, 1)]).await;
    let (files, _) = Log::new(&factory).changes(&first.committables);
    store.delete(&files[0].staged).await.unwrap();
    sink.write(Batch::derived(batch(&[(10, "a", 0, 1)])))
        .await
        .unwrap();
    let error = sink
        .prepare_commit(BarrierKind::Checkpoint)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("/part=0/"), "{error}");
    assert!(error.to_string().contains("--replace-tables"), "{error}");
}

#[tokio::test]
async fn regression_a_file_that_was_changed_is_not_written_anew() {
    for restarted in [false, true] {
        let config = config();
        let (store, factory) = (config.store.clone(), factory(config));
        let mut log = Log::new(&factory);
        let mut sink = factory.open(context()).unwrap();
        let first = cut(&mut sink, &[(10, "a", -1, 1), (10, "b", -1, 7)]).await;
        let staged = log.changes(&first.committables).0.remove(0).staged;
        log.commit(first).await;
        if restarted {
            sink = log.recover(&factory, context()).await;
        }
        let mut bytes = store
            .get(&staged)
            .await
            .unwrap()
            .bytes()
            .await
            .unwrap()
            .to_vec();
        bytes[10] ^= 1;
        let file = &log.files[0];
        let name = file.name.as_deref().unwrap();
        let published = format!("lake/campaigns/{}/{name}.parquet", file.folder);
        let published = Path::parse(published).unwrap();
        store.put(&published, bytes.into()).await.unwrap();
        sink.write(Batch::derived(batch(&[(10, "a", 0, 2)])))
            .await
            .unwrap();
        let error = sink
            .prepare_commit(BarrierKind::Checkpoint)
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Data);
        assert!(
            error.to_string().contains("does not have the checksum"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn what_the_state_means_is_in_the_fingerprint() {
    let replacing = factory(config()).fingerprint().unwrap();
    assert!(
        replacing.ends_with("; replaced by window_start, window_end, campaign"),
        "{replacing}"
    );
    let appending = ParquetSinkConfig {
        newest: None,
        ..config()
    };
    assert_ne!(factory(appending).fingerprint().unwrap(), replacing);
}

#[derive(Debug, Clone)]
enum Step {
    /// Windows close in order; some keys of a window are emitted again.
    Write {
        window: i64,
        keys: usize,
        publish: bool,
    },
    Cut,
    Wait,
    Crash,
    LostCommit,
    Stop,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (1_i64..11, 1_usize..8, any::<bool>())
            .prop_map(|(window, keys, publish)| Step::Write { window, keys, publish }),
        4 => Just(Step::Cut),
        1 => Just(Step::Wait),
        1 => Just(Step::Crash),
        1 => Just(Step::LostCommit),
        1 => Just(Step::Stop),
    ]
}

/// Compares the newest of all written rows with the rows in files and state together.
async fn the_newest_is_there(steps: Vec<Step>, files: FileOptions) {
    let factory = factory(ParquetSinkConfig { files, ..config() });
    let clock = Arc::new(ManualClock::default());
    let mut log = Log::new(&factory);
    let mut sink = factory.open(context_with(clock.clone())).unwrap();
    let mut newest: BTreeMap<(i64, String), i64> = BTreeMap::new();
    let mut committed = newest.clone();
    let mut revision = 0;
    for step in steps.into_iter().chain([Step::Stop]) {
        match step {
            Step::Write {
                window,
                keys,
                publish,
            } => {
                revision += 1;
                let names = ["a", "b", "c"].into_iter().enumerate();
                let names = names.filter(|(index, _)| keys & (1 << index) != 0);
                let rows: Vec<Row> = names
                    .map(|(_, key)| (window * 10, key, revision, revision))
                    .collect();
                for (end, key, _, clicks) in &rows {
                    newest.insert((*end, (*key).to_owned()), *clicks);
                }
                sink.write(Batch::derived(batch(&rows))).await.unwrap();
                if publish {
                    log.publish().await;
                }
                continue;
            }
            Step::Wait => {
                clock.advance(Duration::from_mins(10));
                continue;
            }
            Step::Cut => {
                log.commit(sink.prepare_commit(BarrierKind::Checkpoint).await.unwrap())
                    .await;
                committed = newest.clone();
            }
            Step::Stop => {
                log.commit(sink.prepare_commit(BarrierKind::Stop).await.unwrap())
                    .await;
                committed = newest.clone();
                assert!(log.parts.keys().all(|key| key == "published"));
                let rows: Vec<_> = seen(&log).await;
                let expected = committed.iter();
                let expected: Vec<_> = expected
                    .map(|((end, key), clicks)| (*end, key.clone(), *clicks))
                    .collect();
                assert_eq!(rows, expected);
            }
            Step::LostCommit => {
                sink.prepare_commit(BarrierKind::Checkpoint).await.unwrap();
            }
            Step::Crash => {}
        }
        if !matches!(step, Step::Cut) {
            // The next process publishes everything first.
            log.publish().await;
            sink = log.recover(&factory, context_with(clock.clone())).await;
            newest = committed.clone();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn each_window_and_key_is_there_once_through_crashes(
        steps in prop::collection::vec(step(), 1..30),
        target_bytes in prop_oneof![Just(1_u64), Just(1 << 28)],
        open_bytes in prop_oneof![Just(3_000_usize), Just(1 << 26)],
        max_open in prop_oneof![Just(Duration::ZERO), Just(Duration::from_mins(5))],
        sort_by in prop_oneof![Just(vec![]), Just(vec!["campaign".to_owned()])],
    ) {
        let files = FileOptions { target_bytes, max_open, open_bytes, sort_by, ..FileOptions::default() };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(the_newest_is_there(steps, files));
    }
}
