//! `DuckDB` as a second oracle beside DataFusion, for every fifth case: a Python process
//! that answers query by query.
//!
//! `TAGFLOW_DUCKDB` names a Python with the package `duckdb`, by default `python3`.

use std::sync::{LazyLock, Mutex, PoisonError};

use serde_json::{Value, json};

use crate::process::Process;

/// A table of JSON rows, with its columns as a pipeline file declares them.
pub(crate) type Table<'a> = (&'a str, &'a str, Vec<&'a String>);

/// Asserts that `DuckDB` and DataFusion return the same rows.
pub(crate) fn check(seed: u64, tables: &[Table<'_>], sql: &str, datafusion: &[String]) {
    if !seed.is_multiple_of(5) {
        return;
    }
    let sql = translated(sql);
    let Some(mut theirs) = answer(tables, &sql) else {
        return;
    };
    let mut ours: Vec<_> = datafusion.iter().map(|line| values(line)).collect();
    theirs.sort();
    ours.sort();
    assert_eq!(ours, theirs, "seed {seed}: DuckDB says otherwise\n{sql}");
}

/// `DuckDB`'s rows, with their values in canonical form; none where it is not installed.
pub(crate) fn answer(tables: &[Table<'_>], sql: &str) -> Option<Vec<Vec<String>>> {
    let duckdb = DUCKDB.as_ref()?;
    let mut duckdb = duckdb.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().unwrap();
    let tables: Vec<Value> = tables
        .iter()
        .map(|(name, columns, rows)| {
            let path = folder.path().join(name);
            let rows: String = rows.iter().flat_map(|row| [row.as_str(), "\n"]).collect();
            std::fs::write(&path, rows).unwrap();
            json!({"name": name, "path": path, "columns": types(columns)})
        })
        .collect();
    let reply = duckdb.ask(&json!({"tables": tables, "sql": sql}));
    let rows = reply["rows"].as_array();
    let rows = rows.unwrap_or_else(|| panic!("{}\n{sql}", reply["error"]));
    let of_row = |row: &Value| {
        let values = row.as_array().unwrap().iter();
        let values = values.map(|value| canonical(value.as_str().unwrap()));
        values.collect()
    };
    Some(rows.iter().map(of_row).collect())
}

/// The values of a line in canonical form.
pub(crate) fn values(line: &str) -> Vec<String> {
    line.split(',').map(canonical).collect()
}

/// A value in canonical form: `1.50` is `1.5`, and a time has all its digits.
fn canonical(value: &str) -> String {
    if let Ok(time) = chrono::DateTime::parse_from_rfc3339(value) {
        return time.timestamp_micros().to_string();
    }
    value
        .parse::<f64>()
        .map_or_else(|_| value.to_owned(), |number| (number + 0.0).to_string())
}

/// Rewrites the parts of a query that no macro can express in `DuckDB`'s dialect.
fn translated(sql: &str) -> String {
    // DataFusion truncates its mean of decimals to six digits.
    let mean = "(CAST(sum(d) * 100 AS BIGINT) * 10000 // count(d)) / 1000000.0";
    sql.replace("* EXCEPT (", "* EXCLUDE (")
        .replace("first_value(", "first(")
        .replace("avg(d)", mean)
}

/// Columns with `DuckDB`'s types.
fn types(columns: &str) -> Vec<(&str, &str)> {
    let columns = columns.lines().filter_map(|it| it.trim().split_once(": "));
    let kind = |kind: &str| match kind.trim_end_matches('?') {
        "string" => "VARCHAR",
        "int64" | "timestamp(ms)" => "BIGINT",
        "float64" => "DOUBLE",
        "bool" => "BOOLEAN",
        "date" => "DATE",
        "decimal(10,2)" => "DECIMAL(10,2)",
        other => panic!("no case has the type `{other}`"),
    };
    columns.map(|(name, of)| (name, kind(of))).collect()
}

static DUCKDB: LazyLock<Option<Mutex<Process>>> =
    LazyLock::new(|| Process::find("duckdb", "TAGFLOW_DUCKDB"));
