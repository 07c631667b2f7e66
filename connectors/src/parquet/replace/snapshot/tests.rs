use std::{collections::BTreeMap, sync::Arc};

use arrow::{
    array::{ArrayRef, AsArray, Int64Array, StringArray, TimestampMicrosecondArray},
    datatypes::{Int64Type, TimestampMicrosecondType},
    record_batch::RecordBatch,
};
use proptest::prelude::*;
use tagflow_engine::{
    Batch,
    element::BarrierKind,
    sink::{Sink, SinkContext, SinkFactory},
};

use crate::{
    parquet::{FileOptions, Newest, ParquetSinkConfig, ParquetSinkFactory, PartitionColumn, tests},
    sink_conformance::{Log, conformance_of_epochs, context},
};

/// The users of a snapshot at a time; each value is the time.
fn batch(as_of: i64, users: &[&str]) -> RecordBatch {
    let times = vec![as_of * 1_000_000; users.len()];
    let buckets = users.iter().map(|user| user.len().to_string());
    RecordBatch::try_from_iter([
        (
            "user",
            Arc::new(StringArray::from(users.to_vec())) as ArrayRef,
        ),
        (
            "as_of",
            Arc::new(TimestampMicrosecondArray::from(times).with_timezone("UTC")),
        ),
        (
            "orders",
            Arc::new(Int64Array::from(vec![as_of; users.len()])),
        ),
        ("bucket", Arc::new(StringArray::from_iter_values(buckets))),
    ])
    .unwrap()
}

fn factory(files: FileOptions) -> ParquetSinkFactory {
    let config = ParquetSinkConfig {
        partition_by: vec![PartitionColumn {
            name: "bucket".to_owned(),
            column: 3,
        }],
        newest: Some(Newest::Snapshot { bucket: 3 }),
        files,
        ..tests::config(&batch(0, &[]))
    };
    ParquetSinkFactory::new(config).unwrap()
}

/// The rows that readers see: users with the time of their snapshot.
async fn seen(log: &Log) -> Vec<(String, i64)> {
    let mut seen = Vec::new();
    for (_, batches) in log.file_rows().await {
        for rows in batches {
            let users = rows["user"].as_string::<i32>();
            let times = rows["as_of"].as_primitive::<TimestampMicrosecondType>();
            let orders = rows["orders"].as_primitive::<Int64Type>();
            for row in 0..rows.num_rows() {
                assert_eq!(orders.value(row) * 1_000_000, times.value(row));
                seen.push((users.value(row).to_owned(), orders.value(row)));
            }
        }
    }
    seen.sort();
    seen
}

async fn assert_seen(log: &Log, as_of: i64, users: &[&str]) {
    let expected: Vec<_> = users.iter().map(|it| ((*it).to_owned(), as_of)).collect();
    assert_eq!(seen(log).await, expected);
}

async fn write(sink: &mut Box<dyn Sink>, as_of: i64, users: &[&str]) {
    let batch = Batch::derived(batch(as_of, users));
    sink.write(batch).await.unwrap();
}

#[tokio::test]
async fn conforms() {
    let factory = factory(FileOptions::default());
    let rows = |epoch: u64| batch(epoch as i64, &["a", "b", "cc"]);
    conformance_of_epochs(&factory, rows, |_| 3).await;
}

#[tokio::test]
async fn a_snapshot_replaces_the_one_before_in_one_commit() {
    let factory = factory(FileOptions::default());
    let mut log = Log::new(&factory);
    let mut sink = factory.open(context()).unwrap();
    write(&mut sink, 10, &["a", "b", "cc"]).await;
    let first = sink.prepare_commit(BarrierKind::Checkpoint).await.unwrap();
    let (files, removed) = log.changes(&first.committables);
    let folders: Vec<_> = files.iter().map(|file| file.folder.to_string()).collect();
    assert_eq!(
        (folders, removed.len()),
        (vec!["bucket=1".to_owned(), "bucket=2".to_owned()], 0)
    );
    log.commit(first).await;
    log.publish().await;

    // Without new rows, nothing changes.
    let none = sink.prepare_commit(BarrierKind::Checkpoint).await.unwrap();
    assert!(none.committables.is_empty() && none.snapshot.is_empty());

    write(&mut sink, 20, &["a", "cc"]).await;
    let second = sink.prepare_commit(BarrierKind::Checkpoint).await.unwrap();
    let (files, removed) = log.changes(&second.committables);
    assert_eq!((files.len(), removed.len()), (2, 2));
    log.commit(second).await;
    log.publish().await;
    assert_seen(&log, 20, &["a", "cc"]).await;
}

