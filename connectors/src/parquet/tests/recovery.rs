use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

/// The ids in the committed files and state, sorted.
async fn committed_ids(log: &Log) -> Vec<i64> {
    let files = log.file_rows().await.into_iter().flat_map(|(_, rows)| rows);
    let mut ids: Vec<i64> = files
        .chain(log.parts.values().cloned())
        .flat_map(|rows| rows["id"].as_primitive::<Int64Type>().values().to_vec())
        .collect();
    ids.sort_unstable();
    ids
}

#[tokio::test]
async fn a_cut_carries_only_the_rows_since_the_cut_before() {
    let rows = numbered(0..10);
    let factory = ParquetSinkFactory::new(partitioned(&rows, &["dt"])).unwrap();
    let mut sink = factory.open(context()).unwrap();
    let mut keys = BTreeSet::new();
    for (ids, parts) in [(0..10, 5), (10..12, 2), (12..12, 0), (12..13, 1)] {
        let count = ids.clone().count();
        sink.write(Batch::derived(numbered(ids))).await.unwrap();
        let cut = sink.prepare_commit(BarrierKind::Checkpoint).await.unwrap();
        assert_eq!((cut.committables.len(), cut.snapshot.removed.len()), (0, 0));
        assert_eq!(cut.snapshot.put.len(), parts);
        let parts = cut.snapshot.put.into_iter();
        let parts: Vec<_> = parts.map(|part| part.load().unwrap()).collect();
        let carried: usize = parts.iter().map(|part| part.rows.num_rows()).sum();
        assert_eq!(carried, count);
        keys.extend(parts.into_iter().map(|part| part.key));
    }
    let cut = sink.prepare_commit(BarrierKind::Stop).await.unwrap();
    assert_eq!(cut.committables.len(), 5);
    assert_eq!(
        cut.snapshot.removed.into_iter().collect::<BTreeSet<_>>(),
        keys
    );
}

#[tokio::test]
async fn restored_rows_are_in_a_file_after_the_next_cut() {
    let rows = numbered(0..10);
    let factory = ParquetSinkFactory::new(partitioned(&rows, &["dt"])).unwrap();
    let mut log = Log::new(&factory);
    let mut sink = factory.open(context()).unwrap();
    sink.write(Batch::derived(rows)).await.unwrap();
    log.commit(sink.prepare_commit(BarrierKind::Checkpoint).await.unwrap())
        .await;

    let mut sink = log.recover(&factory, context()).await;
    // A row that joins a restored file, and one that does not.
    sink.write(Batch::derived(numbered([10]))).await.unwrap();
    log.commit(sink.prepare_commit(BarrierKind::Checkpoint).await.unwrap())
        .await;
    assert_eq!(log.row_counts(), (11, 0));
    assert_eq!(log.files.len(), 5);
    sink.write(Batch::derived(numbered([11]))).await.unwrap();
    log.commit(sink.prepare_commit(BarrierKind::Checkpoint).await.unwrap())
        .await;
    assert_eq!(log.row_counts(), (11, 1));
}

#[tokio::test]
async fn rows_of_a_folder_go_to_one_lane_when_lanes_change() {
    let rows = numbered(0..10);
    let factory = ParquetSinkFactory::new(partitioned(&rows, &["dt"])).unwrap();
    let mut groups = Vec::new();
    for _lane in 0..2 {
        let mut log = Log::new(&factory);
        let mut sink = factory.open(context()).unwrap();
        sink.write(Batch::derived(rows.clone())).await.unwrap();
        log.commit(sink.prepare_commit(BarrierKind::Checkpoint).await.unwrap())
            .await;
        let of_lane: BTreeSet<(i32, u8)> = log
            .parts
            .values()
            .map(|part| {
                let days = part["dt"].as_primitive::<arrow::datatypes::Date32Type>();
                let groups = part[tagflow_engine::state::KEY_GROUP_COLUMN]
                    .as_primitive::<arrow::datatypes::UInt8Type>();
                assert!(
                    groups
                        .values()
                        .iter()
                        .all(|group| *group == groups.value(0))
                );
                (days.value(0), groups.value(0))
            })
            .collect();
        groups.push(of_lane);
    }
    assert_eq!(groups[0], groups[1]);
    assert_eq!(groups[0].len(), 5);
}

