//! `run`: to the end of a file, after Ctrl-C, repeated, and refused.

use std::{fs, net::TcpListener};

use crate::{
    broker::Broker,
    lake::assert_holds,
    process::{Folder, eventually},
    rows::{ndjson, pipeline, rows},
};

fn with_file(count: i64) -> (Folder, Vec<crate::rows::Row>) {
    let folder = Folder::new();
    let all = rows(count, 3);
    folder.write("in.ndjson", ndjson(&all));
    folder.write("p.yaml", pipeline("files: {url: ./in.ndjson}"));
    (folder, all)
}

#[test]
fn a_file_read_to_its_end_leaves_nothing_unpublished() {
    let (folder, all) = with_file(5000);
    let ended = folder
        .tagflow(&["run", "p.yaml", "--admin", "off"])
        .expect(0);
    assert_holds(&folder, &all);
    for line in [
        "  read                  5,000\n",
        "  per_minute  ./lake/per_minute\n",
        "to look at them: tagflow query --state ./state 'select * from \"per_minute\" limit 10'\n",
    ] {
        assert!(
            ended.stderr.contains(line),
            "no {line:?} in\n{}",
            ended.stderr
        );
    }
    // A repeated run has no rows to read, and writes no row twice.
    folder
        .tagflow(&["run", "p.yaml", "--admin", "off"])
        .expect(0);
    assert_holds(&folder, &all);
}

#[test]
fn regression_a_run_shows_the_warnings_of_sql_and_sinks() {
    let folder = Folder::new();
    folder.write(
        "in.ndjson",
        "{\"a\": 1, \"A\": 2, \"ts\": \"2026-03-02T10:00:01Z\"}\n",
    );
    folder.write(
        "p.yaml",
        "name: p\n\
         sources:\n  \
           events:\n    \
             files: {url: ./in.ndjson}\n    \
             format: {json: {}}\n    \
             columns: {a: int64, A: int64, ts: timestamp(rfc3339)}\n    \
             time: {event_time: ts}\n\
         sinks:\n  \
           out: {from: events, parquet: {url: ./out}}\n",
    );
    let ended = folder
        .tagflow(&["run", "p.yaml", "--once", "--admin", "off"])
        .expect(0);
    let warning = "warning  the columns `a` and `A` differ in case alone";
    assert!(ended.stderr.contains(warning), "{}", ended.stderr);
}

#[test]
fn ctrl_c_commits_and_the_next_run_goes_on() {
    let folder = Folder::new();
    let all = rows(20_000, 5);
    let broker = Broker::new("sales", 2);
    let source = format!(
        "kafka: {{brokers: \"{}\", topics: [sales]}}",
        broker.address()
    );
    folder.write("p.yaml", pipeline(&source));
    let (early, late) = all.split_at(12_000);
    broker.send_rows("sales", 2, early);
    let running = folder.start(&["run", "p.yaml", "--admin", "off"]);
    eventually("the first commits rows", || {
        (!folder.files("lake/every_row", ".parquet").is_empty()).then_some(())
    });
    running.signal("INT");
    let ended = running.wait().expect(0);
    assert!(
        ended.stderr.contains("kept for the next run"),
        "{}",
        ended.stderr
    );
    let staged = folder.files("lake", "_staging");
    assert!(staged.is_empty(), "left staged: {staged:?}");

    broker.send_rows("sales", 2, late);
    let run = ["run", "p.yaml", "--once", "--drain", "--admin", "off"];
    let ended = folder.tagflow(&run).expect(0);
    assert!(
        ended.stderr.contains("with earlier runs"),
        "{}",
        ended.stderr
    );
    assert_holds(&folder, &all);
}

