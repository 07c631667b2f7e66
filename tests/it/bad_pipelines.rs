//! The whole outputs of `validate` and `run` for invalid files.

use crate::process::Folder;

/// `validate` prints this and exits with 2.
#[track_caller]
fn check(text: &str, expected: &str) {
    let folder = Folder::new();
    folder.write("p.yaml", text);
    let ended = folder.tagflow(&["validate", "p.yaml"]).expect(2);
    assert_eq!(ended.stdout, expected);
    assert_eq!(ended.stderr, "");
    // `run` prints the same on standard error.
    let ended = folder
        .tagflow(&["run", "p.yaml", "--admin", "off"])
        .expect(2);
    assert_eq!(ended.stderr, expected);
}

/// A valid file, with the query's SQL and more blocks.
fn pipeline(sql: &str, more: &str) -> String {
    format!(
        "\
name: clicks
sources:
  events:
    files: {{url: ./in.ndjson}}
    format: {{json: {{}}}}
    columns: {{user_id: string, amount: int64, paid_at: timestamp(ms), at: timestamp(ms)}}
    time: {{event_time: at}}
queries:
  minute: |
    {sql}
sinks:
  out:
    from: minute
    parquet: {{url: ./lake/out}}
{more}"
    )
}

const GOOD: &str =
    "SELECT tumble(at, INTERVAL '1 minute') AS w, count(*) AS n FROM events GROUP BY 1";

#[test]
fn a_file_that_is_right() {
    let folder = Folder::new();
    folder.write("p.yaml", pipeline(GOOD, ""));
    let ended = folder.tagflow(&["validate", "p.yaml"]).expect(0);
    assert_eq!(ended.stdout, "p.yaml: ok\n");
}

#[test]
fn an_unknown_key() {
    check(
        &pipeline(GOOD, "chekpoint: {every: 1s}\n"),
        "\
p.yaml:15:1  error  unknown key `chekpoint`; did you mean `checkpoint`?
1 error
",
    );
}

#[test]
fn a_duplicate_key() {
    check(
        &pipeline(GOOD, "checkpoint: {every: 1s, every: 2s}\n"),
        "\
p.yaml:15:25  error  duplicate key `every`; it is already at 15:14
1 error
",
    );
}

#[test]
fn a_wrong_type() {
    check(
        &pipeline(GOOD, "checkpoint: {every: [1s]}\n"),
        "\
p.yaml:15:21  error  expected a duration like `5s`, got a list
1 error
",
    );
}

#[test]
fn an_unknown_column() {
    let sql =
        "SELECT tumble(at, INTERVAL '1 minute') AS w, sum(amuont) AS n FROM events GROUP BY 1";
    check(
        &pipeline(sql, ""),
        "\
p.yaml:10:54  error  column `amuont` not found in `events` (have: user_id, amount, paid_at, at)
                     help: did you mean `amount`?
1 error
",
    );
}

#[test]
fn a_mistake_in_the_sql() {
    check(
        &pipeline("SELECT count(*) FORM events", ""),
        "\
p.yaml:10:26  error  expected: end of statement, found: events
                     help: did you mean `FROM`?
1 error
",
    );
}

#[test]
fn a_window_on_a_column_that_is_not_event_time() {
    let sql = GOOD.replace("tumble(at", "tumble(paid_at");
    check(
        &pipeline(&sql, ""),
        "\
p.yaml:10:19  error  `tumble` is given `paid_at`, not the event time of the source
                     help: write `tumble(at, …)`
1 error
",
    );
}

#[test]
fn an_unbounded_order() {
    check(
        &pipeline("SELECT user_id FROM events ORDER BY user_id", ""),
        "\
p.yaml:10:41  error  ORDER BY needs all rows, and a stream never has them all
                     help: leave it out, and sort where the result is read
1 error
",
    );
}

#[test]
fn a_missing_variable() {
    check(
        &pipeline(GOOD, "checkpoint: {url: \"${env:NOT_THERE_AT_ALL}\"}\n"),
        "\
p.yaml:15:20  error  environment variable `NOT_THERE_AT_ALL` is not set
                     help: set it, or give a default: `${env:NOT_THERE_AT_ALL:-default}`
1 error
",
    );
}

#[test]
fn all_problems_at_once() {
    let sql =
        "SELECT tumble(at, INTERVAL '1 minute') AS w, sum(amuont) AS n FROM events GROUP BY 1";
    check(
        &pipeline(sql, "chekpoint: {every: 1s}\nadmin: {listen: nowhere}\n"),
        "\
p.yaml:10:54  error  column `amuont` not found in `events` (have: user_id, amount, paid_at, at)
                     help: did you mean `amount`?
p.yaml:15:1   error  unknown key `chekpoint`; did you mean `checkpoint`?
p.yaml:16:17  error  expected an address and port like `127.0.0.1:8642`, got the string `nowhere`
3 errors
",
    );
}

#[test]
fn a_file_that_is_not_there() {
    let folder = Folder::new();
    let ended = folder.tagflow(&["validate", "none.yaml"]).expect(2);
    assert_eq!(
        ended.stdout,
        "\
none.yaml:1:1  error  cannot read the file: No such file or directory (os error 2)
1 error
",
    );
}

#[test]
fn problems_for_programs_and_for_github() {
    let folder = Folder::new();
    folder.write("p.yaml", pipeline(GOOD, "chekpoint: {every: 1s}\n"));
    folder.write("q.yaml", pipeline(GOOD, ""));
    let ended = folder
        .tagflow(&["validate", "p.yaml", "q.yaml", "--format", "json"])
        .expect(2);
    let found: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(found.as_array().unwrap().len(), 1);
    assert_eq!(found[0]["file"], "p.yaml");
    assert_eq!(found[0]["line"], 15);
    let ended = folder
        .tagflow(&["validate", "p.yaml", "--format", "github"])
        .expect(2);
    assert!(
        ended
            .stdout
            .starts_with("::error file=p.yaml,line=15,col=1::"),
        "{}",
        ended.stdout
    );
}

#[test]
fn a_wrong_command_line() {
    let folder = Folder::new();
    for args in [
        &["rnu"][..],
        &["run"],
        &["run", "p.yaml", "--set", "x"],
        &["produce", "--topic", "t"],
    ] {
        let ended = folder.tagflow(args).expect(2);
        assert!(ended.stderr.contains("try '--help'"), "{}", ended.stderr);
    }
    let help = folder.tagflow(&["--help"]).expect(0).stdout;
    assert!(help.contains("Exit codes:\n  0    done\n"), "{help}");
}
