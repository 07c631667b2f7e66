//! `DuckDB` as a second oracle beside DataFusion, for every fifth case: a Python process
//! that answers one query after the other.
//!
//! `TAGFLOW_DUCKDB` names a Python with the package `duckdb`, by default `python3`.
//! Without the package the second oracle is left out, and a line says so; where the
//! variable is set, that is a failure.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{LazyLock, Mutex, PoisonError},
};

use serde_json::{Value, json};

/// A table of JSON rows, with its columns as a pipeline file declares them.
pub(crate) type Table<'a> = (&'a str, &'a str, Vec<&'a String>);

/// Asserts that `DuckDB` answers a query as DataFusion has.
pub(crate) fn check(seed: u64, tables: &[Table<'_>], sql: &str, datafusion: &[String]) {
    if !seed.is_multiple_of(5) {
        return;
    }
    let Some(duckdb) = &*DUCKDB else { return };
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
    let sql = translated(sql);
    let reply = duckdb.ask(&json!({"tables": tables, "sql": sql}));
    let rows = reply["rows"].as_array();
    let rows = rows.unwrap_or_else(|| panic!("seed {seed}: {}\n{sql}", reply["error"]));
    let of_row = |row: &Value| {
        let values = row.as_array().unwrap().iter();
        let values = values.map(|value| canonical(value.as_str().unwrap()));
        values.collect::<Vec<_>>()
    };
    let mut theirs: Vec<_> = rows.iter().map(of_row).collect();
    let of_line = |line: &String| line.split(',').map(canonical).collect::<Vec<_>>();
    let mut ours: Vec<_> = datafusion.iter().map(of_line).collect();
    theirs.sort();
    ours.sort();
    assert_eq!(ours, theirs, "seed {seed}: DuckDB says otherwise\n{sql}");
}

/// One value in one spelling: `1.50` is `1.5`, and a time has all its digits.
fn canonical(value: &str) -> String {
    if let Ok(time) = chrono::DateTime::parse_from_rfc3339(value) {
        return time.timestamp_micros().to_string();
    }
    value
        .parse::<f64>()
        .map_or_else(|_| value.to_owned(), |number| (number + 0.0).to_string())
}

/// What no macro can say in `DuckDB`'s dialect.
fn translated(sql: &str) -> String {
    // DataFusion's mean of decimals is one of six digits, cut off.
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
        "decimal(10,2)" => "DECIMAL(10,2)",
        other => panic!("no case has the type `{other}`"),
    };
    columns.map(|(name, of)| (name, kind(of))).collect()
}

static DUCKDB: LazyLock<Option<Mutex<Process>>> = LazyLock::new(|| {
    let named = std::env::var("TAGFLOW_DUCKDB").ok();
    match Process::start(named.as_deref().unwrap_or("python3")) {
        Ok(process) => Some(Mutex::new(process)),
        Err(reason) => {
            assert!(named.is_none(), "DuckDB does not answer: {reason}");
            // Past the harness, which keeps what tests print to itself.
            let mut out = std::io::stderr();
            let _ = writeln!(
                out,
                "NOT RUN: DuckDB as a second oracle ({reason}); `pip install duckdb`, or name a \
                 Python that has it in TAGFLOW_DUCKDB"
            );
            None
        }
    }
});

/// A Python that answers.
struct Process {
    _child: Child,
    requests: ChildStdin,
    replies: BufReader<ChildStdout>,
}

impl Process {
    fn start(python: &str) -> Result<Self, String> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/duckdb_answers.py");
        let mut child = Command::new(python)
            .args(["-B", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("`{python}`: {error}"))?;
        let mut process = Self {
            requests: child.stdin.take().unwrap(),
            replies: BufReader::new(child.stdout.take().unwrap()),
            _child: child,
        };
        match process.reply() {
            Some(_) => Ok(process),
            None => Err(format!("`{python}` has no package `duckdb`")),
        }
    }

    fn ask(&mut self, request: &Value) -> Value {
        writeln!(self.requests, "{request}").unwrap();
        self.reply()
            .expect("the process lives as long as the tests")
    }

    fn reply(&mut self) -> Option<Value> {
        let mut line = String::new();
        self.replies.read_line(&mut line).unwrap();
        (!line.is_empty()).then(|| serde_json::from_str(&line).unwrap())
    }
}
