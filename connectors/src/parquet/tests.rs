mod memory;
mod outbox;
mod recovery;

use std::{sync::Arc, time::Duration};

use arrow::{
    array::{
        Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Date32Array, Decimal128Array,
        DictionaryArray, Float64Array, Int64Array, ListArray, MapBuilder, RecordBatch, StringArray,
        StringBuilder, StringViewArray, StructArray, TimestampMicrosecondArray,
        TimestampNanosecondArray, UInt8Array, UInt64Array,
    },
    compute::{cast, concat_batches},
    datatypes::{DataType, Field, Int64Type, Schema, UInt32Type},
};
use object_store::{
    ObjectStore, ObjectStoreExt, local::LocalFileSystem, memory::InMemory, path::Path,
};
use parquet::{
    arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions},
    file::metadata::{PageIndexPolicy, ParquetMetaData, RowGroupMetaData},
};
use tagflow_engine::{
    Batch, ErrorKind, Result,
    element::BarrierKind,
    sink::{Sink, SinkFactory},
};

use super::*;
use crate::sink_conformance::{Log, ManualClock, conformance, context, context_with, decode};

/// A table of `rows`' shape, in memory.
pub(super) fn config(rows: &RecordBatch) -> ParquetSinkConfig {
    ParquetSinkConfig {
        name: Arc::from("campaigns"),
        url: Arc::from("s3://lake/campaigns"),
        store: Arc::new(InMemory::new()),
        root: Path::from("lake/campaigns"),
        schema: rows.schema(),
        partition_by: Vec::new(),
        newest: None,
        shared: false,
        files: FileOptions::default(),
    }
}

fn partitioned(rows: &RecordBatch, by: &[&str]) -> ParquetSinkConfig {
    let partition_by = by.iter().map(|&name| PartitionColumn {
        name: name.to_owned(),
        column: rows.schema().index_of(name).unwrap(),
    });
    ParquetSinkConfig {
        partition_by: partition_by.collect(),
        ..config(rows)
    }
}

/// Rows `ids`, each with a text and one of five days.
fn numbered(ids: impl IntoIterator<Item = i64>) -> RecordBatch {
    numbered_over(5, ids)
}

fn numbered_over(days: i32, ids: impl IntoIterator<Item = i64>) -> RecordBatch {
    let ids: Int64Array = ids.into_iter().map(Some).collect();
    let texts: StringArray = ids
        .values()
        .iter()
        .map(|id| Some(format!("campaign-{}", id * 7919 % 104_729)))
        .collect();
    let days: Date32Array = ids
        .values()
        .iter()
        .map(|id| Some(20_458 + (*id % i64::from(days)) as i32))
        .collect();
    RecordBatch::try_from_iter([
        ("id", Arc::new(ids) as ArrayRef),
        ("text", Arc::new(texts)),
        ("dt", Arc::new(days)),
    ])
    .unwrap()
}

/// Writes `rows` and stops.
async fn write_all(config: ParquetSinkConfig, rows: &[RecordBatch]) -> Result<Log> {
    let factory = ParquetSinkFactory::new(config)?;
    let mut log = Log::new(&factory);
    let mut sink = factory.open(context())?;
    for rows in rows {
        sink.write(Batch::derived(rows.clone())).await?;
    }
    log.commit(sink.prepare_commit(BarrierKind::Stop).await?)
        .await;
    Ok(log)
}

async fn folders(config: ParquetSinkConfig, rows: &RecordBatch) -> Vec<(String, u64)> {
    let log = write_all(config, std::slice::from_ref(rows)).await.unwrap();
    let mut folders: Vec<_> = log
        .files
        .iter()
        .map(|file| (file.folder.to_string(), file.rows))
        .collect();
    folders.sort();
    folders
}

async fn metadata(log: &Log, store: &dyn ObjectStore) -> ParquetMetaData {
    let staged = &log.files[0].staged;
    let bytes = store.get(staged).await.unwrap().bytes().await.unwrap();
    let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Required);
    let metadata = ArrowReaderMetadata::load(&bytes, options).unwrap();
    metadata.metadata().as_ref().clone()
}

