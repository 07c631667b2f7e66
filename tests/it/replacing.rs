//! A table whose windows are replaced contains each window once, also if its sink is reset or its
//! owner is fenced.

use crate::{
    broker::Broker,
    lake::{assert_same, assert_sound, oracle, written},
    process::{Folder, eventually},
    rows::{Row, ndjson, rows},
};

const PIPELINE: &str = r#"name: corrected
sources:
  events:
    SOURCE
    format: {json: {}}
    columns: {id: int64, campaign: string, amount: int64, at: timestamp(ms)}
    time: {event_time: at, delay: 5s, idle_after: 500ms}
queries:
  windows:
    allowed_lateness: 1h
    sql: |
      SELECT tumble(at, INTERVAL '10 seconds') AS "window", campaign, count(*) AS n,
             sum(amount) AS amount
      FROM events GROUP BY 1, 2
sinks:
  table:
    from: windows
    parquet: {url: ./lake/table, partition_by: {dt: "date(window_start)"}, mode: replace_windows, files: {max_open: 0s}}
checkpoint: {every: 100ms, url: ./state}
"#;

const RUN: [&str; 6] = ["run", "p.yaml", "--once", "--drain", "--admin", "off"];

/// Panics unless the table holds each window of `rows` once.
#[track_caller]
fn assert_holds(folder: &Folder, by: &str, rows: &[Row]) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let (expected, ours) = runtime.block_on(async {
        let ours = "SELECT window_start, campaign, n, amount FROM written ORDER BY 1, 2";
        let theirs = "\
            SELECT date_bin(INTERVAL '10 seconds', at) AS window_start, campaign, \
                   count(*) AS n, sum(amount) AS amount \
            FROM events GROUP BY 1, 2 ORDER BY 1, 2";
        let ours = written(folder, "lake/table", by, ours).await;
        (oracle(rows, theirs).await, ours)
    });
    assert_same("windows", &expected, &ours);
}

/// The rows of each other id, and the rest: of the same windows.
fn halves(all: &[Row]) -> (Vec<Row>, Vec<Row>) {
    all.iter().cloned().partition(|row| row.id % 2 == 0)
}

#[test]
fn regression_a_replacing_sink_is_not_reset_without_its_source() {
    let folder = Folder::new();
    let all = rows(2000, 31);
    let (early, late) = halves(&all);
    let pipeline = PIPELINE.replace("SOURCE", "files: {url: './in/*.ndjson'}");
    folder.write("in/a.ndjson", ndjson(&early));
    folder.write("p.yaml", &pipeline);
    folder.tagflow(&RUN).expect(0);
    assert_holds(&folder, "dt", &early);

    // The late rows correct windows whose files the sink would not know any more.
    folder.write("in/b.ndjson", ndjson(&late));
    let advice = "--reset events --replace-tables";
    for flags in [
        &["--reset", "table"][..],
        &["--reset", "table", "--replace-tables"],
    ] {
        let said = folder.tagflow(&[&RUN[..], flags].concat()).expect(2).stderr;
        assert!(said.contains("these rows would be there twice"), "{said}");
        assert!(said.contains(advice), "{said}");
    }
    assert_holds(&folder, "dt", &early);

    // The advice for a changed sink is not to reset it alone either.
    let changed = pipeline.replace("{dt: \"date(window_start)\"}", "{campaign: campaign}");
    folder.write("p.yaml", changed);
    let said = folder.tagflow(&RUN).expect(2).stderr;
    assert!(said.contains("`table` has changed"), "{said}");
    assert!(said.contains(advice), "{said}");
    assert!(!said.contains("--reset table"), "{said}");
    let said = folder.tagflow(&["diff", "p.yaml"]).expect(0).stdout;
    let command = format!("tagflow run p.yaml {advice}\n");
    assert!(said.ends_with(&command), "{said}");

    let rewrite = ["--reset", "events", "--replace-tables"];
    folder.tagflow(&[&RUN[..], &rewrite].concat()).expect(0);
    assert_holds(&folder, "campaign", &all);
    assert_sound(&folder);
}

/// The owner wakes up when its successor has replaced the files that it would replace.
#[test]
fn regression_a_stopped_owner_of_replaced_windows_says_who_has_the_pipeline() {
    let folder = Folder::new();
    let (early, late) = {
        let all = rows(4000, 32);
        halves(&all)
    };
    let broker = Broker::new("sales", 2);
    let source = format!(
        "kafka: {{brokers: \"{}\", topics: [sales]}}",
        broker.address()
    );
    folder.write("p.yaml", PIPELINE.replace("SOURCE", &source));
    broker.send_rows("sales", 2, &early);
    let zombie = folder.start(&["run", "p.yaml", "--admin", "off"]);
    eventually("its windows are in the table", || {
        (!folder.files("lake/table", "dt=").is_empty()).then_some(())
    });
    zombie.signal("STOP");
    broker.send_rows("sales", 2, &late);
    folder
        .tagflow(&[&RUN[..], &["--take-over"]].concat())
        .expect(0);
    zombie.signal("CONT");
    let fenced = zombie.wait().expect(5);
    let said = &fenced.stderr;
    assert!(said.contains("took the pipeline over"), "{said}");
    assert!(!said.contains("--reset"), "advice that doubles: {said}");
    folder.tagflow(&RUN).expect(0);
    let all = [early, late].concat();
    assert_holds(&folder, "dt", &all);
    assert_sound(&folder);
}
