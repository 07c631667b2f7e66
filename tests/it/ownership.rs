//! The log that a table belongs to, and the process that may run a pipeline.

use std::{
    fs,
    time::{Duration, Instant},
};

use crate::{
    lake::{assert_holds, assert_shows},
    process::{Folder, eventually},
    rows::{ndjson, pipeline, rows},
};

const RUN: [&str; 4] = ["run", "p.yaml", "--admin", "off"];

/// A pipeline that does not end by itself.
const ENDLESS: &str = "\
name: endless
sources: {events: {generator: {rate: 500}}}
queries:
  minute: SELECT tumble(occurred_at, INTERVAL '1 minute') AS w, campaign_id, count(*) AS n FROM events GROUP BY 1, 2
sinks: {out: {from: minute, parquet: {url: ./lake/out}}}
checkpoint: {every: 100ms, url: ./state}
";

#[test]
fn regression_a_lost_state_folder_is_refused_over_a_full_table() {
    let folder = Folder::new();
    let all = rows(500, 3);
    folder.write("in.ndjson", ndjson(&all));
    folder.write("p.yaml", pipeline("files: {url: ./in.ndjson}"));
    folder.tagflow(&RUN).expect(0);
    fs::rename(folder.path("state"), folder.path("lost")).unwrap();
    let said = folder.tagflow(&RUN).expect(2).stderr;
    assert!(said.contains("belongs to another commit log"), "{said}");
    assert!(said.contains("shared: true"), "{said}");
    assert_shows(&folder, &all);
    // With its state restored, it continues; and so do two states that share the tables.
    let _ = fs::remove_dir_all(folder.path("state"));
    fs::rename(folder.path("lost"), folder.path("state")).unwrap();
    folder.tagflow(&RUN).expect(0);
    assert_holds(&folder, &all);
    let shared = pipeline("files: {url: ./in.ndjson}")
        .replace("url: ./lake/", "shared: true, url: ./lake/")
        .replace("./state", "./other");
    folder.write("q.yaml", shared);
    folder
        .tagflow(&["run", "q.yaml", "--admin", "off"])
        .expect(0);
    let said = folder
        .tagflow(&["audit", "--file", "q.yaml"])
        .expect(0)
        .stdout;
    assert!(!said.contains("WRONG"), "{said}");
}

#[test]
fn regression_a_run_that_cannot_start_leaves_the_one_that_runs_alone() {
    let folder = Folder::new();
    folder.write("p.yaml", ENDLESS);
    folder.write("wrong.yaml", ENDLESS.replace("campaign_id", "user_id"));
    let mut running = folder.start(&RUN);
    eventually("it commits", || {
        let records = folder.files("state/endless/log", ".json");
        (records.len() > 3).then_some(())
    });
    let wrong = ["run", "wrong.yaml", "--admin", "off"];
    let said = folder.tagflow(&wrong).expect(2).stderr;
    assert!(said.contains("`minute` has changed"), "{said}");
    assert!(running.outlives(Duration::from_millis(500)), "it goes on");
    running.signal("TERM");
    running.wait().expect(0);
}