fn every_type() -> RecordBatch {
    let item = Arc::new(Field::new_list_field(DataType::Utf8, true));
    let lists = ListArray::from_iter_primitive::<Int64Type, _, _>([
        Some(vec![Some(1), None]),
        None,
        Some(vec![]),
    ]);
    let texts = ListArray::new(
        item,
        arrow::buffer::OffsetBuffer::from_lengths([1, 0, 2]),
        Arc::new(StringArray::from(vec![Some("a"), None, Some("b")])),
        None,
    );
    let nested = StructArray::from(vec![
        (
            Arc::new(Field::new("n", DataType::UInt8, true)),
            Arc::new(UInt8Array::from(vec![Some(255), None, Some(0)])) as ArrayRef,
        ),
        (
            Arc::new(Field::new("texts", texts.data_type().clone(), true)),
            Arc::new(texts),
        ),
    ]);
    let mut map = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
    for row in 0..3 {
        map.keys().append_value("k");
        map.values().append_value(format!("v{row}"));
        map.append(true).unwrap();
    }
    let words: DictionaryArray<UInt32Type> =
        vec![Some("red"), Some("blue"), None].into_iter().collect();
    let columns: Vec<(&str, ArrayRef)> = vec![
        (
            "text",
            Arc::new(StringArray::from(vec![Some("a"), Some(""), None])),
        ),
        (
            "view",
            Arc::new(StringViewArray::from(vec![
                Some("long enough to be elsewhere"),
                None,
                Some(""),
            ])),
        ),
        ("word", Arc::new(words)),
        (
            "int",
            Arc::new(Int64Array::from(vec![Some(i64::MIN), None, Some(i64::MAX)])),
        ),
        (
            "float",
            Arc::new(Float64Array::from(vec![
                Some(0.1),
                None,
                Some(f64::INFINITY),
            ])),
        ),
        (
            "flag",
            Arc::new(BooleanArray::from(vec![Some(true), Some(false), None])),
        ),
        (
            "small",
            Arc::new(UInt8Array::from(vec![Some(255), Some(0), None])),
        ),
        (
            "count",
            Arc::new(UInt64Array::from(vec![Some(1 << 62), Some(0), None])),
        ),
        (
            "day",
            Arc::new(Date32Array::from(vec![Some(20_458), Some(-1), None])),
        ),
        (
            "at",
            Arc::new(
                TimestampMicrosecondArray::from(vec![Some(1), Some(-1), None]).with_timezone("UTC"),
            ),
        ),
        (
            "naive",
            Arc::new(TimestampNanosecondArray::from(vec![
                Some(1_999),
                Some(0),
                None,
            ])),
        ),
        (
            "amount",
            Arc::new(
                Decimal128Array::from(vec![Some(12_345), Some(-1), None])
                    .with_precision_and_scale(18, 2)
                    .unwrap(),
            ),
        ),
        (
            "bytes",
            Arc::new(BinaryArray::from_opt_vec(vec![
                Some(b"\xff"),
                Some(b""),
                None,
            ])),
        ),
        ("list", Arc::new(lists)),
        ("nested", Arc::new(nested)),
        ("map", Arc::new(map.finish())),
    ];
    RecordBatch::try_from_iter_with_nullable(
        columns
            .into_iter()
            .map(|(name, column)| (name, column, true)),
    )
    .unwrap()
}

#[tokio::test]
async fn every_type_is_read_back() {
    let rows = every_type();
    let log = write_all(config(&rows), std::slice::from_ref(&rows))
        .await
        .unwrap();
    let read = &log.file_rows().await[0].1[0];
    assert_eq!(read.num_rows(), 3);
    for (field, column) in read.schema().fields().iter().zip(read.columns()) {
        let written = cast(&rows[field.name().as_str()], field.data_type()).unwrap();
        assert_eq!(&written, column, "{}", field.name());
    }
    let types: Vec<String> = ["view", "word", "small", "count", "naive", "at"]
        .iter()
        .map(|name| read[*name].data_type().to_string())
        .collect();
    let micros = "Timestamp(µs, \"UTC\")";
    assert_eq!(types, ["Utf8", "Utf8", "Int16", "Int64", micros, micros]);
}

