use datafusion::{dataframe::DataFrameWriteOptions, prelude::SessionContext};
use tempfile::TempDir;

use super::*;
use tagflow_pipelines::plan::StoredColumn;

/// A table with a Hive folder per day, and a staged file beside them.
async fn clicks(root: &TempDir) -> PipelineTable {
    let url = root.path().join("clicks");
    let context = SessionContext::new();
    let rows = "VALUES ('a', 3, DATE '2026-01-05'), ('b', 4, DATE '2026-01-05'), \
                ('a', 5, DATE '2026-01-06')";
    let rows =
        format!("SELECT column1 AS campaign, column2 AS clicks, column3 AS dt FROM ({rows})");
    let frame = context.sql(&rows).await.unwrap();
    let options = DataFrameWriteOptions::new().with_partition_by(vec!["dt".into()]);
    frame
        .write_parquet(url.to_str().unwrap(), options, None)
        .await
        .unwrap();
    let staging = url.join("_staging/main/1");
    std::fs::create_dir_all(&staging).unwrap();
    std::fs::write(staging.join("0b5c"), "half a file").unwrap();
    table("metrics", "clicks", url.to_str().unwrap())
}

fn table(pipeline: &str, name: &str, url: &str) -> PipelineTable {
    let column = |(name, data_type): (&str, &str)| StoredColumn {
        name: name.into(),
        data_type: data_type.into(),
    };
    let columns = [("campaign", "Utf8"), ("clicks", "Int64"), ("dt", "Date32")].map(column);
    let table = StoredTable {
        name: name.into(),
        url: url.into(),
        columns: columns.into(),
        shared: false,
    };
    PipelineTable {
        pipeline: pipeline.into(),
        table,
    }
}

async fn csv(tables: &mut Tables, sql: &str) -> String {
    tables.ask(sql).await.unwrap().csv().unwrap()
}

/// As in the SQL of pipelines, and in `DuckDB`.
#[tokio::test]
async fn regression_nulls_are_last_in_any_order() {
    let mut tables = Tables::new(Vec::new());
    let rows = "(VALUES ('a', 1), ('b', NULL), ('c', 2)) AS t(k, n)";
    for (order, expected) in [
        ("n", "a c b"),
        ("n DESC", "c a b"),
        ("n NULLS FIRST", "b a c"),
        ("n DESC NULLS FIRST", "b c a"),
    ] {
        let sorted = format!("SELECT k FROM {rows} ORDER BY {order}");
        let ranked = format!(
            "SELECT k FROM (SELECT k, row_number() OVER (ORDER BY {order}) AS r FROM {rows}) \
             ORDER BY r"
        );
        for sql in [sorted, ranked] {
            let answer = csv(&mut tables, &sql).await;
            let keys: Vec<&str> = answer.lines().skip(1).collect();
            assert_eq!(keys.join(" "), expected, "{sql}");
        }
        let listed = format!("SELECT string_agg(k, ' ' ORDER BY {order}) AS ks FROM {rows}");
        assert_eq!(csv(&mut tables, &listed).await, format!("ks\n{expected}\n"));
    }
}

async fn problem(tables: &mut Tables, sql: &str) -> String {
    tables.ask(sql).await.unwrap_err().to_string()
}

#[tokio::test]
async fn a_table_is_asked_by_its_name() {
    let root = TempDir::new().unwrap();
    let mut tables = Tables::new(vec![clicks(&root).await]);
    let by_campaign = "select campaign, sum(clicks) as clicks from clicks group by 1 order by 1";
    assert_eq!(
        csv(&mut tables, by_campaign).await,
        "campaign,clicks\na,8\nb,4\n"
    );
    let one_day = "select count(*) as n from metrics.clicks where dt = DATE '2026-01-05'";
    assert_eq!(csv(&mut tables, one_day).await, "n\n2\n");
    let with = "with c as (select * from clicks) select max(clicks) as most from c";
    assert_eq!(csv(&mut tables, with).await, "most\n5\n");
}

