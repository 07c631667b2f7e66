//! A folder of files that grows between runs, and the mistakes in naming one.

use std::fs;

use crate::{
    lake::assert_holds,
    process::Folder,
    rows::{ndjson, pipeline, rows},
};

/// A job started by a timer reads the new files, and the windows of its last hour stay open for the
/// next run. Their later rows were late.
#[test]
fn regression_a_folder_that_grows_closes_no_window_early() {
    let folder = Folder::new();
    let all = rows(6_000, 7);
    fs::create_dir(folder.path("in")).unwrap();
    let urls = ["./in/*.ndjson", "in/*.ndjson", "./in/../in/*.ndjson"];
    for (run, part) in all.chunks(2_000).enumerate() {
        // The order of names is not that of time, and the spelling differs each time.
        folder.write(&format!("in/{}.ndjson", 9 - run), ndjson(part));
        let files = format!("files: {{url: {}}}", urls[run]);
        folder.write("p.yaml", pipeline(&files));
        let ended = folder
            .tagflow(&["run", "p.yaml", "--once", "--admin", "off"])
            .expect(0);
        assert!(
            ended.stderr.contains("kept for the next run"),
            "{}",
            ended.stderr
        );
        assert!(!ended.stderr.contains("\n  late "), "{}", ended.stderr);
    }
    let ended = folder
        .tagflow(&["run", "p.yaml", "--once", "--drain", "--admin", "off"])
        .expect(0);
    assert!(!ended.stderr.contains("kept for"), "{}", ended.stderr);
    assert_holds(&folder, &all);
}

/// The end of a file does not make its partition idle: the next file follows.
#[test]
fn regression_once_reads_every_file_and_closes_what_one_file_opened() {
    let all = rows(1_200, 8);
    let folder = Folder::new();
    folder.write("in.ndjson", ndjson(&all));
    folder.write("p.yaml", pipeline("files: {url: ./in.ndjson}"));
    folder
        .tagflow(&["run", "p.yaml", "--once", "--admin", "off"])
        .expect(0);
    assert_holds(&folder, &all);

    let folder = Folder::new();
    fs::create_dir(folder.path("in")).unwrap();
    for (part, rows) in all.chunks(300).enumerate() {
        folder.write(&format!("in/{part}.ndjson"), ndjson(rows));
    }
    folder.write("p.yaml", pipeline("files: {url: \"./in/*\"}"));
    folder
        .tagflow(&["run", "p.yaml", "--once", "--drain", "--admin", "off"])
        .expect(0);
    assert_holds(&folder, &all);
}

/// Part files of an export: many, small, in another order than time, and each overlaps the next.
#[test]
fn regression_many_files_in_any_order_lose_no_row() {
    let folder = Folder::new();
    let all = rows(10_000, 9);
    fs::create_dir(folder.path("in")).unwrap();
    let parts: Vec<_> = all.chunks(10).collect();
    for (part, rows) in parts.iter().enumerate() {
        let name = format!("in/{:04}.ndjson", parts.len() - part);
        folder.write(&name, ndjson(*rows));
    }
    folder.write("p.yaml", pipeline("files: {url: \"./in/*\"}"));
    let ended = folder
        .tagflow(&["run", "p.yaml", "--admin", "off"])
        .expect(0);
    assert!(!ended.stderr.contains("\n  late "), "{}", ended.stderr);
    assert_holds(&folder, &all);
}

#[test]
fn regression_a_pattern_that_matches_nothing_ends_the_run() {
    let folder = Folder::new();
    folder.write("p.yaml", pipeline("files: {url: ./dta/*.ndjson}"));
    let run = ["run", "p.yaml", "--once", "--admin", "off"];
    let ended = folder.tagflow(&run).expect(3);
    let expected = "error: no file matches `./dta/*.ndjson`; where that is no mistake, write \
                    `allow_empty: true`\n";
    assert!(ended.stderr.ends_with(expected), "{}", ended.stderr);
    let files = "files: {url: ./dta/*.ndjson, allow_empty: true}";
    folder.write("p.yaml", pipeline(files));
    folder.tagflow(&run).expect(0);
}