#[tokio::test]
async fn files_say_what_readers_want_to_know() {
    let rows = numbered(0..50_000);
    let mut config = config(&rows);
    config.files.bloom_filters = vec!["text".to_owned()];
    config.files.row_group_rows = 20_000;
    let store = config.store.clone();
    let log = write_all(config, &[rows]).await.unwrap();
    let metadata = metadata(&log, store.as_ref()).await;
    let file = metadata.file_metadata();
    let created_by = concat!("tagflow version ", env!("CARGO_PKG_VERSION"));
    assert_eq!(file.created_by(), Some(created_by));
    assert_eq!(metadata.num_row_groups(), 3);
    assert!(metadata.column_index().is_some() && metadata.offset_index().is_some());
    let [id, text, _] = metadata.row_group(0).columns() else {
        panic!("three columns")
    };
    assert!(id.statistics().is_some_and(|s| s.min_bytes_opt().is_some()));
    assert!(text.bloom_filter_offset().is_some() && id.bloom_filter_offset().is_none());
    assert_eq!(text.compression().to_string(), "ZSTD(ZstdLevel(1))");
}

#[tokio::test]
async fn each_day_has_its_folder() {
    let rows = numbered(0..11);
    assert_eq!(
        folders(partitioned(&rows, &["dt"]), &rows).await,
        [
            ("dt=2026-01-05".to_owned(), 3),
            ("dt=2026-01-06".to_owned(), 2),
            ("dt=2026-01-07".to_owned(), 2),
            ("dt=2026-01-08".to_owned(), 2),
            ("dt=2026-01-09".to_owned(), 2),
        ]
    );
    assert_eq!(folders(config(&rows), &rows).await, [(String::new(), 11)]);
    let factory = ParquetSinkFactory::new(partitioned(&rows, &["dt"])).unwrap();
    let schema = factory.table().unwrap().schema;
    let names: Vec<_> = schema.fields().iter().map(|field| field.name()).collect();
    assert_eq!(names, ["id", "text", "dt"]);
}

#[tokio::test]
async fn files_hold_no_partition_columns() {
    let rows = numbered(0..10);
    let log = write_all(partitioned(&rows, &["dt"]), &[rows])
        .await
        .unwrap();
    for (folder, rows) in log.file_rows().await {
        let rows = &rows[0];
        assert_eq!(rows.num_columns(), 2);
        // The rows are in order, and none in a wrong folder.
        let ids = rows["id"].as_primitive::<Int64Type>().values();
        assert_eq!(ids[1] - ids[0], 5);
        let day = 5 + ids[0] % 5;
        assert_eq!(folder.as_ref(), format!("dt=2026-01-{day:02}"));
    }
}

#[tokio::test]
async fn folders_are_named_as_hive_names_them() {
    let channels = StringArray::from(vec![
        Some("a/b=c"),
        Some(""),
        None,
        Some("春节"),
        Some("a/b=c"),
        Some("50% off"),
    ]);
    let hours = TimestampMicrosecondArray::from(vec![Some(3_600_000_000); 6]).with_timezone("UTC");
    let rows = RecordBatch::try_from_iter_with_nullable([
        ("channel", Arc::new(channels) as ArrayRef, true),
        ("hour", Arc::new(hours), true),
        ("n", Arc::new(Int64Array::from_iter_values(0..6)), true),
    ])
    .unwrap();
    let hour = "hour=1970-01-01T01%3A00%3A00Z";
    let mut expected = [
        (format!("channel=50%25 off/{hour}"), 1),
        (format!("channel=/{hour}"), 1),
        (format!("channel=__HIVE_DEFAULT_PARTITION__/{hour}"), 1),
        (format!("channel=a%2Fb%3Dc/{hour}"), 2),
        (format!("channel=春节/{hour}"), 1),
    ];
    expected.sort();
    assert_eq!(
        folders(partitioned(&rows, &["channel", "hour"]), &rows).await,
        expected
    );
}

#[tokio::test]
async fn regression_a_long_value_is_in_the_files_of_its_folder() {
    let long = "春".repeat(100);
    let channels = StringArray::from(vec!["ok", long.as_str(), "ok"]);
    let rows = RecordBatch::try_from_iter([
        ("channel", Arc::new(channels) as ArrayRef),
        ("n", Arc::new(Int64Array::from_iter_values(0..3))),
    ])
    .unwrap();
    let log = write_all(partitioned(&rows, &["channel"]), &[rows])
        .await
        .unwrap();
    let read = log.file_rows().await;
    assert_eq!(read.len(), 2);
    for (folder, rows) in read {
        let held = rows[0].column_by_name("channel");
        if folder.as_ref() == "channel=ok" {
            assert_eq!((rows[0].num_rows(), held), (2, None));
        } else {
            assert!(folder.as_ref().len() <= 255, "{folder}");
            assert!(folder.as_ref().starts_with("channel=春春"), "{folder}");
            assert_eq!(held.unwrap().as_string::<i32>().value(0), long);
        }
    }
}

