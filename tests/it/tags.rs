//! The tags of users, queried through the binary.

use std::fmt::Write as _;

use serde_json::Value;

use crate::{
    broker::Broker,
    process::{Folder, eventually},
};

const PIPELINE: &str = r#"name: tagged
sources:
  events:
    files: {url: ./events.ndjson}
    format: {json: {}}
    columns: {user: string, kind: string, amount: "decimal(18,2)?", at: timestamp(rfc3339)}
    time: {event_time: at, delay: 0s}
tags:
  from: events
  key: user
  memory: {limit: 1KiB, spill: ./cold}
  define:
    orders: {agg: count, where: "kind = 'order'", windows: [1d, lifetime]}
    spend: {agg: sum, arg: amount, windows: [1d]}
    last_at: {agg: last, arg: at}
segments:
  buyers: {when: orders_1d > 0}
scenes:
  till: {tags: [spend], segments: [buyers]}
sinks:
  changes: {from: tags.changes, parquet: {url: ./lake/changes}}
  moves: {from: segments.changes, parquet: {url: ./lake/moves}}
checkpoint: {every: 100ms, url: ./state}
"#;

/// Two orders of `u1` and one of `u2`; other events advance the time.
fn events() -> String {
    let mut events = String::new();
    let mut add = |user: &str, kind: &str, amount: &str, at: &str| {
        writeln!(
            events,
            "{{\"user\":\"{user}\",\"kind\":\"{kind}\",\"amount\":{amount},\"at\":\"{at}\"}}"
        )
        .unwrap();
    };
    add("u1", "order", "10.50", "2026-01-05T10:00:00Z");
    add("u2", "order", "7", "2026-01-05T11:00:00Z");
    add("u1", "order", "2.25", "2026-01-05T20:30:00Z");
    for number in 0..200 {
        add(
            &format!("other-{number}"),
            "view",
            "null",
            "2026-01-06T10:30:00Z",
        );
    }
    add("u3", "view", "null", "2026-01-06T12:30:00Z");
    events
}

fn ran() -> Folder {
    let folder = Folder::new();
    folder.write("p.yaml", PIPELINE);
    folder.write("events.ndjson", events());
    folder
        .tagflow(&["run", "p.yaml", "--admin", "off"])
        .expect(0);
    let cold = std::fs::read_dir(folder.path("cold")).unwrap();
    assert_eq!(cold.count(), 0, "the cache on the disk goes with the run");
    folder
}

#[test]
fn a_user_is_known_as_of_the_last_commit_and_later() {
    let folder = ran();
    let get = |more: &[&str]| {
        let arguments = ["tags", "get", "u1", "--file", "p.yaml", "--json"];
        let said = folder.tagflow(&[&arguments[..], more].concat()).expect(0);
        serde_json::from_str::<Value>(&said.stdout).unwrap()
    };
    // The first of the two orders is a day old, and its hour is over.
    let known = get(&[]);
    assert_eq!(known["as_of"], "2026-01-06T12:30:00Z", "{known}");
    assert_eq!(known["tags"]["orders_1d"]["value"], 1, "{known}");
    assert_eq!(known["tags"]["orders_lifetime"]["value"], 2, "{known}");
    assert_eq!(known["tags"]["spend_1d"]["value"], "2.25", "{known}");
    assert_eq!(
        known["tags"]["spend_1d"]["tiles"],
        serde_json::json!([{
            "start": "2026-01-05T20:00:00Z",
            "end": "2026-01-05T21:00:00Z",
            "value": "2.25",
        }])
    );
    assert_eq!(
        known["segments"]["buyers"], "2026-01-05T10:00:00Z",
        "{known}"
    );
    let later = get(&["--as-of", "2026-01-07"]);
    assert_eq!(later["tags"]["orders_1d"]["value"], 0, "{later}");
    assert_eq!(later["segments"], serde_json::json!({}), "{later}");
    // Before the second order, from the emitted changes.
    let before = get(&["--as-of", "2026-01-05T20:00:00Z"]);
    assert_eq!(before["is_told"], true, "{before}");
    assert_eq!(before["tags"]["orders_1d"]["value"], 1, "{before}");
    assert_eq!(before["tags"]["spend_1d"]["value"], "10.50", "{before}");
    let ordered = serde_json::json!("2026-01-05T10:00:00Z");
    assert_eq!(before["tags"]["last_at"]["value"], ordered, "{before}");
    assert_eq!(before["tags"]["orders_1d"]["since"], ordered, "{before}");
    assert_eq!(before["segments"]["buyers"], ordered, "{before}");
    let seen = get(&["--scene", "till"]);
    assert_eq!(seen["tags"].as_object().unwrap().len(), 1, "{seen}");

    let text = ["tags", "get", "u1", "--file", "p.yaml", "--why", "spend_1d"];
    let why = folder.tagflow(&text).expect(0);
    assert!(
        why.stdout
            .contains("2026-01-05T20:00:00Z to 2026-01-05T21:00:00Z"),
        "{}",
        why.stdout
    );
    let size = ["segments", "size", "buyers", "--file", "p.yaml"];
    let size = folder.tagflow(&size).expect(0);
    assert_eq!(size.stdout, "1 in `buyers` as of 2026-01-06T12:30:00Z\n");
    // Spilled state is a cache.
    assert!(folder.files("cold", "").is_empty());
}

