//! The newest profile of all users is in its table, once and whole, after any kill.

use std::time::Duration;

use crate::{
    broker::Broker,
    lake::{assert_same, assert_sound, oracle, written},
    process::Folder,
    rows::{Random, rows},
};

/// In how many parts the rows come, each to a run of its own that is killed twice
/// before one comes to its end.
const PARTS: usize = 6;

/// The latest moment of a kill after the start: past the first commits.
const LATEST_MS: u64 = 700;

const PIPELINE: &str = r#"name: tagged
sources:
  events:
    kafka: {brokers: "BROKERS", topics: [sales]}
    format: {json: {}}
    columns: {id: int64, campaign: string, amount: int64, at: timestamp(ms)}
    time: {event_time: at, delay: 3s, idle_after: 500ms}
tags:
  from: events
  key: campaign
  event_id: id
  define:
    n: {agg: count, windows: [30s, lifetime], exact: true}
    amount: {agg: sum, arg: amount, windows: [10s], exact: true}
segments:
  large: {when: n_30s > 20}
sinks:
  profile: {from: tags.current, parquet: {url: ./lake/profile, mode: snapshot, every: 1s, buckets: 4}}
checkpoint: {every: 100ms, url: ./state}
"#;

const PROFILE: &str = "\
SELECT campaign, n_30s, n_lifetime, amount_10s, segments[1] AS segment FROM written ORDER BY 1";

/// As of a time.
const BY_ORACLE: &str = "\
SELECT campaign, count(*) FILTER (WHERE at > AS_OF - INTERVAL '30 seconds') AS n_30s,
       count(*) AS n_lifetime,
       coalesce(sum(amount) FILTER (WHERE at > AS_OF - INTERVAL '10 seconds'), 0) AS amount_10s,
       CASE WHEN count(*) FILTER (WHERE at > AS_OF - INTERVAL '30 seconds') > 20 THEN 'large' END AS segment
FROM events WHERE at <= AS_OF GROUP BY 1 ORDER BY 1";

#[test]
fn the_newest_profile_is_there_once_after_any_kill() {
    let mut random = Random(47);
    let all = rows(6_000, 7);
    let broker = Broker::new("sales", 4);
    let folder = Folder::new();
    folder.write("p.yaml", PIPELINE.replace("BROKERS", &broker.address()));
    let mut kills = 0;
    for rows in all.chunks(all.len() / PARTS) {
        broker.send_rows("sales", 4, rows);
        for moment in [
            Some(random.below(LATEST_MS)),
            Some(random.below(LATEST_MS)),
            None,
        ] {
            let lanes = (1 + random.below(3)).to_string();
            let mut run = folder.start(&[
                "run",
                "p.yaml",
                "--admin",
                "off",
                "--once",
                "--parallelism",
                &lanes,
            ]);
            if let Some(moment) = moment
                && run.outlives(Duration::from_millis(moment))
            {
                run.signal("KILL");
                kills += u32::from(run.wait().code.is_none());
            } else {
                run.wait().expect(0);
            }
        }
        assert_newest(&folder, &all);
        assert_sound(&folder);
    }
    assert!(kills > 2, "{kills} kills");
}

/// The profile is that of one time, and right as of then: rows that come later do
/// not matter to it.
fn assert_newest(folder: &Folder, rows: &[crate::rows::Row]) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let ask = |sql: &str| runtime.block_on(written(folder, "lake/profile", "bucket", sql));
    let times = ask("SELECT DISTINCT as_of FROM written");
    let times: Vec<&str> = times.lines().filter(|line| line.contains("20")).collect();
    let [time] = times[..] else {
        panic!("not one time: {times:?}");
    };
    let time = format!("TIMESTAMP '{}'", time.trim_matches(['|', ' ']));
    let expected = runtime.block_on(oracle(rows, &BY_ORACLE.replace("AS_OF", &time)));
    assert_same(&format!("profiles as of {time}"), &expected, &ask(PROFILE));
    let staged = folder.files("lake", "_staging");
    assert!(staged.is_empty(), "left staged: {staged:?}");
}
