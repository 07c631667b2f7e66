//! Thousands of values fall at once after a long silence, and the process is killed repeatedly
//! meanwhile: each change is emitted once, with its time.

use std::time::Duration;

use crate::{
    broker::Broker,
    lake::{assert_same, oracle, written},
    process::Folder,
    rows::{Random, Row},
};

const USERS: i64 = 12_000;
/// One in three users has a second event.
const EVENTS: i64 = USERS * 4 / 3;
const START_MS: i64 = 1_767_571_200_000;
const SILENCE_MS: i64 = 3 * 86_400_000;

/// The number of kills during the storm, each at most this long after the start.
const KILLS: u64 = 8;
const LATEST_MS: u64 = 1600;

const PIPELINE: &str = r#"name: storm
sources:
  events:
    kafka: {brokers: "BROKERS", topics: [sales]}
    format: {json: {}}
    columns: {id: int64, campaign: string, amount: int64, at: timestamp(ms)}
    time: {event_time: at, delay: 1s, idle_after: 500ms}
tags:
  from: events
  key: campaign
  event_id: id
  define:
    n: {agg: count, windows: [1d], exact: true}
    quiet: {absence: {after: amount >= 0, expect: amount < 0, within: 2d, again: restart}}
segments:
  active: {when: n_1d > 0}
sinks:
  changes: {from: tags.changes, parquet: {url: ./lake/changes, partition_by: {tag_name: tag}}}
  moves: {from: segments.changes, parquet: {url: ./lake/moves, partition_by: {to: op}}}
  profile: {from: tags.current, parquet: {url: ./lake/profile, mode: snapshot, every: 1h, buckets: 4}}
checkpoint: {every: 100ms, url: ./state}
"#;

/// From the definition of the tags: an event counts for a day, and all users are quiet two days
/// after their last event.
const CHANGES: &str = "\
WITH placed AS (
  SELECT campaign, at, row_number() OVER (PARTITION BY campaign ORDER BY at, id) AS place,
         count(*) OVER (PARTITION BY campaign) AS n
  FROM events WHERE campaign <> 'last')
SELECT campaign, 'n_1d' AS tag, cast(place AS VARCHAR) AS new, at AS effective_at, 'event' AS cause FROM placed
UNION ALL
SELECT campaign, 'n_1d', cast(n - place AS VARCHAR), at + INTERVAL '1 day', 'expiry' FROM placed
UNION ALL
SELECT campaign, 'quiet', 'true', at + INTERVAL '2 days', 'absence' FROM placed WHERE place = n
ORDER BY 1, 2, 4";

const WRITTEN_CHANGES: &str = "\
SELECT campaign, tag, new, effective_at, cause FROM written WHERE campaign <> 'last' ORDER BY 1, 2, 4";

const MOVES: &str = "\
SELECT campaign, 'entered' AS op, min(at) AS effective_at FROM events WHERE campaign <> 'last' GROUP BY 1
UNION ALL
SELECT campaign, 'left', max(at) + INTERVAL '1 day' FROM events WHERE campaign <> 'last' GROUP BY 1
ORDER BY 1, 2";

const WRITTEN_MOVES: &str = "\
SELECT campaign, op, effective_at FROM written WHERE campaign <> 'last' ORDER BY 1, 2";

const PROFILE: &str = "\
SELECT campaign, cast(0 AS BIGINT) AS n_1d, true AS quiet FROM events WHERE campaign <> 'last'
GROUP BY 1 ORDER BY 1";

const WRITTEN_PROFILE: &str = "SELECT campaign, n_1d, quiet FROM written ORDER BY 1";

#[test]
fn an_expiry_storm_that_is_killed_tells_of_each_change_once() {
    let event = |id: i64| Row {
        id,
        campaign: format!("u{}", id * 7_919 % USERS),
        amount: id,
        at_ms: START_MS + id * 100,
    };
    let mut all: Vec<Row> = (0..EVENTS).map(event).collect();
    let broker = Broker::new("sales", 4);
    let folder = Folder::new();
    folder.write("p.yaml", PIPELINE.replace("BROKERS", &broker.address()));
    let run = ["run", "p.yaml", "--once", "--admin", "off"];
    broker.send_rows("sales", 4, &all);
    folder.tagflow(&run).expect(0);

    // Then no rows for days, and one event in each partition.
    let last = |partition: i64| Row {
        id: EVENTS + partition,
        campaign: "last".into(),
        amount: -1,
        at_ms: START_MS + EVENTS * 100 + SILENCE_MS,
    };
    let last: Vec<Row> = (0..4).map(last).collect();
    broker.send_rows("sales", 4, &last);
    all.extend(last);
    // The first kills hit however fast the machine is, the later ones during the storm.
    let (mut random, mut kills) = (Random(53), 0);
    for attempt in 1..=KILLS {
        let lanes = (1 + random.below(3)).to_string();
        let mut running = folder.start(&[&run[..], &["--parallelism", &lanes]].concat());
        let latest_ms = LATEST_MS * attempt / KILLS;
        if running.outlives(Duration::from_millis(random.below(latest_ms))) {
            running.signal("KILL");
        }
        kills += u32::from(running.wait().code.is_none());
    }
    folder.tagflow(&run).expect(0);
    assert!(kills >= 2, "{kills} kills");

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    for (what, table, by, expected, found) in [
        (
            "changes",
            "lake/changes",
            "tag_name",
            CHANGES,
            WRITTEN_CHANGES,
        ),
        ("moves", "lake/moves", "to", MOVES, WRITTEN_MOVES),
        (
            "profile",
            "lake/profile",
            "bucket",
            PROFILE,
            WRITTEN_PROFILE,
        ),
    ] {
        let expected = runtime.block_on(oracle(&all, expected));
        let found = runtime.block_on(written(&folder, table, by, found));
        assert_same(what, &expected, &found);
    }
}