#[test]
fn a_partition_column_with_too_long_a_name_is_refused() {
    let name = "x".repeat(220);
    let rows = RecordBatch::try_from_iter([
        (
            name.as_str(),
            Arc::new(StringArray::from(vec!["a"])) as ArrayRef,
        ),
        ("n", Arc::new(Int64Array::from(vec![1]))),
    ])
    .unwrap();
    let error = ParquetSinkFactory::new(partitioned(&rows, &[&name])).unwrap_err();
    let message = error.to_string();
    assert!(
        message.contains("too long for the name of a folder"),
        "{message}"
    );
}

#[tokio::test]
async fn a_published_folder_has_the_same_name_on_disk() {
    let rows = RecordBatch::try_from_iter([
        (
            "channel",
            Arc::new(StringArray::from(vec!["a/b %春"])) as ArrayRef,
        ),
        ("n", Arc::new(Int64Array::from(vec![1]))),
    ])
    .unwrap();
    let disk = tempfile::tempdir().unwrap();
    let store = Arc::new(LocalFileSystem::new_with_prefix(disk.path()).unwrap());
    let mut config = partitioned(&rows, &["channel"]);
    config.store = store.clone();
    let log = write_all(config, &[rows]).await.unwrap();
    let file = &log.files[0];
    let published: Path = Path::from("lake/campaigns")
        .parts()
        .chain(file.folder.parts())
        .chain([object_store::path::PathPart::from("x.parquet")])
        .collect();
    store.copy(&file.staged, &published).await.unwrap();
    let on_disk = disk
        .path()
        .join("lake/campaigns/channel=a%2Fb %25春/x.parquet");
    let bytes = std::fs::read(on_disk).unwrap();
    assert_eq!(decode(bytes.into())[0].num_rows(), 1);
}

#[tokio::test]
async fn a_full_file_rolls_at_once() {
    let rows = numbered(0..20_000);
    let mut config = config(&rows);
    config.files.target_bytes = 100_000;
    config.files.compression = Compression::None;
    let batches: Vec<_> = (0..20).map(|n| rows.slice(n * 1_000, 1_000)).collect();
    let log = write_all(config, &batches).await.unwrap();
    assert!(log.files.len() > 2, "{} files", log.files.len());
    let (last, full) = log.files.split_last().unwrap();
    for file in full {
        assert!(
            (90_000..200_000).contains(&file.bytes),
            "{} bytes",
            file.bytes
        );
    }
    assert!(last.rows > 0);
    assert_eq!(log.row_counts(), (20_000, 0));
}

#[tokio::test]
async fn regression_an_old_file_is_finished_at_the_next_cut_whatever_the_time_of_day() {
    let rows = numbered(0..10);
    let mut config = config(&rows);
    config.files.max_open = Duration::from_mins(5);
    let factory = ParquetSinkFactory::new(config).unwrap();
    let clock = Arc::new(ManualClock::default());
    let mut sink = factory.open(context_with(clock.clone())).unwrap();
    sink.write(Batch::derived(rows)).await.unwrap();
    for (minutes, files) in [(0, 0), (4, 0), (1, 1), (5, 0)] {
        // Only the uptime counts.
        clock.set_back(Duration::from_hours(1));
        clock.advance(Duration::from_mins(minutes));
        let cut = sink.prepare_commit(BarrierKind::Checkpoint).await.unwrap();
        assert_eq!(cut.committables.len(), files, "{minutes} minutes later");
    }
}

#[tokio::test]
async fn regression_whole_files_are_sorted() {
    let rows = numbered((0..10_000).map(|id| id * 7 % 10_000));
    let mut config = config(&rows);
    config.files.sort_by = vec!["dt".to_owned(), "id".to_owned()];
    config.files.row_group_rows = 4_000;
    let store = config.store.clone();
    let batches: Vec<_> = (0..10).map(|n| rows.slice(n * 1_000, 1_000)).collect();
    let log = write_all(config, &batches).await.unwrap();
    assert_eq!(log.files.len(), 1);
    let metadata = metadata(&log, store.as_ref()).await;
    let groups = metadata.row_groups();
    assert_eq!(
        groups
            .iter()
            .map(RowGroupMetaData::num_rows)
            .collect::<Vec<_>>(),
        [3_333, 3_333, 3_334]
    );
    assert_eq!(groups[0].sorting_columns().unwrap()[0].column_idx, 2);
    assert_sorted(&log, 10_000).await;
}

