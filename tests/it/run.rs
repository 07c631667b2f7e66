//! `run`: to the end of a file, Ctrl-C, again, and what it refuses.

use std::fs;

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
    // Again: there is nothing to do, and nothing is done twice.
    folder
        .tagflow(&["run", "p.yaml", "--admin", "off"])
        .expect(0);
    assert_holds(&folder, &all);
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
    // It finds both when it goes on: the second comes before the first has been
    // obeyed, however fast that would have been.
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
    // Another aggregate starts from now; of other windows nothing can be known.
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
