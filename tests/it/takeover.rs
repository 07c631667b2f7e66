//! Two processes on one pipeline.

use std::time::Duration;

use crate::{
    broker::Broker,
    lake::{assert_holds, assert_shows},
    process::{Folder, eventually},
    rows::{pipeline, rows},
};

/// A run that takes over a live pipeline.
const TAKE_OVER: [&str; 5] = ["run", "p.yaml", "--admin", "off", "--take-over"];

#[test]
fn the_second_of_two_takes_over_and_nothing_is_doubled() {
    let folder = Folder::new();
    let all = rows(30_000, 7);
    let broker = Broker::new("sales", 2);
    let source = format!(
        "kafka: {{brokers: \"{}\", topics: [sales]}}",
        broker.address()
    );
    folder.write("p.yaml", pipeline(&source));
    let run = ["run", "p.yaml", "--admin", "off"];

    let (early, late) = all.split_at(15_000);
    broker.send_rows("sales", 2, early);
    let first = folder.start(&run);
    eventually("the first commits rows", || {
        (!folder.files("lake/every_row", ".parquet").is_empty()).then_some(())
    });
    let mut second = folder.start(&TAKE_OVER);
    eventually("the second claims the log", || {
        (records(&folder, "claim") > 1).then_some(())
    });
    // Both processes read these rows, and only one can commit them.
    broker.send_rows("sales", 2, late);
    let fenced = first.wait().expect(5);
    assert!(
        fenced.stderr.contains("took the pipeline over"),
        "{}",
        fenced.stderr
    );
    assert!(
        fenced
            .stderr
            .contains("hint: `tagflow status` shows who runs it now")
    );
    assert!(
        second.outlives(Duration::from_millis(500)),
        "it goes on alone"
    );
    second.signal("TERM");
    second.wait().expect(0);
    folder
        .tagflow(&["run", "p.yaml", "--once", "--drain", "--admin", "off"])
        .expect(0);
    assert_holds(&folder, &all);
}

#[test]
fn an_owner_that_has_nothing_to_commit_gives_way() {
    let folder = Folder::new();
    let all = rows(2_000, 9);
    let broker = Broker::new("sales", 2);
    let source = format!(
        "kafka: {{brokers: \"{}\", topics: [sales]}}",
        broker.address()
    );
    folder.write("p.yaml", pipeline(&source));
    broker.send_rows("sales", 2, &all);
    let run = ["run", "p.yaml", "--admin", "off"];
    let first = folder.start(&run);
    eventually("it commits", || {
        (records(&folder, "commit") > 0).then_some(())
    });
    // No row arrives that could show it the takeover.
    let second = folder.start(&TAKE_OVER);
    first.wait().expect(5);
    second.signal("TERM");
    second.wait().expect(0);
    folder
        .tagflow(&["run", "p.yaml", "--once", "--drain", "--admin", "off"])
        .expect(0);
    assert_holds(&folder, &all);
}

/// The number of records of a kind in the log; a record that is being written has another suffix.
fn records(folder: &Folder, kind: &str) -> usize {
    let records = folder.files("state/sales/log", ".json").into_iter();
    let records = records.filter(|path| path.extension().is_some_and(|it| it == "json"));
    let records = records.filter_map(|path| std::fs::read(path).ok());
    let kinds = records.map(|record| {
        let record: serde_json::Value = serde_json::from_slice(&record).unwrap_or_default();
        record["record"]["kind"].clone()
    });
    kinds.filter(|it| it == kind).count()
}

#[test]
fn a_stopped_owner_that_wakes_up_writes_nothing() {
    let folder = Folder::new();
    let all = rows(20_000, 8);
    let broker = Broker::new("sales", 2);
    let source = format!(
        "kafka: {{brokers: \"{}\", topics: [sales]}}",
        broker.address()
    );
    folder.write("p.yaml", pipeline(&source));
    let (early, late) = all.split_at(10_000);
    broker.send_rows("sales", 2, early);

    let zombie = folder.start(&["run", "p.yaml", "--admin", "off"]);
    // A process stopped before that may claim the log once more, and own it rightfully.
    eventually("it commits", || {
        (records(&folder, "commit") > 0).then_some(())
    });
    // It cannot commit the rows that it reads after it wakes up.
    zombie.signal("STOP");
    broker.send_rows("sales", 2, late);
    folder
        .tagflow(&[
            "run",
            "p.yaml",
            "--once",
            "--drain",
            "--admin",
            "off",
            "--take-over",
        ])
        .expect(0);
    // It may be in the middle of writing a file.
    assert_shows(&folder, &all);
    zombie.signal("CONT");
    zombie.wait().expect(5);
    // The next owner deletes the files staged meanwhile.
    folder
        .tagflow(&["run", "p.yaml", "--once", "--drain", "--admin", "off"])
        .expect(0);
    assert_holds(&folder, &all);
}
