//! Compares the binary's output with DataFusion in batch over the same rows.

use std::sync::Arc;

use arrow::{datatypes::DataType, util::pretty::pretty_format_batches};
use datafusion::{
    datasource::MemTable,
    prelude::{ParquetReadOptions, SessionConfig, SessionContext},
};

use crate::{
    process::Folder,
    rows::{Row, batch},
};

const ORACLE: &str = "\
SELECT date_bin(INTERVAL '1 minute', at) AS window_start, campaign,
       count(*) AS n, sum(amount) AS amount, count(DISTINCT id) AS ids
FROM events GROUP BY 1, 2 ORDER BY 1, 2";

const WRITTEN: &str = "\
SELECT window_start, campaign, n, amount, ids FROM per_minute ORDER BY 1, 2";

const EVERY_ROW: &str = "SELECT id, campaign, amount, at FROM events ORDER BY 1, 2, 3, 4";

/// Panics unless the tables in `folder` contain exactly `rows`, and no staged or half-written file
/// is left.
#[track_caller]
pub(crate) fn assert_holds(folder: &Folder, rows: &[Row]) {
    assert_shows(folder, rows);
    let staged = folder.files("lake", "_staging");
    assert!(staged.is_empty(), "left staged: {staged:?}");
    let torn = folder.files(".", "#");
    assert!(torn.is_empty(), "left half-written: {torn:?}");
    assert_sound(folder);
}

/// Panics unless `audit` finds no problem in `p.yaml`, byte for byte.
#[track_caller]
pub(crate) fn assert_sound(folder: &Folder) {
    let audit = ["audit", "--file", "p.yaml", "--deep"];
    let said = folder.tagflow(&audit).expect(0).stdout;
    assert!(!said.contains("odd: "), "{said}");
}

/// Panics unless the tables in `folder` contain exactly `rows`.
#[track_caller]
pub(crate) fn assert_shows(folder: &Folder, rows: &[Row]) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let (expected, expected_rows, written, written_rows) = runtime.block_on(async {
        let context = context();
        let rows = batch(rows);
        let table = MemTable::try_new(rows.schema(), vec![vec![rows]]).unwrap();
        context.register_table("events", Arc::new(table)).unwrap();
        let expected = ask(&context, ORACLE).await;
        let expected_rows = ask(&context, EVERY_ROW).await;
        context.deregister_table("events").unwrap();
        for (name, path) in [
            ("per_minute", "lake/per_minute"),
            ("events", "lake/every_row"),
        ] {
            let path = format!("{}/", folder.path(path).display());
            let options = ParquetReadOptions::default();
            context.register_parquet(name, path, options).await.unwrap();
        }
        let written = ask(&context, WRITTEN).await;
        (
            expected,
            expected_rows,
            written,
            ask(&context, EVERY_ROW).await,
        )
    });
    assert_same("rows", &expected_rows, &written_rows);
    assert_same("windows", &expected, &written);
}

/// The answer of DataFusion in batch over `rows`, as the table `events`.
pub(crate) async fn oracle(rows: &[Row], sql: &str) -> String {
    let context = context();
    let rows = batch(rows);
    let table = MemTable::try_new(rows.schema(), vec![vec![rows]]).unwrap();
    context.register_table("events", Arc::new(table)).unwrap();
    ask(&context, sql).await
}

/// The answer over the Parquet files in a folder with folders by `by`, a string,
/// as the table `written`.
pub(crate) async fn written(folder: &Folder, table: &str, by: &str, sql: &str) -> String {
    let context = context();
    let path = format!("{}/", folder.path(table).display());
    let by = vec![(by.to_owned(), DataType::Utf8)];
    let options = ParquetReadOptions::default().table_partition_cols(by);
    context
        .register_parquet("written", path, options)
        .await
        .unwrap();
    ask(&context, sql).await
}

/// The same for a table whose folders do not matter.
pub(crate) fn read(folder: &Folder, table: &str, sql: &str) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let context = context();
        let path = format!("{}/", folder.path(table).display());
        let options = ParquetReadOptions::default();
        context
            .register_parquet("written", &path, options)
            .await
            .unwrap();
        ask(&context, sql).await
    })
}

fn context() -> SessionContext {
    SessionContext::new_with_config(SessionConfig::new().with_target_partitions(1))
}

async fn ask(context: &SessionContext, sql: &str) -> String {
    let frame = context.sql(sql).await.unwrap();
    let batches = frame.collect().await.unwrap();
    pretty_format_batches(&batches).unwrap().to_string()
}

/// Shows the first difference, not a million lines.
#[track_caller]
pub(crate) fn assert_same(what: &str, expected: &str, written: &str) {
    if expected == written {
        return;
    }
    let (mut left, mut right) = (expected.lines(), written.lines());
    loop {
        let (left, right) = (left.next(), right.next());
        assert_eq!(
            left,
            right,
            "{what} differ: {} lines expected, {} written",
            expected.lines().count(),
            written.lines().count()
        );
    }
}
