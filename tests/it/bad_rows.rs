//! Unreadable rows: each costs only itself, and is found with its reason and its bytes.

use std::fmt::Write as _;

use crate::{broker::Broker, process::Folder};

const GOOD: &str = r#"{"user_id":"u1","amount":5,"at":1767571200000}"#;

fn pipeline(source: &str) -> String {
    format!(
        "\
name: clicks
sources:
  events:
    {source}
    format: {{json: {{}}}}
    columns: {{user_id: string, amount: \"int64?\", at: timestamp(ms)}}
    time: {{event_time: at, max_future: 5m}}
sinks:
  out:
    from: events
    parquet: {{url: ./lake/out}}
checkpoint: {{url: ./state}}
"
    )
}

/// Each bad row, with the reason and the field of its dead letter.
fn bad_rows() -> Vec<(Vec<u8>, &'static str)> {
    let row = |text: &str, reason| (text.as_bytes().to_vec(), reason);
    let mut invalid = GOOD.as_bytes().to_vec();
    invalid[13] = 0xff;
    vec![
        row("nonsense", "not_json,"),
        row(r#"{"user_id":"u1","amount":5,"at":17675"#, "not_json,"),
        (invalid, "invalid_utf8,"),
        row(
            r#"{"user_id":7,"amount":5,"at":1767571200000}"#,
            "wrong_type,user_id",
        ),
        row(
            r#"{"amount":5,"at":1767571200000}"#,
            "missing_field,user_id",
        ),
        row(r#"{"user_id":"u1","amount":5}"#, "no_event_time,at"),
        row(
            r#"{"user_id":"u1","amount":5,"at":4072464000000}"#,
            "implausible_time,at",
        ),
        row(
            r#"{"user_id":"u1","amount":5,"at":-1}"#,
            "implausible_time,at",
        ),
    ]
}

/// A row of more than 20 MB that is otherwise valid.
fn long_row() -> String {
    GOOD.replace("u1", &"x".repeat(20_000_000))
}

#[test]
fn bad_messages_become_dead_letters() {
    let broker = Broker::new("clicks", 2);
    let mut bad = bad_rows();
    let mut messages = vec![(0, Some(GOOD.as_bytes().to_vec()))];
    for (row, _) in &bad {
        messages.push((0, Some(row.clone())));
        messages.push((0, Some(GOOD.as_bytes().to_vec())));
    }
    messages.push((0, Some(Vec::new())));
    messages.push((0, None));
    // Alone in its partition: the broker keeps no more than one of this size.
    messages.push((1, Some(long_row().into_bytes())));
    broker.send("clicks", messages);

    let folder = Folder::new();
    let source = format!(
        "kafka: {{brokers: \"{}\", topics: [clicks]}}",
        broker.address()
    );
    folder.write("p.yaml", pipeline(&source));
    let ended = folder
        .tagflow(&["run", "p.yaml", "--once", "--admin", "off"])
        .expect(0);
    assert!(
        ended.stderr.contains("  dead letters             11"),
        "{}",
        ended.stderr
    );
    // Bad and good rows alternate, a good one first.
    let mut expected = "partition,offset,reason,field,bytes\n".to_owned();
    bad.push((Vec::new(), "empty,"));
    for (index, (row, reason)) in bad.iter().enumerate() {
        let offset = 2 * index + 1;
        let _ = writeln!(expected, "clicks/0,{offset},{reason},{}", row.len());
    }
    let large = long_row().len();
    let _ = write!(
        expected,
        "clicks/0,18,tombstone,,\nclicks/1,0,too_large,,{large}\n"
    );
    let sql = "select partition, \"offset\", reason, field, octet_length(encode(payload, 'hex')) / 2 as bytes \
               from dead_letters order by 1, 2";
    assert_eq!(ask(&folder, sql), expected);
    assert_eq!(ask(&folder, "select count(*) as n from out"), "n\n9\n");
    let sql = "select count(*) as n from dead_letters where payload = 'nonsense'";
    assert_eq!(ask(&folder, sql), "n\n1\n");
}

#[test]
fn a_line_of_20_mb_costs_itself() {
    let folder = Folder::new();
    let long = long_row();
    folder.write("in.ndjson", format!("{GOOD}\n{long}\n{GOOD}\n"));
    folder.write("p.yaml", pipeline("files: {url: ./in.ndjson}"));
    folder
        .tagflow(&["run", "p.yaml", "--admin", "off"])
        .expect(0);
    assert_eq!(
        ask(&folder, "select reason from dead_letters"),
        "reason\ntoo_large\n"
    );
    assert_eq!(ask(&folder, "select count(*) as n from out"), "n\n2\n");
}

#[test]
fn too_many_bad_rows_stop_the_run_and_the_next_goes_on() {
    let broker = Broker::new("clicks", 1);
    let rows = |text: &str, count| vec![(0, Some(text.as_bytes().to_vec())); count];
    let folder = Folder::new();
    let source = format!(
        "kafka: {{brokers: \"{}\", topics: [clicks]}}",
        broker.address()
    );
    let text = pipeline(&source);
    let limit = "errors: {stop_when: {ratio: 0.05, at_least: 100}}\n";
    folder.write("p.yaml", format!("{text}{limit}"));
    let run = ["run", "p.yaml", "--once", "--admin", "off"];

    broker.send("clicks", rows(GOOD, 95));
    broker.send("clicks", rows("nonsense", 5));
    folder.tagflow(&run).expect(0);
    assert_eq!(ask(&folder, "select count(*) as n from out"), "n\n95\n");

    // The field has another name, so all these rows are bad.
    let renamed = GOOD.replace("user_id", "user");
    broker.send("clicks", rows(&renamed, 200));
    broker.send("clicks", rows(GOOD, 100));
    let ended = folder.tagflow(&run).expect(3);
    let expected = "error: 200 of the last 300 rows became dead letters, more than \
                    `errors.stop_when.ratio` allows (0.05); the dead letters say why\n";
    assert!(ended.stderr.ends_with(expected), "{}", ended.stderr);
    // The rows before the failure are committed, so that they can be queried.
    let counts = "select (select count(*) from out) as n, \
                  (select count(*) from dead_letters) as bad";
    assert_eq!(ask(&folder, counts), "n,bad\n195,205\n");

    broker.send("clicks", rows(GOOD, 150));
    folder.tagflow(&run).expect(0);
    assert_eq!(ask(&folder, counts), "n,bad\n345,205\n");
}

/// A pipeline that divides by `amount` and casts `user_id`, which is personal.
fn failing(on_error: &str) -> String {
    format!(
        "\
name: clicks
sources:
  events:
    files: {{url: ./in.ndjson}}
    format: {{json: {{}}}}
    columns: {{user_id: {{type: string, personal: true}}, amount: int64, at: timestamp(ms)}}
    time: {{event_time: at}}
    on_error: {on_error}
steps:
  ratios: {{from: events, select: {{at: at, x: 100 / amount, u: CAST(user_id AS INT)}}}}
sinks:
  out: {{from: ratios, parquet: {{url: ./lake/out}}}}
checkpoint: {{url: ./state}}
"
    )
}

fn failing_rows() -> String {
    let row = |(user, amount): (&str, i64)| {
        format!("{{\"user_id\":\"{user}\",\"amount\":{amount},\"at\":1767571200000}}\n")
    };
    let rows = [("1", 1), ("2", 2), ("3", 0), ("secret", 4), ("5", 5)];
    rows.map(row).concat()
}

#[test]
fn regression_a_failing_expression_costs_its_row() {
    let folder = Folder::new();
    folder.write("in.ndjson", failing_rows());
    folder.write("p.yaml", failing("dead_letter"));
    let run = ["run", "p.yaml", "--admin", "off"];
    let ended = folder.tagflow(&run).expect(0);
    let shown = "  dead letters              2";
    assert!(ended.stderr.contains(shown), "{}", ended.stderr);
    let sql = "select node, \"offset\", reason, expression from dead_letters \
               order by reason";
    let offset = |row: &str| failing_rows().find(row).unwrap() - "{\"user_id\":\"".len();
    let expected = format!(
        "node,offset,reason,expression\n\
         ratios,{},cast_failed,CAST(user_id AS Int32)\n\
         ratios,{},division_by_zero,100 / amount\n",
        offset("secret"),
        offset("3")
    );
    assert_eq!(ask(&folder, sql), expected);
    assert_eq!(ask(&folder, "select count(*) as n from out"), "n\n3\n");
    let row = r#"{"user_id":"***","amount":0,"at":"2026-01-05T00:00:00Z"}"#;
    let found = format!("select count(*) as n from dead_letters where payload = '{row}'");
    assert_eq!(ask(&folder, &found), "n\n1\n");
    let hidden = "select count(*) as n from dead_letters where error like '%secret%'";
    assert_eq!(ask(&folder, hidden), "n\n0\n");
    folder.tagflow(&["audit", "--file", "p.yaml"]).expect(0);
}

#[test]
fn regression_an_error_that_stops_the_run_names_the_row_and_no_personal_value() {
    let folder = Folder::new();
    let rows = failing_rows().replace("\"amount\":0", "\"amount\":3");
    folder.write("in.ndjson", rows);
    folder.write("p.yaml", failing("fail"));
    let ended = folder
        .tagflow(&["run", "p.yaml", "--admin", "off"])
        .expect(3);
    let expected = "`ratios` cannot compute `CAST(user_id AS Int32)`: a value cannot be cast, on \
                    row ";
    assert!(ended.stderr.contains(expected), "{}", ended.stderr);
    assert!(ended.stderr.contains("TRY_CAST"), "{}", ended.stderr);
    assert!(!ended.stderr.contains("secret"), "{}", ended.stderr);
}

#[test]
fn personal_values_are_in_no_table_of_rows_set_aside() {
    let folder = Folder::new();
    let row = |user: &str, amount: &str, minute: i64| {
        let at = 1_767_571_200_000 + minute * 60_000;
        format!("{{\"user_id\":{user},\"amount\":{amount},\"at\":{at}}}\n")
    };
    let rows = [
        row("\"secret-1\"", "1", 0),
        row("\"secret-2\"", "\"much\"", 0),
        row("[\"secret-3\"]", "1", 0),
        "{\"user_id\":\"secret-4\"\n".to_owned(),
        "\"secret-5\"\n".to_owned(),
        row("\"secret-6\"", "1", 10),
        row("\"secret-7\"", "7", 1),
    ];
    folder.write("in.ndjson", rows.concat());
    let text = pipeline("files: {url: ./in.ndjson}");
    let text = text.replace("user_id: string", "user_id: {type: string, personal: true}");
    let steps = "steps:
  named: {from: events, select: {who: upper(user_id), amount: amount, at: at}}
queries:
  minutes: |
    SELECT tumble(at, INTERVAL '1 minute') AS w, count(DISTINCT who) AS n, sum(amount) AS amount
    FROM named GROUP BY 1
sinks:
  per_minute: {from: minutes, parquet: {url: ./lake/minutes}}
";
    folder.write("p.yaml", text.replace("sinks:\n", steps));
    let ended = folder
        .tagflow(&["run", "p.yaml", "--admin", "off"])
        .expect(0);
    assert!(!ended.stderr.contains("secret"), "{}", ended.stderr);
    let letters = ask(
        &folder,
        "select arrow_cast(payload, 'Utf8') as payload, error from dead_letters order by \"offset\"",
    );
    let letters: Vec<_> = letters.lines().skip(1).collect();
    assert_eq!(letters.len(), 4, "{letters:?}");
    assert!(
        letters[0].contains("\"\"user_id\"\":\"\"***\"\",\"\"amount\"\":\"\"much\"\""),
        "{letters:?}"
    );
    assert!(
        letters[1].ends_with("`user_id` is of another type; its value is masked"),
        "{letters:?}"
    );
    assert!(
        letters[2].contains("\"\"bytes\"\":21,\"\"sha256\"\""),
        "{letters:?}"
    );
    assert!(
        letters[3].contains("\"\"bytes\"\":10,\"\"sha256\"\""),
        "{letters:?}"
    );
    let late = ask(&folder, "select row from late");
    assert!(late.contains("\"\"who\"\":\"\"***\"\""), "{late}");
    assert!(late.contains("\"\"amount\"\":7"), "{late}");
    for table in [letters.concat(), late] {
        assert!(!table.to_lowercase().contains("secret"), "{table}");
    }
    // Sinks decide themselves whether they write personal data.
    let out = ask(&folder, "select user_id from out order by 1");
    assert_eq!(out, "user_id\nsecret-1\nsecret-6\nsecret-7\n");
}

fn ask(folder: &Folder, sql: &str) -> String {
    let args = ["query", sql, "--state", "state", "--format", "csv"];
    folder.tagflow(&args).expect(0).stdout
}