#[tokio::test]
async fn an_answer_is_written_in_three_ways() {
    let root = TempDir::new().unwrap();
    let mut tables = Tables::new(vec![clicks(&root).await]);
    let sql = "select campaign, clicks, dt from clicks where clicks = 5";
    let answer = tables.ask(sql).await.unwrap();
    assert_eq!(
        answer.csv().unwrap(),
        "campaign,clicks,dt\na,5,2026-01-06\n"
    );
    assert_eq!(
        answer.json().unwrap(),
        "{\"campaign\":\"a\",\"clicks\":5,\"dt\":\"2026-01-06\"}\n"
    );
    assert_eq!(
        answer.table(None).unwrap(),
        "\
+----------+--------+------------+
| campaign | clicks | dt         |
+----------+--------+------------+
| a        | 5      | 2026-01-06 |
+----------+--------+------------+
1 row
"
    );
    let none = tables
        .ask("select campaign from clicks where clicks > 9")
        .await
        .unwrap();
    assert_eq!(none.csv().unwrap(), "campaign\n");
    assert_eq!(none.json().unwrap(), "");
}

#[tokio::test]
async fn a_table_without_files_is_empty() {
    let root = TempDir::new().unwrap();
    let url = root.path().join("nothing");
    let mut tables = Tables::new(vec![table("metrics", "clicks", url.to_str().unwrap())]);
    let sql = "select count(*) as n, min(dt) as first from clicks";
    assert_eq!(csv(&mut tables, sql).await, "n,first\n0,\n");
}

#[tokio::test]
async fn regression_tables_and_their_columns_are_listed() {
    let root = TempDir::new().unwrap();
    let mut tables = Tables::new(vec![clicks(&root).await]);
    let listed = csv(&mut tables, "SHOW TABLES;").await;
    assert!(
        listed.starts_with("table,pipeline,url\nclicks,metrics,/"),
        "{listed}"
    );
    let columns =
        "table,column,type\nclicks,campaign,Utf8\nclicks,clicks,Int64\nclicks,dt,Date32\n";
    for sql in [
        "describe clicks",
        "DESC clicks;",
        "show columns from clicks",
        "describe metrics.clicks",
    ] {
        assert_eq!(csv(&mut tables, sql).await, columns, "{sql}");
    }
    assert_eq!(
        problem(&mut tables, "describe clocks").await,
        "there is no table `clocks`; did you mean `clicks`?"
    );
}

#[tokio::test]
async fn tables_without_files_are_found() {
    let root = TempDir::new().unwrap();
    let missing = root.path().join("missing");
    let missing = table("metrics", "missing", missing.to_str().unwrap());
    let tables = Tables::new(vec![clicks(&root).await, missing]);
    let found = tables
        .without_files("select * from clicks, missing")
        .await
        .unwrap();
    let names: Vec<&str> = found.iter().map(|it| it.table.name.as_str()).collect();
    assert_eq!(names, ["missing"]);
}

#[tokio::test]
async fn regression_bytes_that_are_text_show_as_text() {
    let mut tables = Tables::new(Vec::new());
    let text = "select arrow_cast('{\"a\":1}', 'Binary') as payload";
    let answer = tables.ask(text).await.unwrap();
    assert_eq!(answer.csv().unwrap(), "payload\n\"{\"\"a\"\":1}\"\n");
    assert!(answer.table(None).unwrap().contains("| {\"a\":1} |"));
    // A column in which one value is no text keeps its bytes; the table still shows the others.
    let mixed = format!("{text} union all select decode('ff00', 'hex') order by 1");
    let answer = tables.ask(&mixed).await.unwrap();
    assert_eq!(answer.csv().unwrap(), "payload\n7b2261223a317d\nff00\n");
    let shown = answer.table(None).unwrap();
    assert!(shown.contains("| {\"a\":1} |"), "{shown}");
    assert!(shown.contains("| ff00    |"), "{shown}");
    let escape = "select concat('a', chr(27), '[31m', chr(10), 'b') as text";
    let shown = tables.ask(escape).await.unwrap().table(None).unwrap();
    assert!(shown.contains("| a\\u{1b}[31m\\nb |"), "{shown}");
}