#[test]
fn regression_a_second_run_is_refused_and_the_first_goes_on() {
    let folder = Folder::new();
    folder.write("p.yaml", ENDLESS);
    let mut running = folder.start(&RUN);
    eventually("it commits", || {
        let records = folder.files("state/endless/log", ".json");
        (records.len() > 3).then_some(())
    });
    let said = folder.tagflow(&RUN).expect(5).stderr;
    assert!(said.contains("may run this pipeline; watching"), "{said}");
    assert!(said.contains("runs this pipeline; stop that one"), "{said}");
    assert!(said.contains("`--take-over`"), "{said}");
    assert!(running.outlives(Duration::from_millis(300)), "it goes on");
    // After a crash the next one starts at once.
    running.signal("KILL");
    running.wait();
    let begun = Instant::now();
    let next = folder.start(&RUN);
    eventually("the next one commits", || {
        let log = folder.files("state/endless/log", ".json");
        let claims = log.iter().filter_map(|path| fs::read_to_string(path).ok());
        (claims
            .filter(|text| text.contains(r#""kind":"claim""#))
            .count()
            == 2)
            .then_some(())
    });
    assert!(begun.elapsed() < Duration::from_secs(8), "it waited");
    next.signal("TERM");
    next.wait().expect(0);
    assert!(folder.files("state/endless/alive", "").is_empty());
}

#[test]
fn regression_a_column_that_loses_its_question_mark_is_named() {
    let folder = Folder::new();
    let text = ENDLESS.replace(
        "sources: {events: {generator: {rate: 500}}}",
        "sources: {events: {files: {url: \"./in/*\"}, format: {json: {}}, columns: {campaign_id: \
         'string?', occurred_at: timestamp(ms)}, time: {event_time: occurred_at}}, other: \
         {generator: {rate: 50}}}",
    );
    let text = text.replace("sinks: {", "sinks: {unused: {from: other, blackhole: {}}, ");
    folder.write("in/a.ndjson", "{\"occurred_at\": 1767571200000}\n");
    folder.write("p.yaml", &text);
    let running = folder.start(&RUN);
    eventually("it commits", || {
        let records = folder.files("state/endless/log", ".json");
        (records.len() > 4).then_some(())
    });
    running.signal("KILL");
    running.wait();
    folder.write("p.yaml", text.replace("'string?'", "string"));
    let said = folder.tagflow(&["diff", "p.yaml"]).expect(0).stdout;
    assert!(said.contains("- nulls in `events.campaign_id`"), "{said}");
    assert!(said.contains("--reset minute"), "{said}");
    let said = folder.tagflow(&RUN).expect(2).stderr;
    assert!(
        said.contains("column `campaign_id` of source `events` had a `?`"),
        "{said}"
    );
    let next = folder.start(&[&RUN[..], &["--reset", "minute"]].concat());
    let last = || folder.files("state/endless/log", ".json").pop();
    let before = last();
    eventually("it goes on", || {
        let text = fs::read_to_string(last()?).ok()?;
        (last() > before && text.contains(r#""kind":"commit""#)).then_some(())
    });
    next.signal("TERM");
    next.wait().expect(0);
}

#[test]
fn regression_an_unknown_name_is_not_reset() {
    let folder = Folder::new();
    folder.write("in.ndjson", ndjson(&rows(500, 3)));
    folder.write("p.yaml", pipeline("files: {url: ./in.ndjson}"));
    folder.tagflow(&RUN).expect(0);
    let said = folder
        .tagflow(&[&RUN[..], &["--reset", "minut"]].concat())
        .expect(2)
        .stderr;
    assert_eq!(
        said,
        "error: there is nothing to reset that is called `minut`; did you mean `minute`?\n"
    );
}

#[test]
fn regression_a_source_that_is_read_again_counts_once() {
    let folder = Folder::new();
    let all = rows(3_000, 3);
    folder.write("in.ndjson", ndjson(&all));
    folder.write("p.yaml", pipeline("files: {url: ./in.ndjson}"));
    folder.tagflow(&RUN).expect(0);
    let replay = [&RUN[..], &["--reset", "events"]].concat();
    let said = folder.tagflow(&replay).expect(2).stderr;
    for part in [
        "`every_row` (",
        "`per_minute` (",
        "--reset events --replace-tables",
    ] {
        assert!(said.contains(part), "no {part} in {said}");
    }
    assert_holds(&folder, &all);
    let replay = [&replay[..], &["--replace-tables"]].concat();
    for moment in [0, 100, 200, 300, 500, 700, 60_000] {
        // A kill before its first commit leaves no effect, a kill after it the whole effect.
        let mut run = folder.start(&replay);
        if run.outlives(Duration::from_millis(moment)) {
            run.signal("KILL");
        }
        run.wait();
        folder.tagflow(&RUN).expect(0);
        assert_holds(&folder, &all);
    }

    // A removed file that exists again is reported, and a repair deletes it.
    let records = folder.files("state/sales/log", ".json").into_iter();
    let records = records.filter_map(|path| fs::read(path).ok());
    let mut removed = records.filter_map(|record| {
        let record: serde_json::Value = serde_json::from_slice(&record).ok()?;
        let output = record["record"]["outbox"]["./lake/every_row"].as_array()?;
        let mut changes = output.iter().filter_map(|it| {
            let content = it["content"].as_str()?;
            serde_json::from_str::<serde_json::Value>(content).ok()
        });
        changes.find_map(|it| Some(it["remove"]["final"].as_str()?.to_owned()))
    });
    let back = removed.next_back().expect("the last commits removed files");
    folder.write(&format!("lake/every_row/{back}"), "PAR1");
    let audit = ["audit", "--file", "p.yaml"];
    let said = folder.tagflow(&audit).expect(3).stdout;
    assert!(said.contains("`audit --repair` deletes it"), "{said}");
    let repair = [&audit[..], &["--repair"]].concat();
    let said = folder.tagflow(&repair).expect(0).stderr;
    assert_eq!(said, "deleted 1 file that commits had removed\n");
    assert!(!folder.path("lake/every_row").join(back).exists());
    assert_holds(&folder, &all);
}
