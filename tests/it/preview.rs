//! `tagflow preview` and `tagflow diff`, as a user starts them.

use crate::{
    process::Folder,
    rows::{ndjson, pipeline, rows},
};

/// A folder with events in a file and the pipeline over them.
fn folder() -> Folder {
    let folder = Folder::new();
    folder.write("in.ndjson", ndjson(&rows(10_000, 1)));
    folder.write("p.yaml", pipeline("files: {url: ./in.ndjson}"));
    folder
}

/// The cells of a printed table, without its header.
fn cells(table: &str) -> Vec<Vec<String>> {
    let lines = table.lines().filter(|line| line.starts_with('|')).skip(1);
    let cells = |line: &str| {
        let cells = line.trim_matches('|').split('|');
        cells.map(|cell| cell.trim().to_owned()).collect()
    };
    lines.map(cells).collect()
}

#[test]
fn the_first_rows_of_a_source_leave_no_trace() {
    let folder = folder();
    let ended = folder
        .tagflow(&["preview", "p.yaml", "events", "--rows", "3"])
        .expect(0);
    let expected = rows(10_000, 1);
    let ids: Vec<_> = cells(&ended.stdout)
        .iter()
        .map(|row| row[0].clone())
        .collect();
    let expected: Vec<_> = expected[..3].iter().map(|row| row.id.to_string()).collect();
    assert_eq!(ids, expected);
    assert!(ended.stdout.ends_with("3 rows\n"), "{}", ended.stdout);
    assert_eq!(ended.stderr, "");
    assert!(!folder.path("lake").exists() && !folder.path("state").exists());
}

#[test]
fn windows_of_a_file_close_when_it_ends() {
    let folder = folder();
    let ended = folder
        .tagflow(&["preview", "p.yaml", "minute", "--rows", "1000"])
        .expect(0);
    let counted: u64 = cells(&ended.stdout)
        .iter()
        .map(|row| row[3].parse::<u64>().unwrap())
        .sum();
    assert_eq!(counted, 10_000, "{}", ended.stdout);
    let ended = folder.tagflow(&["preview", "p.yaml", "minut"]).expect(2);
    assert_eq!(
        ended.stderr,
        "error: no source, step or query is called `minut`; did you mean `minute`?\n"
    );
}

#[test]
fn windows_that_are_open_show_what_they_hold() {
    let folder = Folder::new();
    let file = "name: p\n\
        sources: {made: {generator: {rate: 1000, start: 2026-01-05T12:30:00Z}}}\n\
        queries:\n  hour: SELECT tumble(occurred_at, INTERVAL '1 hour') AS w, count(*) AS n FROM made GROUP BY 1\n\
        sinks: {out: {from: hour, parquet: {url: ./lake}}}\n";
    folder.write("p.yaml", file);
    let ended = folder
        .tagflow(&["preview", "p.yaml", "hour", "--for", "1s"])
        .expect(0);
    assert_eq!(cells(&ended.stdout).len(), 1, "{}", ended.stdout);
    assert_eq!(
        ended.stderr,
        "after 1s: no window has closed yet; these are still open\n"
    );
    assert!(!folder.path("lake").exists() && !folder.path(".tagflow").exists());
}

#[test]
fn a_changed_file_is_compared_with_what_ran() {
    let folder = folder();
    let ended = folder.tagflow(&["diff", "p.yaml"]).expect(0);
    assert_eq!(
        ended.stdout,
        "`sales` has not committed in ./state: all begins anew\n"
    );
    folder
        .tagflow(&["run", "p.yaml", "--admin", "off"])
        .expect(0);
    let kept = folder.tagflow(&["diff", "p.yaml"]).expect(0);
    let fates = kept
        .stdout
        .lines()
        .map(|line| line.split_whitespace().nth(2));
    assert!(
        fates.into_iter().all(|fate| fate == Some("kept")),
        "{}",
        kept.stdout
    );

    let changed = pipeline("files: {url: ./in.ndjson}").replace("sum(amount)", "max(amount)");
    folder.write("q.yaml", &changed);
    let ended = folder.tagflow(&["diff", "p.yaml", "q.yaml"]).expect(0);
    let begun = "          - sum(amount)\n          + max(amount), starts from now\n";
    assert!(ended.stdout.contains(begun), "{}", ended.stdout);

    let changed = changed.replace("INTERVAL '1 minute'", "INTERVAL '2 minutes'");
    folder.write("q.yaml", changed);
    let ended = folder.tagflow(&["diff", "p.yaml", "q.yaml"]).expect(0);
    assert!(
        ended
            .stdout
            .contains("query   minute        reset    its state does not fit any more\n"),
        "{}",
        ended.stdout
    );
    assert!(
        ended
            .stdout
            .ends_with("to go on with it: tagflow run q.yaml --reset minute\n"),
        "{}",
        ended.stdout
    );
}