#[tokio::test]
async fn a_snapshot_comes_in_many_batches() {
    // Small files are finished at once.
    for target_bytes in [1, 1 << 28] {
        let factory = factory(FileOptions {
            target_bytes,
            ..FileOptions::default()
        });
        let mut log = Log::new(&factory);
        let mut sink = factory.open(context()).unwrap();
        for as_of in [10, 20] {
            for user in ["a", "b", "c", "dd"] {
                write(&mut sink, as_of, &[user]).await;
            }
            log.commit(sink.prepare_commit(BarrierKind::Checkpoint).await.unwrap())
                .await;
            log.publish().await;
            assert_seen(&log, as_of, &["a", "b", "c", "dd"]).await;
        }
    }
}

#[tokio::test]
async fn lanes_write_the_buckets_that_are_theirs() {
    let factory = factory(FileOptions::default());
    let mut lanes: Vec<_> = (0..3)
        .map(|lane| {
            let place = SinkContext {
                lane,
                lanes: 3,
                ..context()
            };
            (factory.open(place).unwrap(), Log::new(&factory))
        })
        .collect();
    // Each with the buckets of all its rows.
    let mut expect = async |as_of: i64, users: &[&str], expected: [&[&str]; 3]| {
        for ((sink, log), expected) in lanes.iter_mut().zip(expected) {
            write(sink, as_of, users).await;
            log.commit(sink.prepare_commit(BarrierKind::Checkpoint).await.unwrap())
                .await;
            log.publish().await;
            assert_seen(log, as_of, expected).await;
        }
    };
    let users = ["a", "bb", "ccc", "dddd", "ee"];
    expect(10, &users, [&["ccc"], &["a", "dddd"], &["bb", "ee"]]).await;
    // A lane without a row of the newer time removes its files, too.
    expect(20, &["bb"], [&[], &[], &["bb"]]).await;
    expect(30, &["a", "bb"], [&[], &["a"], &["bb"]]).await;
}

#[test]
fn the_state_does_not_depend_on_the_columns() {
    let fingerprint = factory(FileOptions::default()).fingerprint().unwrap();
    assert!(!fingerprint.contains("orders"), "{fingerprint}");
}

#[derive(Debug, Clone)]
enum Step {
    /// All users of the next time, once per cut.
    Write(usize),
    Cut,
    Crash,
    LostCommit,
    Stop,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1_usize..4).prop_map(Step::Write),
        4 => Just(Step::Cut),
        1 => Just(Step::Crash),
        1 => Just(Step::LostCommit),
        1 => Just(Step::Stop),
    ]
}

async fn the_newest_committed_is_there(steps: Vec<Step>, target_bytes: u64) {
    let factory = factory(FileOptions {
        target_bytes,
        ..FileOptions::default()
    });
    let users = ["a", "bb", "cc"];
    let mut log = Log::new(&factory);
    let mut sink = factory.open(context()).unwrap();
    let (mut now, mut written, mut committed) = (0, BTreeMap::new(), BTreeMap::new());
    let mut is_new = false;
    for step in steps {
        match step {
            Step::Write(_) if is_new => continue,
            Step::Write(count) => {
                now += 1;
                is_new = true;
                let users = &users[..count];
                write(&mut sink, now, users).await;
                written = users.iter().map(|it| ((*it).to_owned(), now)).collect();
                continue;
            }
            Step::Cut | Step::Stop => {
                let kind = match step {
                    Step::Stop => BarrierKind::Stop,
                    _ => BarrierKind::Checkpoint,
                };
                log.commit(sink.prepare_commit(kind).await.unwrap()).await;
                committed = written.clone();
            }
            Step::LostCommit => {
                sink.prepare_commit(BarrierKind::Checkpoint).await.unwrap();
            }
            Step::Crash => {}
        }
        is_new = false;
        if !matches!(step, Step::Cut) {
            log.publish().await;
            sink = log.recover(&factory, context()).await;
            written = committed.clone();
        }
        let expected: Vec<_> = committed.clone().into_iter().collect();
        assert_eq!(seen(&log).await, expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_newest_snapshot_is_there_through_crashes(
        steps in prop::collection::vec(step(), 1..30),
        target_bytes in prop_oneof![Just(1_u64), Just(1 << 28)],
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(the_newest_committed_is_there(steps, target_bytes));
    }
}
