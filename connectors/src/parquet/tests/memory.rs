use super::*;
use crate::parquet::{rolling::OpenFile, sink::ParquetSink};

/// Writes `batches` of 2,000 rows over `days` days and checks the sink's memory limit after each.
/// Returns the final number of files.
async fn check(days: i32, batches: i64, files: FileOptions) -> usize {
    let open_bytes = files.open_bytes;
    let mut config = partitioned(&numbered(0..1), &["dt"]);
    config.files = files;
    let factory = ParquetSinkFactory::new(config).unwrap();
    let mut log = Log::new(&factory);
    let mut sink: ParquetSink = factory.open_lane(context()).unwrap();
    for n in 0..batches {
        let rows = numbered_over(days, n * 2_000..(n + 1) * 2_000);
        sink.write(Batch::derived(rows)).await.unwrap();
        let files = sink.open.values();
        let memory: usize = files.clone().map(OpenFile::memory_bytes).sum();
        let pending: usize = files.map(|file| file.carry().pending_bytes()).sum();
        assert_eq!((memory, pending), (sink.memory_bytes, sink.pending_bytes));
        assert!(memory <= open_bytes, "{memory} bytes after batch {n}");
        assert!(
            pending <= 8 << 20,
            "{pending} bytes carried after batch {n}"
        );
        if n % 5 == 4 {
            log.commit(sink.prepare_commit(BarrierKind::Checkpoint).await.unwrap())
                .await;
        }
    }
    log.commit(sink.prepare_commit(BarrierKind::Stop).await.unwrap())
        .await;
    assert_eq!(log.row_counts(), (batches as u64 * 2_000, 0));
    log.files.len()
}

#[tokio::test]
async fn two_hundred_open_partitions_stay_within_memory() {
    let files = check(
        200,
        20,
        FileOptions {
            open_bytes: 256 << 10,
            ..FileOptions::default()
        },
    )
    .await;
    assert!(files > 200, "the bound was never reached: {files} files");
}

#[tokio::test]
async fn a_thousand_days_stay_within_memory() {
    let files = check(1_000, 6, FileOptions::default()).await;
    assert!(files >= 1_000, "{files} files");
}

#[tokio::test]
async fn each_partition_has_one_file_where_memory_allows() {
    assert_eq!(check(400, 6, FileOptions::default()).await, 400);
}

#[tokio::test]
async fn a_row_group_ends_where_that_frees_enough() {
    let mut config = config(&numbered(0..1));
    config.files.open_bytes = 4 << 20;
    let store = config.store.clone();
    let batches: Vec<_> = (0..25)
        .map(|n| numbered(n * 2_000..(n + 1) * 2_000))
        .collect();
    let log = write_all(config, &batches).await.unwrap();
    // The compressors of full pages take more than the encoded data.
    assert_eq!(log.files.len(), 1);
    assert_eq!(metadata(&log, store.as_ref()).await.num_row_groups(), 3);
}

#[tokio::test]
async fn rows_that_are_too_many_to_carry_are_in_a_file_after_the_cut() {
    let text = StringArray::from_iter_values((0..2_000).map(|_| "x".repeat(1_000)));
    let rows = RecordBatch::try_from_iter([("text", Arc::new(text) as ArrayRef)]).unwrap();
    let factory = ParquetSinkFactory::new(config(&rows)).unwrap();
    let mut sink = factory.open_lane(context()).unwrap();
    for (batches, files) in [(3, 0), (6, 1), (3, 0)] {
        for _ in 0..batches {
            sink.write(Batch::derived(rows.clone())).await.unwrap();
        }
        let cut = sink.prepare_commit(BarrierKind::Checkpoint).await.unwrap();
        assert_eq!(cut.committables.len(), files);
        assert_eq!(cut.snapshot.put.len(), 1 - files, "{batches} batches");
    }
}

#[tokio::test]
async fn recovery_has_a_bounded_number_of_rows_to_read_back() {
    let text = StringArray::from_iter_values((0..3_500).map(|_| "x".repeat(1_000)));
    let rows = RecordBatch::try_from_iter([("text", Arc::new(text) as ArrayRef)]).unwrap();
    let factory = ParquetSinkFactory::new(config(&rows)).unwrap();
    let mut log = Log::new(&factory);
    let mut sink = factory.open(context()).unwrap();
    for _ in 0..20 {
        sink.write(Batch::derived(rows.clone())).await.unwrap();
        log.commit(sink.prepare_commit(BarrierKind::Checkpoint).await.unwrap())
            .await;
        let carried = log.parts.values();
        let carried: usize = carried.map(RecordBatch::get_array_memory_size).sum();
        assert!(carried <= 65 << 20, "{carried} bytes");
    }
    assert_eq!(log.files.len(), 1);
}
