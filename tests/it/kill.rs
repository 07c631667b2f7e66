//! `kill -9` at random moments, repeatedly: in the end the tables contain every row once.

use std::{env, time::Duration};

use crate::{
    broker::Broker,
    lake::assert_holds,
    process::Folder,
    rows::{Random, ndjson, on_s3, pipeline, rows},
    s3::S3,
};

/// The fewest kills of each test: a third of 200, or of the number in the environment.
fn kills() -> u32 {
    let all = env::var("TAGFLOW_KILLS").ok();
    let all: u32 = all.map_or(200, |kills| kills.parse().unwrap());
    all.div_ceil(3)
}

/// The most kills of a pipeline; then a run may finish, because a test must end.
const KILLS_OF_ONE: u32 = 20;

/// The latest moment of a kill after the start: past the first commits.
const LATEST_MS: u64 = 1000;

/// Enough rows for several epochs.
const ROWS: i64 = 10_000;

#[test]
fn a_killed_run_over_files_loses_and_doubles_nothing() {
    let mut random = Random(41);
    let (mut kills, enough) = (0, kills());
    while kills < enough {
        let folder = Folder::new();
        let all = rows(ROWS, random.below(1000));
        for (file, part) in all.chunks(2_500).enumerate() {
            folder.write(&format!("in/{file}.ndjson"), ndjson(part));
        }
        folder.write("p.yaml", pipeline("files: {url: \"./in/*.ndjson\"}"));
        kills += kill_until_done(&folder, &["run", "p.yaml", "--admin", "off"], &mut random);
        assert_holds(&folder, &all);
    }
}

#[test]
fn a_killed_run_over_kafka_loses_and_doubles_nothing() {
    let mut random = Random(42);
    let (mut kills, enough) = (0, kills());
    while kills < enough {
        let folder = Folder::new();
        let all = rows(ROWS, random.below(1000));
        let broker = Broker::new("sales", 4);
        broker.send_rows("sales", 4, &all);
        let source = format!(
            "kafka: {{brokers: \"{}\", topics: [sales]}}",
            broker.address()
        );
        folder.write("p.yaml", pipeline(&source));
        let run = ["run", "p.yaml", "--once", "--drain", "--admin", "off"];
        kills += kill_until_done(&folder, &run, &mut random);
        assert_holds(&folder, &all);
    }
}

#[test]
fn a_killed_run_over_s3_loses_and_doubles_nothing() {
    let mut random = Random(43);
    let (mut kills, enough) = (0, kills());
    while kills < enough {
        let mut folder = Folder::new();
        let _store = S3::serving(&mut folder);
        let all = rows(ROWS, random.below(1000));
        for (file, part) in all.chunks(2_500).enumerate() {
            folder.write(&format!("in/{file}.ndjson"), ndjson(part));
        }
        folder.write(
            "p.yaml",
            on_s3(&pipeline("files: {url: \"./in/*.ndjson\"}")),
        );
        kills += kill_until_done(&folder, &["run", "p.yaml", "--admin", "off"], &mut random);
        assert_holds(&folder, &all);
    }
}

/// Starts the run and kills it, until a run ends before its kill.
fn kill_until_done(folder: &Folder, args: &[&str], random: &mut Random) -> u32 {
    let mut kills = 0;
    loop {
        let moment = if kills < KILLS_OF_ONE {
            random.below(LATEST_MS)
        } else {
            60_000
        };
        let parallelism = (1 + random.below(3)).to_string();
        let args = [args, &["--parallelism", &parallelism]].concat();
        let mut run = folder.start(&args);
        if run.outlives(Duration::from_millis(moment)) {
            run.signal("KILL");
        }
        let ended = run.wait();
        if ended.code.is_some() {
            // It ended just before its kill.
            ended.expect(0);
            return kills;
        }
        kills += 1;
    }
}