#[test]
fn what_cannot_be_asked_is_said() {
    let folder = ran();
    let said = |arguments: &[&str]| {
        let said = folder.tagflow(arguments);
        assert_ne!(said.code, Some(0), "{}", said.stdout);
        said.stderr
    };
    let of = ["--file", "p.yaml"];
    let said_of = |arguments: &[&str]| said(&[arguments, &of[..]].concat());
    assert!(said_of(&["tags", "get", "u9"]).contains("`u9` is not known as of 2026-01-06"));
    assert!(said_of(&["tags", "get", "u1", "--why", "orders"]).contains("have: `orders_1d`"));
    assert!(said_of(&["tags", "get", "u1", "--scene", "tills"]).contains("have: `till`"));
    assert!(said_of(&["segments", "size", "buyer"]).contains("have: `buyers`"));
    let early = said_of(&["tags", "get", "u1", "--as-of", "2026-01-05"]);
    assert!(
        early.contains("`u1` was not known as of 2026-01-05T00:00:00Z"),
        "{early}"
    );
    folder.write(
        "q.yaml",
        PIPELINE.replace("from: tags.changes", "from: tags.current"),
    );
    let untold = [
        "tags",
        "get",
        "u1",
        "--as-of",
        "2026-01-05",
        "--file",
        "q.yaml",
    ];
    let untold = said(&untold);
    assert!(
        untold.contains("the table of `tags.changes`, and `tagged` writes none"),
        "{untold}"
    );
    let no_time = said_of(&["tags", "get", "u1", "--as-of", "soon"]);
    assert!(no_time.contains("expected a time like"), "{no_time}");
}

/// Long before a commit, and after the last one; an idle topic follows the clock.
#[test]
fn a_running_pipeline_says_what_is_known_now() {
    let broker = Broker::new("events", 2);
    let folder = Folder::new();
    let pipeline = of_broker(&broker)
        .replace(
            "delay: 0s",
            "delay: 1s, idle_after: 500ms, when_idle: clock",
        )
        .replace("every: 100ms", "every: 10m");
    folder.write("p.yaml", pipeline);
    let events = events();
    let payloads = events.lines().enumerate();
    broker.send(
        "events",
        payloads.map(|(number, event)| (number as i32 % 2, Some(event.as_bytes().to_vec()))),
    );
    let running = folder.start(&[
        "run",
        "p.yaml",
        "--admin",
        "127.0.0.1:0",
        "--parallelism",
        "2",
    ]);
    let get = |user: &str, more: &[&str]| {
        let arguments = ["tags", "get", user, "--file", "p.yaml"];
        folder.tagflow(&[&arguments[..], more].concat())
    };
    let known = eventually("the clock has passed all events", || {
        let said = get("u1", &["--json"]);
        let known: Value = serde_json::from_str(&said.stdout).ok()?;
        (known["tags"]["orders_1d"]["value"] == 0).then_some(known)
    });
    assert_eq!(known["is_live"], true, "{known}");
    assert_eq!(known["tags"]["orders_lifetime"]["value"], 2, "{known}");
    assert_eq!(known["segments"], serde_json::json!({}), "{known}");
    let seen: Value =
        serde_json::from_str(&get("u2", &["--scene", "till", "--json"]).stdout).unwrap();
    assert_eq!(seen["tags"].as_object().unwrap().len(), 1, "{seen}");
    assert!(
        get("u3", &[])
            .stdout
            .contains(", of the running pipeline\n")
    );
    let said = |user: &str, more: &[&str]| get(user, more).expect(2).stderr;
    assert_eq!(said("u9", &[]), "error: `u9` is not known\n");
    assert!(said("u1", &["--scene", "tills"]).contains("have: `till`"));
    assert!(said("u1", &["--as-of", "2026-01-05"]).contains("what was before is gone"));

    running.signal("INT");
    running.wait().expect(0);
    let known: Value = serde_json::from_str(&get("u1", &["--json"]).stdout).unwrap();
    assert_eq!(known["is_live"], false, "{known}");
    assert_eq!(known["tags"]["orders_lifetime"]["value"], 2, "{known}");
}