#[test]
fn a_second_ctrl_c_aborts_and_loses_nothing() {
    let folder = Folder::new();
    let all = rows(10_000, 6);
    let broker = Broker::new("sales", 2);
    let source = format!(
        "kafka: {{brokers: \"{}\", topics: [sales]}}",
        broker.address()
    );
    folder.write("p.yaml", pipeline(&source));
    broker.send_rows("sales", 2, &all);
    let running = folder.start(&["run", "p.yaml", "--admin", "off"]);
    eventually("it claims the log", || {
        (!folder.files("state/sales/log", ".json").is_empty()).then_some(())
    });
    // It sees both signals when it continues: the second arrives before the first could be handled,
    // however fast that is.
    running.signal("STOP");
    running.signal("INT");
    running.signal("TERM");
    running.signal("CONT");
    let ended = running.wait().expect(130);
    assert!(
        ended.stderr.contains("once more stops at once"),
        "{}",
        ended.stderr
    );
    assert!(
        !ended.stderr.contains("stopped after commit"),
        "{}",
        ended.stderr
    );
    folder
        .tagflow(&["run", "p.yaml", "--once", "--drain", "--admin", "off"])
        .expect(0);
    assert_holds(&folder, &all);
}

#[test]
fn regression_a_crash_inside_a_library_leaves_a_message() {
    let file = "name: endless\nsources: {events: {generator: {}}}\nqueries: {all: SELECT user_id FROM \
                events}\nsinks: {out: {from: all, parquet: {url: ./lake}}}\ncheckpoint: {url: ./state}\n";
    for signal in ["SEGV", "BUS", "ABRT"] {
        let folder = Folder::new();
        folder.write("p.yaml", file);
        let running = folder.start(&["run", "p.yaml", "--admin", "off"]);
        eventually("it claims the log", || {
            (!folder.files("state/endless/log", ".json").is_empty()).then_some(())
        });
        running.signal(signal);
        let ended = running.wait();
        assert_eq!(ended.code, None, "{}", ended.stderr);
        let message =
            format!("error: the process crashed (SIG{signal}), most likely inside a C library");
        assert_eq!(
            ended.stderr.matches(&message).count(),
            1,
            "{}",
            ended.stderr
        );
        assert_eq!(
            ended.stderr.matches("process crashed").count(),
            1,
            "{}",
            ended.stderr
        );
    }
}

#[test]
fn a_damaged_log_stops_the_run() {
    let (folder, _) = with_file(100);
    folder
        .tagflow(&["run", "p.yaml", "--admin", "off"])
        .expect(0);
    let last = folder.files("state/sales/log", ".json").pop().unwrap();
    let text = fs::read_to_string(&last).unwrap();
    fs::write(&last, text.replace("\"contributed\":", "\"contributed\": ")).unwrap();
    let ended = folder
        .tagflow(&["run", "p.yaml", "--admin", "off"])
        .expect(3);
    assert!(
        ended
            .stderr
            .contains("is corrupted: its checksum does not match"),
        "{}",
        ended.stderr
    );
    let ended = folder.tagflow(&["status", "--state", "state"]).expect(3);
    assert!(ended.stderr.contains("is corrupted"), "{}", ended.stderr);
}

#[test]
fn state_that_no_longer_fits_is_named_and_can_be_reset() {
    let folder = Folder::new();
    let all = rows(2000, 9);
    let broker = Broker::new("sales", 1);
    let source = format!(
        "kafka: {{brokers: \"{}\", topics: [sales]}}",
        broker.address()
    );
    let text = pipeline(&source);
    folder.write("p.yaml", &text);
    broker.send_rows("sales", 1, &all);
    let run = ["run", "p.yaml", "--once", "--admin", "off"];
    folder.tagflow(&run).expect(0);
    // Another aggregate starts from now; for older windows its value is unknown.
    let text = text.replace("sum(amount) AS amount", "max(amount) AS amount");
    folder.write("p.yaml", &text);
    folder.tagflow(&run).expect(0);
    let text = text.replace("INTERVAL '1 minute'", "INTERVAL '2 minutes'");
    folder.write("p.yaml", text);
    let ended = folder.tagflow(&run).expect(2);
    assert!(ended.stderr.contains("`minute"), "{}", ended.stderr);
    assert!(ended.stderr.contains("--reset minute"), "{}", ended.stderr);
    folder
        .tagflow(&[&run[..], &["--reset", "minute"]].concat())
        .expect(0);
}

