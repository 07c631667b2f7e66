//! `status`, the admin endpoint, and `query`.

use crate::{
    broker::Broker,
    process::{Folder, eventually},
    rows::{ndjson, pipeline, rows},
};

/// A new state folder.
#[test]
fn nothing_has_run() {
    let folder = Folder::new();
    let ended = folder.tagflow(&["status"]).expect(0);
    assert_eq!(
        ended.stdout,
        "no pipeline has run with its state in `./.tagflow`\n"
    );
    assert!(!folder.path(".tagflow").exists(), "looking creates nothing");
    let ended = folder.tagflow(&["status", "sales"]).expect(2);
    assert_eq!(
        ended.stderr,
        "error: pipeline `sales` has not run with its state in `./.tagflow`\n"
    );
    let ended = folder.tagflow(&["status", "p.yaml"]).expect(2);
    assert_eq!(
        ended.stderr,
        "error: pipeline `p.yaml` has not run with its state in `./.tagflow`; a pipeline goes by \
         the `name` in its file\n"
    );
}

#[test]
fn a_live_pipeline_is_shown_live_and_a_stopped_one_by_its_last_commit() {
    let folder = Folder::new();
    let all = rows(5000, 11);
    let broker = Broker::new("sales", 2);
    broker.send_rows("sales", 2, &all);
    let source = format!(
        "kafka: {{brokers: \"{}\", topics: [sales]}}",
        broker.address()
    );
    folder.write("p.yaml", pipeline(&source));
    let running = folder.start(&["run", "p.yaml"]);
    let status = || {
        folder
            .tagflow(&["status", "--state", "state", "--json"])
            .stdout
    };
    let rows = |text: &str| -> serde_json::Value { serde_json::from_str(text).unwrap() };
    // The lag is known once the client has reported the end of the topic.
    let live = eventually("all rows are committed and the lag is known", || {
        let found = status();
        let found = found.starts_with('[').then(|| rows(&found))?;
        let is_told = found[0]["totals"]["in"] == 5000 && !found[0]["lag_rows"].is_null();
        is_told.then_some(found)
    });
    let row = &live[0];
    assert_eq!(row["pipeline"], "sales");
    assert_eq!(row["state"], "running");
    assert_eq!(row["lag_rows"], 0);
    assert_eq!(row["owner"]["pid"], running.pid());
    let table = folder
        .tagflow(&["status", "sales", "--state", "state"])
        .expect(0)
        .stdout;
    let mut lines = table.lines();
    let header: Vec<_> = lines.next().unwrap().split_whitespace().collect();
    assert_eq!(header[..4], ["PIPELINE", "STATE", "IN/s", "LAG"]);
    assert!(
        lines.next().unwrap().starts_with("sales     running  "),
        "{table}"
    );

    running.signal("KILL");
    running.wait();
    let dead = rows(&status());
    assert_eq!(dead[0]["state"], "dead");
    let message = dead[0]["message"].as_str().unwrap();
    assert!(message.contains("ended without a stop"), "{message}");

    let run = ["run", "p.yaml", "--once", "--admin", "off"];
    folder.tagflow(&run).expect(0);
    let stopped = rows(&status());
    assert_eq!(stopped[0]["state"], "stopped");
    assert_eq!(stopped[0]["totals"]["in"], 5000);
    assert!(stopped[0]["rows_in_per_s"].is_null());
}

#[test]
fn a_pipeline_without_an_endpoint_is_shown_by_its_commits() {
    let folder = Folder::new();
    let broker = Broker::new("sales", 1);
    broker.send_rows("sales", 1, &rows(1000, 13));
    let source = format!(
        "kafka: {{brokers: \"{}\", topics: [sales]}}",
        broker.address()
    );
    folder.write("p.yaml", pipeline(&source));
    let running = folder.start(&["run", "p.yaml", "--admin", "off"]);
    let shown = eventually("its rows are committed", || {
        let shown = folder.tagflow(&["status", "--state", "state"]).stdout;
        shown.contains("  #").then_some(shown)
    });
    let mut lines = shown.lines().skip(1);
    let row = lines.next().unwrap();
    assert!(row.starts_with("sales     unreachable  "), "{shown}");
    assert!(row.contains("  #"), "{shown}");
    let message = lines.next().unwrap();
    let process = format!(
        "` (process {}), started with `--admin off`; last sign of life ",
        running.pid()
    );
    assert!(message.starts_with("  running on `"), "{shown}");
    assert!(message.contains(&process), "{shown}");
    running.signal("INT");
    running.wait().expect(0);
    let shown = folder.tagflow(&["status", "--state", "state"]).stdout;
    assert!(shown.contains("stopped"), "{shown}");
}

#[test]
fn tables_are_asked_by_the_names_of_their_sinks() {
    let folder = Folder::new();
    let all = rows(5000, 12);
    folder.write("in.ndjson", ndjson(&all));
    folder.write("p.yaml", pipeline("files: {url: ./in.ndjson}"));
    folder
        .tagflow(&["run", "p.yaml", "--admin", "off"])
        .expect(0);
    let ask = |sql: &str, more: &[&str]| {
        let args = [&["query", sql, "--format", "csv"], more].concat();
        folder.tagflow(&args).expect(0).stdout
    };
    let total: i64 = all.iter().map(|row| row.amount).sum();
    let sql = "select sum(n) as n, sum(amount) as amount from per_minute";
    let expected = format!("n,amount\n5000,{total}\n");
    assert_eq!(ask(sql, &["--state", "state"]), expected);
    assert_eq!(ask(sql, &["--file", "p.yaml"]), expected);
    let by_day = "select dt, count(*) > 0 as some from per_minute group by 1 order by 1";
    assert_eq!(
        ask(by_day, &["--state", "state"]),
        "dt,some\n2026-01-05,true\n2026-01-06,true\n"
    );
    let place = "select count(*) as n from './lake/every_row/**/*.parquet'";
    assert_eq!(ask(place, &[]), "n\n5000\n");
    let none = folder
        .tagflow(&["query", "select * from per_day", "--state", "state"])
        .expect(2);
    assert_eq!(
        none.stderr,
        "error: there is no table `per_day`; there are dead_letters, every_row, late, per_minute\n"
    );
}
