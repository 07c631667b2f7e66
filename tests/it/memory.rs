//! `memory.limit`, through the binary.

use std::{
    fmt::Write as _,
    time::{Duration, Instant},
};

use crate::{
    lake::{assert_same, read},
    process::{Ended, Folder, Running},
};

/// Rows of 4 kB each, all different: 160 MB.
const ROWS: u32 = 40_000;
const LIMIT_MIB: u64 = 128;

/// Waits for the end of a run. On Linux, the memory that counts for the limit never was more
/// than a quarter above it: a tenth, and as much again because a busy machine measures late. The
/// base of an unoptimized binary alone is a third of this limit.
fn within_limit(mut run: Running) -> Ended {
    let mut peak = 0;
    // A run without room tries for long.
    let begun = Instant::now();
    while run.outlives(Duration::from_millis(10)) {
        peak = peak.max(run.memory_mib().unwrap_or_default());
        assert!(begun.elapsed() < Duration::from_mins(4), "it hangs");
    }
    assert!(peak <= LIMIT_MIB * 5 / 4, "{peak} MiB");
    assert!(
        peak > 0 || !cfg!(target_os = "linux"),
        "nothing was measured"
    );
    run.wait()
}

fn write_rows(folder: &Folder) {
    let mut rows = String::new();
    for id in 0..ROWS {
        let (at, text) = (
            1_767_657_540_000 + u64::from(id),
            format!("{id:08x}").repeat(500),
        );
        let _ = writeln!(rows, r#"{{"id":{id},"text":"{text}","at":{at}}}"#);
    }
    folder.write("in.ndjson", rows);
}

fn folder(query: &str, files: &str) -> Folder {
    let folder = Folder::new();
    write_rows(&folder);
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
    let ended = within_limit(folder.start(&["run", "p.yaml", "--admin", "off"])).expect(2);
    let said = format!("`memory.limit` {LIMIT_MIB} MiB; raise the limit");
    assert!(ended.stderr.contains(&said), "{}", ended.stderr);
    // The rows it had read are neither lost nor read again.
    let raised = ["run", "p.yaml", "--admin", "off", "--set", "limit=8GiB"];
    folder.tagflow(&raised).expect(0);
    assert_all_is_there(&folder);
}

#[test]
fn tags_that_do_not_fit_end_the_run_within_the_limit() {
    let folder = Folder::new();
    write_rows(&folder);
    folder.write(
        "p.yaml",
        format!(
            r"name: texts
sources:
  events:
    files: {{url: ./in.ndjson}}
    format: {{json: {{}}}}
    columns: {{id: int64, text: string, at: timestamp(ms)}}
    time: {{event_time: at}}
tags:
  from: events
  key: id
  event_id: id
  define:
    latest: {{agg: last, arg: text}}
sinks:
  changes: {{from: tags.changes, blackhole: {{}}}}
checkpoint: {{every: 1s, url: ./state}}
memory: {{limit: {LIMIT_MIB}MiB}}
parallelism: 2
"
        ),
    );
    let ended = within_limit(folder.start(&["run", "p.yaml", "--admin", "off"])).expect(2);
    let said = format!("`memory.limit` {LIMIT_MIB} MiB; raise the limit");
    assert!(ended.stderr.contains(&said), "{}", ended.stderr);
}

#[test]
fn a_limit_without_room_for_the_lanes_is_refused_at_the_start() {
    let folder = Folder::new();
    folder.write(
        "p.yaml",
        format!(
            r"name: lanes
sources: {{events: {{generator: {{count: 1000}}}}}}
queries:
  minutes: |
    SELECT tumble(occurred_at, INTERVAL '1 minute') AS w, user_id, count(*) AS n
    FROM events GROUP BY 1, 2
sinks: {{out: {{from: minutes, parquet: {{url: ./lake}}}}}}
checkpoint: {{url: ./state}}
memory: {{limit: {LIMIT_MIB}MiB}}
"
        ),
    );
    let run = |lanes| folder.tagflow(&["run", "p.yaml", "--admin", "off", "--parallelism", lanes]);
    let refused = run("200").expect(2).stderr;
    let said = format!("`memory.limit` {LIMIT_MIB} MiB is too small: on 200 lanes");
    assert!(refused.contains(&said), "{refused}");
    assert!(refused.contains("raise the limit"), "{refused}");
    assert!(folder.files("lake", ".parquet").is_empty());
    run("2").expect(0);
}

#[cfg(target_os = "linux")]
#[test]
fn regression_windows_that_close_together_fit_memory() {
    const ROWS: u64 = 20_000;
    const HOURS: u64 = 14 * 24;
    // All rows are from one hour, and each is in as many windows as end in a fortnight.
    let folder = Folder::new();
    folder.write(
        "p.yaml",
        format!(
            r"name: reach
sources: {{events: {{generator: {{count: {ROWS}, users: 1000000, campaigns: 1000, interval: 10ms}}}}}}
queries:
  reach: |
    SELECT hop(occurred_at, INTERVAL '1 hour', INTERVAL '{HOURS} hours') AS w,
           user_id, campaign_id, count(*) AS n
    FROM events GROUP BY 1, 2, 3
sinks: {{out: {{from: reach, blackhole: {{}}}}}}
parallelism: 2
"
        ),
    );
    let mut run = folder.start(&["run", "p.yaml", "--admin", "off"]);
    let mut peak = 0;
    while run.outlives(Duration::from_millis(20)) {
        peak = peak.max(run.memory_mib().unwrap_or_default());
    }
    run.wait().expect(0);
    // All at once would be more than 300 MiB.
    assert!(peak < 160, "{peak} MiB");
}
