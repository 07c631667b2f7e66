//! After any kill, the table contains the newest profile of all users, once and complete.

use std::time::Duration;

use crate::{
    broker::Broker,
    lake::{assert_same, assert_sound, oracle, written},
    process::Folder,
    rows::{Random, rows},
};

/// The number of parts of the rows. Each part has its own run, which is killed twice before it may
/// finish.
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

/// As of a given time.
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

/// The profile is from one time, and correct for it: later rows do not affect it.
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

const AT_THE_END: &str = r"name: ended
sources:
  events:
    files: {url: ./in.ndjson}
    format: {json: {}}
    columns: {u: string, at: timestamp(rfc3339)}
    time: {event_time: at, delay: 5s}
tags:
  from: events
  key: u
  define:
    n: {agg: count, windows: [30d]}
    last_at: {agg: last, arg: at}
    days: {time_since: last_at, unit: d}
segments:
  active: {when: n_30d >= 1}
sinks:
  profile: {from: tags.current, parquet: {url: ./lake/profile, mode: snapshot, every: 15m}}
  kept: {from: tags.current, parquet: {url: ./lake/kept, every: 30d}}
  changes: {from: tags.changes, parquet: {url: ./lake/changes}}
";

#[test]
fn regression_the_last_profile_is_as_of_the_last_event() {
    let ends = |seconds: u32| {
        let folder = Folder::new();
        let rows = [
            ("u1", "2026-01-05T12:00:00Z".to_owned()),
            ("u2", "2026-03-10T12:00:00Z".to_owned()),
            ("u3", format!("2026-03-10T12:00:{seconds:02}Z")),
        ];
        let rows = rows.map(|(u, at)| format!("{{\"u\":\"{u}\",\"at\":\"{at}\"}}\n"));
        folder.write("in.ndjson", rows.concat());
        folder.write("p.yaml", AT_THE_END);
        folder
    };
    for (seconds, lanes) in [(1, "1"), (10, "1"), (1, "4"), (10, "4")] {
        let folder = ends(seconds);
        let run = ["run", "p.yaml", "--admin", "off", "--parallelism", lanes];
        folder.tagflow(&run).expect(0);
        let sql = "select u, as_of, n_30d, days, segments[1] as segment from profile order by u";
        let args = ["query", sql, "--file", "p.yaml", "--format", "csv"];
        let expected = format!(
            "u,as_of,n_30d,days,segment\n\
             u1,2026-03-10T12:00:{seconds:02}Z,0,64,\n\
             u2,2026-03-10T12:00:{seconds:02}Z,1,0,active\n\
             u3,2026-03-10T12:00:{seconds:02}Z,1,0,active\n"
        );
        assert_eq!(folder.tagflow(&args).expect(0).stdout, expected);
        let get = ["tags", "get", "u1", "--file", "p.yaml", "--json"];
        let known = folder.tagflow(&get).expect(0).stdout;
        let known: serde_json::Value = serde_json::from_str(&known).unwrap();
        assert_eq!(known["as_of"], format!("2026-03-10T12:00:{seconds:02}Z"));
        assert_eq!(known["tags"]["days"]["value"], 64);
        assert_eq!(known["tags"]["n_30d"]["value"], 0);
    }
}