/// No event follows, so the watermark never passes the only one.
#[test]
fn regression_one_event_of_a_quiet_topic_is_seen() {
    let broker = Broker::new("events", 1);
    let folder = Folder::new();
    folder.write(
        "p.yaml",
        of_broker(&broker).replace("delay: 0s", "delay: 5s"),
    );
    let running = folder.start(&["run", "p.yaml", "--admin", "127.0.0.1:0"]);
    let event = r#"{"user":"u1","kind":"order","amount":3,"at":"2026-01-05T10:00:00Z"}"#;
    broker.send("events", [(0, Some(event.as_bytes().to_vec()))]);
    let get = |user: &str| folder.tagflow(&["tags", "get", user, "--file", "p.yaml", "--json"]);
    let json = |user: &str| serde_json::from_str::<Value>(&get(user).stdout).ok();
    let known = eventually("the event has been read", || json("u1"));
    assert_eq!(known["is_live"], true, "{known}");
    assert_eq!(known["waiting_events"], 1, "{known}");
    assert_eq!(known["as_of"], "2026-01-05T10:00:00Z", "{known}");
    assert_eq!(known["tags"]["orders_lifetime"]["value"], 1, "{known}");
    assert_eq!(known["tags"]["spend_1d"]["value"], "3.00", "{known}");
    assert!(known["segments"]["buyers"].is_string(), "{known}");
    eventually("the event is in a commit", || {
        let expected = "error: `u9` is not known; 1 event waits for the watermark\n";
        (get("u9").expect(2).stderr == expected).then_some(())
    });

    running.signal("INT");
    running.wait().expect(0);
    let known = json("u1").expect("the commit has the event");
    assert_eq!(known["is_live"], false, "{known}");
    assert_eq!(known["waiting_events"], 1, "{known}");
    assert_eq!(known["tags"]["orders_lifetime"]["value"], 1, "{known}");
}

#[test]
fn odd_users_and_times_do_no_harm() {
    let broker = Broker::new("events", 1);
    let folder = Folder::new();
    folder.write("p.yaml", of_broker(&broker));
    let long = "x".repeat(10 * 1024);
    let event = |user: &str, at: &str| {
        format!(r#"{{"user":"{user}","kind":"order","amount":1,"at":"{at}"}}"#)
    };
    let events = [
        event("u1", "2026-01-05T10:00:00Z"),
        event("", "2026-01-05T10:00:01Z"),
        // A wrong clock does not advance the time: later events are not late.
        event("u1", "2099-01-01T00:00:00Z"),
        event(&long, "2026-01-05T10:00:02Z"),
        event("u1", "2026-01-05T10:00:03Z"),
    ];
    broker.send("events", events.map(|event| (0, Some(event.into_bytes()))));
    folder
        .tagflow(&["run", "p.yaml", "--once", "--drain", "--admin", "off"])
        .expect(0);
    for (user, orders) in [("u1", 2), (&*long, 1)] {
        let said = folder.tagflow(&["tags", "get", user, "--file", "p.yaml", "--json"]);
        let known: Value = serde_json::from_str(&said.expect(0).stdout).unwrap();
        assert_eq!(known["tags"]["orders_lifetime"]["value"], orders, "{known}");
        assert!(known["as_of"].as_str().unwrap().starts_with("2026-01-05"));
    }
    let sql = "select reason, count(*) as n from dead_letters group by 1 order by 1";
    let ask = ["query", sql, "--state", "state", "--format", "csv"];
    let reasons = folder.tagflow(&ask).expect(0).stdout;
    assert_eq!(reasons, "reason,n\nempty_key,1\nimplausible_time,1\n");
}

/// The pipeline over a broker's events.
fn of_broker(broker: &Broker) -> String {
    let kafka = format!(
        "kafka: {{brokers: \"{}\", topics: [events]}}",
        broker.address()
    );
    PIPELINE.replace("files: {url: ./events.ndjson}", &kafka)
}
