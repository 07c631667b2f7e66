//! `memory.limit`, through the binary.

use std::{fmt::Write as _, time::Duration};

use crate::{
    lake::{assert_same, read},
    process::Folder,
};

/// Rows of 4 kB each, no two alike: 160 MB.
const ROWS: u32 = 40_000;
const LIMIT_MIB: u64 = 128;

fn folder(query: &str, files: &str) -> Folder {
    let folder = Folder::new();
    let mut rows = String::new();
    for id in 0..ROWS {
        let (at, text) = (
            1_767_657_540_000 + u64::from(id),
            format!("{id:08x}").repeat(500),
        );
        let _ = writeln!(rows, r#"{{"text":"{text}","at":{at}}}"#);
    }
    folder.write("in.ndjson", rows);
    let text = format!(
        r#"name: wide
params: {{limit: {LIMIT_MIB}MiB}}
sources:
  events:
    files: {{url: ./in.ndjson}}
    format: {{json: {{}}}}
    columns: {{text: string, at: timestamp(ms)}}
    time: {{event_time: at}}
queries:
  wide: |
    {query}
sinks:
  table:
    from: wide
    parquet: {{url: ./lake, files: {{{files}}}}}
checkpoint: {{every: 1s, url: ./state}}
memory: {{limit: "${{params.limit}}"}}
parallelism: 1
"#
    );
    folder.write("p.yaml", text);
    folder
}

fn assert_all_is_there(folder: &Folder) {
    let known = format!("SELECT CAST({ROWS} AS BIGINT) AS n, CAST({ROWS} AS BIGINT) AS texts");
    let counted = "SELECT count(*) AS n, count(DISTINCT text) AS texts FROM written";
    let expected = read(folder, "lake", &known);
    assert_same("rows", &expected, &read(folder, "lake", counted));
}

#[test]
fn rows_that_wait_in_open_files_are_let_go_of_in_time() {
    let folder = folder(
        "SELECT text FROM events",
        "target: 10GiB, max_open: 1h, max_open_bytes: 10GiB, compression: none",
    );
    folder
        .tagflow(&["run", "p.yaml", "--admin", "off"])
        .expect(0);
    assert_all_is_there(&folder);
    let files = folder.files("lake", ".parquet").len();
    assert!(files > 1, "no commit came early");
}

#[test]
fn state_that_only_grows_ends_the_run_with_the_name_of_the_setting() {
    let folder = folder(
        "SELECT tumble(at, INTERVAL '30 days') AS \"window\", text, count(*) AS n \
         FROM events GROUP BY 1, 2",
        "",
    );
    let mut run = folder.start(&["run", "p.yaml", "--admin", "off"]);
    // It tries for long.
    run.outlives(Duration::from_mins(4));
    let ended = run.wait().expect(2);
    let said = format!("`memory.limit` {LIMIT_MIB} MiB; raise the limit");
    assert!(ended.stderr.contains(&said), "{}", ended.stderr);
    // What it had read is not lost, nor read again.
    let raised = ["run", "p.yaml", "--admin", "off", "--set", "limit=8GiB"];
    folder.tagflow(&raised).expect(0);
    assert_all_is_there(&folder);
}
