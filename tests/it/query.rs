//! `query`: what a newcomer writes.

use crate::process::Folder;

const FILE: &str = r"name: clicks
sources:
  events: {generator: {count: 100}}
queries:
  all: SELECT user_id, event_type FROM events
sinks:
  clicks: {from: all, parquet: {url: ./lake, files: {max_open: 1s}}}
checkpoint: {url: ./state}
";

#[test]
fn regression_commands_of_the_prompt_and_a_file_before_the_sql_are_understood() {
    let folder = Folder::new();
    folder.write("p.yaml", FILE);
    folder
        .tagflow(&["run", "p.yaml", "--admin", "off"])
        .expect(0);
    let query = |args: &[&str]| folder.tagflow(&[&["query"], args].concat());

    for args in [
        &["\\d", "--file", "p.yaml"][..],
        &["p.yaml", "\\d"],
        &["p.yaml", "show tables"],
    ] {
        let tables = query(args).expect(0).stdout;
        assert!(tables.contains("| clicks "), "{args:?}: {tables}");
    }
    let columns = query(&["p.yaml", "\\d clicks"]).expect(0).stdout;
    assert!(columns.contains("user_id"), "{columns}");
    let count = [
        "p.yaml",
        "select count(*) as n from clicks",
        "--format",
        "csv",
    ];
    assert_eq!(query(&count).expect(0).stdout, "n\n100\n");

    for (args, said) in [
        (&["p.yaml", ""][..], "the query is empty"),
        (&["p.yaml", "selec 1"], "did you mean `SELECT`?"),
        (
            &["p.yaml", "select user from clicks"],
            "column `user` not found in `clicks` (have: user_id, event_type)",
        ),
        (&["select", "1"], "write it between quotes"),
    ] {
        let ended = query(args).expect(2);
        assert!(ended.stderr.contains(said), "{args:?}: {}", ended.stderr);
    }
}
