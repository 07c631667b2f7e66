//! `tagflow test`, as a user starts it.

use crate::process::Folder;

const FILE: &str = r#"name: clicks
sources:
  events:
    kafka: {brokers: "nowhere:9092", topics: [t]}
    format: {json: {}}
    columns: {user_id: string, at: timestamp(ms)}
    time: {event_time: at}
queries:
  minute: |
    SELECT tumble(at, INTERVAL '1 minute') AS w, count(*) AS n FROM events GROUP BY 1
sinks:
  out: {from: minute, parquet: {url: ./lake/out}}
tests:
  - name: rows of a minute are counted
    steps:
      - send: {events: [{user_id: u, at: "2026-01-05T12:00:00Z"}]}
      - restart
      - watermark: "2026-01-05T12:01:00Z"
      - expect: {minute: {contains: [{n: 1}]}, out: {count: 1}}
"#;

#[test]
fn tests_of_a_folder_pass_and_leave_nothing_behind() {
    let folder = Folder::new();
    folder.write("pipelines/a.yaml", FILE);
    folder.write(
        "pipelines/more/b.yml",
        FILE.replace("name: clicks", "name: other"),
    );
    folder.write("pipelines/notes.txt", "no pipeline");
    let ended = folder.tagflow(&["test", "pipelines"]).expect(0);
    let lines: Vec<_> = ended.stdout.lines().collect();
    assert_eq!(lines.len(), 3, "{}", ended.stdout);
    assert!(lines[0].starts_with("ok    clicks  rows of a minute are counted   "));
    assert!(lines[1].starts_with("ok    other   rows of a minute are counted   "));
    assert_eq!(lines[2], "2 passed");
    assert!(!folder.path("lake").exists() && !folder.path(".tagflow").exists());
}

#[test]
fn regression_an_invalid_file_of_a_folder_is_in_the_result() {
    let folder = Folder::new();
    folder.write("pipelines/a.yaml", FILE);
    folder.write(
        "pipelines/b.yaml",
        FILE.replace("name: clicks", "nam: clicks"),
    );
    let ended = folder
        .tagflow(&["test", "pipelines", "--format", "json"])
        .expect(2);
    let results: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(results[0]["passed"], true, "{results}");
    assert_eq!(results[1]["file"], "pipelines/b.yaml", "{results}");
    assert_eq!(results[1]["passed"], false, "{results}");
    assert_eq!(results[1]["problems"][0]["line"], 1, "{results}");
    let ended = folder
        .tagflow(&["test", "pipelines", "--format", "github"])
        .expect(2);
    assert!(
        ended
            .stdout
            .contains("::error file=pipelines/b.yaml,line=1,"),
        "{}",
        ended.stdout
    );
    let ended = folder.tagflow(&["validate", "pipelines"]).expect(2);
    assert!(
        ended.stdout.contains("pipelines/a.yaml: ok"),
        "{}",
        ended.stdout
    );
    assert!(
        ended.stdout.contains("pipelines/b.yaml:1:"),
        "{}",
        ended.stdout
    );
    folder.write("empty/notes.txt", "no pipeline");
    let ended = folder.tagflow(&["validate", "empty"]).expect(2);
    let expected = "error: `empty` contains no pipeline file (`*.yaml`, `*.yml`)\n";
    assert_eq!(ended.stderr, expected);
}

#[test]
fn a_test_that_fails_ends_with_2() {
    let folder = Folder::new();
    folder.write("a.yaml", FILE.replace("{n: 1}", "{n: 2}"));
    let ended = folder.tagflow(&["test", "a.yaml"]).expect(2);
    let failure = ended.stdout.lines().nth(1).unwrap_or_default();
    assert_eq!(
        failure,
        "      after watermark 2026-01-05T12:01:00Z  minute  expected {n: 2}  got {n: 1}   (a.yaml:19)"
    );
    let ended = folder
        .tagflow(&["test", "a.yaml", "--format", "github"])
        .expect(2);
    assert!(ended.stdout.starts_with("::error file=a.yaml,line=19,col="));
}

#[test]
fn a_file_in_error_hides_no_other() {
    let folder = Folder::new();
    folder.write("a.yaml", FILE);
    folder.write("b.yaml", FILE.replace("count(*)", "conut(*)"));
    let ended = folder.tagflow(&["test", "."]).expect(2);
    assert!(ended.stderr.contains("conut"), "{}", ended.stderr);
    assert!(ended.stdout.ends_with("1 passed\n"), "{}", ended.stdout);
    let ended = folder.tagflow(&["test", "none"]).expect(2);
    assert!(
        ended.stderr.contains("cannot read the file"),
        "{}",
        ended.stderr
    );
}