#[tokio::test]
async fn rows_of_an_older_shape_are_restored_by_name() {
    let old = numbered(0..10);
    let factory = ParquetSinkFactory::new(partitioned(&old, &["dt"])).unwrap();
    let mut log = Log::new(&factory);
    let mut sink = factory.open(context()).unwrap();
    sink.write(Batch::derived(old)).await.unwrap();
    log.commit(sink.prepare_commit(BarrierKind::Checkpoint).await.unwrap())
        .await;

    // `text` was removed, `dt` was moved, `clicks` is new.
    let schema = Schema::new(vec![
        Field::new("dt", DataType::Date32, true),
        Field::new("clicks", DataType::Int64, false),
        Field::new("id", DataType::Int64, false),
    ]);
    let new = RecordBatch::new_empty(Arc::new(schema));
    let factory = ParquetSinkFactory::new(partitioned(&new, &["dt"])).unwrap();
    let mut sink = log.recover(&factory, context()).await;
    let mut log = Log::new(&factory);
    let mut cut = sink.prepare_commit(BarrierKind::Checkpoint).await.unwrap();
    cut.snapshot.removed.clear();
    log.commit(cut).await;
    assert_eq!(committed_ids(&log).await, (0..10).collect::<Vec<_>>());
    let (_, rows) = &log.file_rows().await[0];
    assert_eq!(rows[0]["clicks"].null_count(), rows[0].num_rows());
}

#[derive(Debug, Clone)]
enum Step {
    Write(i64),
    Cut,
    Wait(u64),
    /// After a cut whose commit was written, or in the middle of an epoch.
    Crash,
    /// A cut whose commit was never written, then a crash.
    LostCommit,
    Stop,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (1_i64..400).prop_map(Step::Write),
        4 => Just(Step::Cut),
        1 => (1_u64..200).prop_map(Step::Wait),
        1 => Just(Step::Crash),
        1 => Just(Step::LostCommit),
        1 => Just(Step::Stop),
    ]
}

async fn every_row_once(steps: Vec<Step>, files: FileOptions) {
    let mut config = partitioned(&numbered(0..1), &["dt"]);
    config.files = files;
    let factory = ParquetSinkFactory::new(config).unwrap();
    let clock = Arc::new(ManualClock::default());
    let context = || context_with(clock.clone());
    let mut log = Log::new(&factory);
    let mut sink = factory.open(context()).unwrap();
    // The source: the committed rows, and those read since.
    let (mut committed, mut read) = (0, 0);
    for step in steps {
        match step {
            Step::Write(rows) => {
                sink.write(Batch::derived(numbered(read..read + rows)))
                    .await
                    .unwrap();
                read += rows;
            }
            Step::Cut => {
                log.commit(sink.prepare_commit(BarrierKind::Checkpoint).await.unwrap())
                    .await;
                committed = read;
            }
            Step::Wait(seconds) => clock.advance(Duration::from_secs(seconds)),
            Step::Crash => {
                sink = log.recover(&factory, context()).await;
                read = committed;
            }
            Step::LostCommit => {
                sink.prepare_commit(BarrierKind::Checkpoint).await.unwrap();
                sink = log.recover(&factory, context()).await;
                read = committed;
            }
            Step::Stop => {
                log.commit(sink.prepare_commit(BarrierKind::Stop).await.unwrap())
                    .await;
                committed = read;
                assert!(log.parts.is_empty());
                sink = log.recover(&factory, context()).await;
            }
        }
        assert_eq!(
            committed_ids(&log).await,
            (0..committed).collect::<Vec<_>>()
        );
    }
    log.commit(sink.prepare_commit(BarrierKind::Stop).await.unwrap())
        .await;
    assert_eq!(committed_ids(&log).await, (0..read).collect::<Vec<_>>());
    assert!(log.parts.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_row_is_committed_once_through_crashes(
        steps in prop::collection::vec(step(), 1..25),
        target_bytes in prop_oneof![Just(2_000_u64), Just(1 << 28)],
        open_bytes in prop_oneof![Just(50_000_usize), Just(1 << 26)],
        sort_by in prop_oneof![Just(vec![]), Just(vec!["text".to_owned()])],
    ) {
        let files = FileOptions { target_bytes, open_bytes, sort_by, ..FileOptions::default() };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(every_row_once(steps, files));
    }
}
