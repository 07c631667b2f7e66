//! Rows that cannot be read: each costs itself and nothing else, and is found
//! with its reason and its bytes.

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

fn expected(mut reasons: Vec<&str>) -> String {
    reasons.sort_unstable();
    format!("reason,field\n{}\n", reasons.join("\n"))
}

#[test]
fn bad_messages_become_dead_letters() {
    let broker = Broker::new("clicks", 1);
    let bad = bad_rows();
    let mut messages = vec![(0, Some(GOOD.as_bytes().to_vec()))];
    for (row, _) in &bad {
        messages.push((0, Some(row.clone())));
        messages.push((0, Some(GOOD.as_bytes().to_vec())));
    }
    messages.push((0, Some(Vec::new())));
    messages.push((0, None));
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
        ended.stderr.contains("  dead letters             10"),
        "{}",
        ended.stderr
    );
    let mut reasons: Vec<_> = bad.iter().map(|(_, reason)| *reason).collect();
    reasons.extend(["empty,", "tombstone,"]);
    assert_eq!(
        ask(
            &folder,
            "select reason, field from dead_letters order by 1, 2"
        ),
        expected(reasons)
    );
    assert_eq!(ask(&folder, "select count(*) as n from out"), "n\n9\n");
    let sql = "select count(*) as n from dead_letters where payload = 'nonsense'";
    assert_eq!(ask(&folder, sql), "n\n1\n");
}

#[test]
fn a_line_of_20_mb_costs_itself() {
    let folder = Folder::new();
    let long = format!(
        r#"{{"user_id":"{}","amount":5,"at":1767571200000}}"#,
        "x".repeat(20_000_000)
    );
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

fn ask(folder: &Folder, sql: &str) -> String {
    let args = ["query", sql, "--state", "state", "--format", "csv"];
    folder.tagflow(&args).expect(0).stdout
}