#[tokio::test]
async fn any_parquet_is_asked_by_its_place() {
    let root = TempDir::new().unwrap();
    let clicks = clicks(&root).await;
    let at = &clicks.table.url;
    let mut tables = Tables::new(Vec::new());
    for place in [at.clone(), format!("{at}/"), format!("{at}/**/*.parquet")] {
        let sql = format!("select sum(clicks) as n from '{place}' where dt = '2026-01-05'");
        assert_eq!(csv(&mut tables, &sql).await, "n\n7\n", "{place}");
    }
    let some = format!("select sum(clicks) as n from '{at}/dt=2026-01-06/*.parquet'");
    assert_eq!(csv(&mut tables, &some).await, "n\n5\n");
    let some = format!("select sum(clicks) as n from '{at}/dt=*-06/*.parquet'");
    assert_eq!(csv(&mut tables, &some).await, "n\n5\n");
    let none = format!("select * from '{at}/*.parquet'");
    let message = problem(&mut tables, &none).await;
    assert_eq!(message, format!("no Parquet file matches `{at}/*.parquet`"));
}

#[tokio::test]
async fn what_cannot_be_asked_says_why() {
    let root = TempDir::new().unwrap();
    let first = clicks(&root).await;
    let second = PipelineTable {
        pipeline: "other".into(),
        ..first.clone()
    };
    let mut tables = Tables::new(vec![first, second]);
    assert_eq!(
        problem(&mut tables, "select * from clicks").await,
        "several pipelines have a table `clicks`; write \"metrics\".clicks or \"other\".clicks"
    );
    assert_eq!(
        problem(&mut tables, "select * from clocks").await,
        "there is no table `clocks`; did you mean `clicks`?"
    );
    assert_eq!(
        problem(&mut tables, "select * from sales_by_region").await,
        "there is no table `sales_by_region`; there are clicks"
    );
    let message = problem(&mut tables, "drop table metrics.clicks").await;
    assert!(message.contains("DDL not supported"), "{message}");
    let message = problem(&mut tables, "select click from metrics.clicks").await;
    assert_eq!(
        message,
        "cannot answer the query: column `click` not found in `metrics.clicks` (have: campaign, \
         clicks, dt) (line 1, column 8); did you mean `clicks`?"
    );
    assert_eq!(
        problem(&mut tables, "selec 1").await,
        "cannot answer the query: expected: an SQL statement, found: selec; did you mean `SELECT`?"
    );
    assert_eq!(
        problem(&mut tables, "select 1\nform clicks").await,
        "cannot answer the query: expected: end of statement, found: clicks (line 2, column 6); did \
         you mean `FROM`?"
    );
}

#[tokio::test]
async fn functions_of_pipelines_are_there() {
    let root = TempDir::new().unwrap();
    let mut tables = Tables::new(vec![clicks(&root).await]);
    let sql = "select theta_estimate(theta_sketch(campaign, 12)) as reach, \
               frequency_histogram(campaign, '1,2') as often from clicks";
    let answer = tables.ask(sql).await.unwrap();
    assert_eq!(answer.json().unwrap(), "{\"reach\":2,\"often\":[1,1]}\n");
}

#[tokio::test]
async fn a_file_without_quotes_is_told_of_them() {
    let mut tables = Tables::new(Vec::new());
    assert_eq!(
        problem(&mut tables, "select * from nowhere.parquet").await,
        "there is no table `nowhere.parquet`; a file stands in quotes: `'nowhere.parquet'`"
    );
}