#[test]
fn a_state_folder_that_cannot_be_made_is_named() {
    let (folder, _) = with_file(10);
    folder.write("state", "a file");
    let ended = folder
        .tagflow(&["run", "p.yaml", "--admin", "off"])
        .expect(4);
    assert!(
        ended.stderr.contains("error: cannot create the folder"),
        "{}",
        ended.stderr
    );
    assert!(ended.stderr.contains("  cause: "), "{}", ended.stderr);
}

#[test]
fn a_table_that_cannot_be_written_ends_the_run() {
    let (folder, _) = with_file(10);
    folder.write("lake", "a file");
    let ended = folder
        .tagflow(&["run", "p.yaml", "--once", "--admin", "off"])
        .expect(4);
    assert!(ended.stderr.contains("lake"), "{}", ended.stderr);
}

#[test]
fn an_unknown_topic_is_named_with_those_like_it() {
    let folder = Folder::new();
    let broker = Broker::new("sails", 1);
    let source = format!(
        "kafka: {{brokers: \"{}\", topics: [sales]}}",
        broker.address()
    );
    folder.write("p.yaml", pipeline(&source));
    let ended = folder
        .tagflow(&["run", "p.yaml", "--once", "--admin", "off"])
        .expect(2);
    let expected = format!(
        "error: Kafka at `{}` has no topic `sales`; create it, or name one that is there: `sails`\n",
        broker.address()
    );
    assert!(ended.stderr.ends_with(&expected), "{}", ended.stderr);
}

#[test]
fn a_broker_that_does_not_answer_is_shown_and_ends_a_run_once() {
    let folder = Folder::new();
    folder.write(
        "p.yaml",
        pipeline("kafka: {brokers: \"127.0.0.1:1\", topics: [sales]}"),
    );
    let running = folder.start(&["run", "p.yaml", "--once"]);
    let shown = eventually("status says what it waits for", || {
        let shown = folder.tagflow(&["status", "--state", "state"]).stdout;
        shown.contains("cannot be reached").then_some(shown)
    });
    assert!(shown.lines().nth(1).unwrap().contains("waiting"), "{shown}");
    assert!(shown.contains("127.0.0.1:1"), "{shown}");
    let ended = running.wait().expect(4);
    assert!(
        ended.stderr.contains("could not be reached for 30 s"),
        "{}",
        ended.stderr
    );
}

#[test]
fn regression_events_for_a_broker_that_is_away_do_not_count_as_sent() {
    let folder = Folder::new();
    folder.write("events.ndjson", "{\"a\":1}\n{\"a\":2}\n");
    // The port is free again once the listener is dropped.
    let address = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let produce = format!(
        "produce --brokers {address} --topic t --property message.timeout.ms=6000 events.ndjson"
    );
    let ended = folder
        .tagflow(&produce.split(' ').collect::<Vec<_>>())
        .expect(4);
    let waiting = format!("waiting for Kafka at `{address}`: ");
    assert!(ended.stderr.contains(&waiting), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("2 of 2 events were not delivered"),
        "{}",
        ended.stderr
    );
    assert!(!ended.stderr.contains("sent "), "{}", ended.stderr);
}

#[test]
fn regression_help_and_errors_of_the_command_line_follow_color() {
    let folder = Folder::new();
    let is_colored = |text: &str| text.contains('\u{1b}');
    for (color, expected) in [("always", true), ("never", false), ("auto", false)] {
        let help = folder.tagflow(&["--color", color, "--help"]).expect(0);
        assert_eq!(is_colored(&help.stdout), expected, "{color}: {help:?}");
        let error = folder.tagflow(&["runn", "--color", color]).expect(2);
        assert_eq!(is_colored(&error.stderr), expected, "{color}: {error:?}");
    }
}