#[tokio::test]
async fn regression_a_sorted_file_ends_before_its_rows_take_too_much_memory() {
    let rows = numbered((0..40_000).map(|id| id * 7 % 40_000));
    let mut config = config(&rows);
    config.files.sort_by = vec!["dt".to_owned(), "id".to_owned()];
    config.files.open_bytes = 1 << 20;
    let batches: Vec<_> = (0..40).map(|n| rows.slice(n * 1_000, 1_000)).collect();
    let log = write_all(config, &batches).await.unwrap();
    assert!((2..=8).contains(&log.files.len()), "{}", log.files.len());
    assert_sorted(&log, 40_000).await;
}

/// Asserts that each file is sorted by `dt` and `id`, and that all files have `expected` rows
/// together.
async fn assert_sorted(log: &Log, expected: usize) {
    let mut seen = 0;
    for (_, read) in log.file_rows().await {
        let read = concat_batches(&read[0].schema(), &read).unwrap();
        let days = read["dt"].as_primitive::<arrow::datatypes::Date32Type>();
        let ids = read["id"].as_primitive::<Int64Type>();
        let keys: Vec<_> = days.values().iter().zip(ids.values()).collect();
        assert!(keys.is_sorted());
        seen += read.num_rows();
    }
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn a_value_that_does_not_fit_stops_the_job() {
    let rows = RecordBatch::try_from_iter([(
        "count",
        Arc::new(UInt64Array::from(vec![u64::MAX])) as ArrayRef,
    )])
    .unwrap();
    let error = write_all(config(&rows), &[rows]).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Data);
    assert!(error.to_string().contains("`count`"), "{error}");
}

#[test]
fn what_cannot_be_written_is_refused_at_once() {
    let rows = every_type();
    let refused = |config: ParquetSinkConfig, part: &str| {
        let error = ParquetSinkFactory::new(config).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains(part), "{error}");
    };
    refused(partitioned(&rows, &["list"]), "partition by `list`");
    refused(partitioned(&rows, &["float"]), "partition by `float`");
    let ids = rows.project(&[0]).unwrap();
    refused(partitioned(&ids, &["text"]), "needs a column");
    let mut twice = partitioned(&rows, &["day"]);
    twice.partition_by[0].name = "int".to_owned();
    refused(twice, "two columns named `int`");
    for column in ["nested", "nothing"] {
        let mut config = config(&rows);
        config.files.sort_by = vec![column.to_owned()];
        refused(config, "cannot sort by");
        let mut config = self::config(&rows);
        config.files.bloom_filters = vec![column.to_owned()];
        refused(config, "Bloom filter");
    }
    let mut zero = config(&rows);
    zero.files.row_group_rows = 0;
    refused(zero, "`row_group_rows`");
    let union = DataType::Union(
        [(0, Arc::new(Field::new("a", DataType::Int32, true)))]
            .into_iter()
            .collect(),
        arrow::datatypes::UnionMode::Sparse,
    );
    let mut odd = config(&rows);
    odd.schema = Arc::new(Schema::new(vec![Field::new("odd", union, true)]));
    refused(odd, "column `odd`");
}

#[tokio::test]
async fn conforms() {
    let rows = numbered(0..100);
    for by in [&[][..], &["dt"], &["dt", "text"]] {
        let factory = ParquetSinkFactory::new(partitioned(&rows, by)).unwrap();
        conformance(&factory, &rows).await;
    }
    let mut sorted = partitioned(&rows, &["dt"]);
    sorted.files.sort_by = vec!["id".to_owned()];
    conformance(&ParquetSinkFactory::new(sorted).unwrap(), &rows).await;
    let mut tiny = partitioned(&rows, &["dt"]);
    tiny.files.target_bytes = 1;
    conformance(&ParquetSinkFactory::new(tiny).unwrap(), &rows).await;
}
