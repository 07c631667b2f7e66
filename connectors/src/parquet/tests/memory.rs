use super::*;
use crate::parquet::sink::ParquetSink;

/// Writes `batches` of 2,000 rows over `days` days and holds the sink to its
/// bound after each; the number of files at the end.
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
        let memory: usize = files.clone().map(|file| file.memory_bytes()).sum();
        let pending: usize = files.map(|file| file.carry().pending_bytes()).sum();
        assert_eq!((memory, pending), (sink.memory_bytes, sink.pending_bytes));
        assert!(memory <= open_bytes, "{memory} bytes after batch {n}");
        assert!(
            pending <= 8 << 20,
            "{pending} bytes carried after batch {n}"
        );
        if n % 5 == 4 {
            log.commit(sink.cut(BarrierKind::Checkpoint).await.unwrap())
                .await;
        }
    }
    log.commit(sink.cut(BarrierKind::Stop).await.unwrap()).await;
    assert_eq!(log.row_counts(), (batches as u64 * 2_000, 0));
    log.files.len()
}

#[tokio::test]
async fn two_hundred_open_partitions_stay_within_memory() {
    let files = check(
        200,
        20,
        FileOptions {
            open_bytes: 1 << 20,
            ..FileOptions::default()
        },
    )
    .await;
    assert!(files > 200, "the bound was never reached: {files} files");
}

#[tokio::test]
async fn a_thousand_open_partitions_make_a_file_each_where_memory_allows() {
    assert_eq!(check(1_000, 4, FileOptions::default()).await, 1_000);
}

#[tokio::test]
async fn one_large_file_ends_row_groups_rather_than_files() {
    let files = FileOptions {
        open_bytes: 1 << 20,
        compression: Compression::None,
        ..FileOptions::default()
    };
    // More than a part of an upload, so that there is something to send.
    let rows: Vec<_> = (0..8)
        .map(|n| {
            let text = StringArray::from_iter_values((0..2_000).map(|id| {
                let id = (n * 2_000 + id) as u64;
                format!("{:064x}", id.wrapping_mul(0x9e37_79b9_7f4a_7c15)).repeat(16)
            }));
            RecordBatch::try_from_iter([("text", Arc::new(text) as ArrayRef)]).unwrap()
        })
        .collect();
    let mut config = config(&rows[0]);
    config.files = files;
    let store = config.store.clone();
    let log = write_all(config, &rows).await.unwrap();
    let total: u64 = log.files.iter().map(|file| file.bytes).sum();
    assert!(total > 8 << 20, "{total} bytes");
    assert!(metadata(&log, store.as_ref()).await.num_row_groups() >= 1);
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
        let cut = sink.cut(BarrierKind::Checkpoint).await.unwrap();
        assert_eq!(cut.files.len(), files);
        assert_eq!(cut.snapshot.put.len(), 1 - files, "{batches} batches");
    }
}

#[tokio::test]
async fn recovery_has_a_bounded_number_of_rows_to_read_back() {
    let text = StringArray::from_iter_values((0..7_000).map(|_| "x".repeat(1_000)));
    let rows = RecordBatch::try_from_iter([("text", Arc::new(text) as ArrayRef)]).unwrap();
    let factory = ParquetSinkFactory::new(config(&rows)).unwrap();
    let mut log = Log::new(&factory);
    let mut sink = factory.open(context()).unwrap();
    for _ in 0..12 {
        sink.write(Batch::derived(rows.clone())).await.unwrap();
        log.commit(sink.cut(BarrierKind::Checkpoint).await.unwrap())
            .await;
        let carried = log.parts.values();
        let carried: usize = carried.map(RecordBatch::get_array_memory_size).sum();
        assert!(carried <= 65 << 20, "{carried} bytes");
    }
    assert_eq!(log.files.len(), 1);
}
