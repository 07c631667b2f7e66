//! A table whose windows are emitted repeatedly contains each window once, for a reader of every
//! row.

use std::time::Duration;

use crate::{
    broker::Broker,
    lake::{assert_same, assert_sound, oracle, written},
    process::Folder,
    rows::{Random, Row, rows},
};

/// The number of parts of the rows. Each part has its own run, which is killed twice before it may
/// finish.
const PARTS: usize = 14;

/// The latest moment of a kill after the start: past the first commits.
const LATEST_MS: u64 = 700;

/// Rows are late by up to two seconds, and the watermark waits for a tenth of a second: windows
/// close, and are emitted again.
const PIPELINE: &str = r#"name: corrected
sources:
  events:
    kafka: {brokers: "BROKERS", topics: [sales]}
    format: {json: {}}
    columns: {id: int64, campaign: string, amount: int64, at: timestamp(ms)}
    time: {event_time: at, delay: 100ms, idle_after: 500ms}
queries:
  tumbling:
    emit: {every: 2s}
    allowed_lateness: 1m
    sql: |
      SELECT tumble(at, INTERVAL '10 seconds') AS "window", campaign,
             count(*) AS n, sum(amount) AS amount, count(DISTINCT id) AS ids
      FROM events GROUP BY 1, 2
  hopping:
    emit: {every: 4s}
    allowed_lateness: 1m
    sql: |
      SELECT hop(at, INTERVAL '10 seconds', INTERVAL '30 seconds') AS "window", campaign,
             count(*) AS n, sum(amount) AS amount
      FROM events GROUP BY 1, 2
  sessions:
    emit: {every: 300ms}
    allowed_lateness: 1m
    sql: |
      SELECT session(at, INTERVAL '1 second') AS "window", campaign,
             count(*) AS n, sum(amount) AS amount
      FROM events GROUP BY 1, 2
sinks:
  tumbled:
    from: tumbling
    parquet: {url: ./lake/tumbled, partition_by: {dt: "date(window_start)"}, sort_by: [campaign], mode: replace_windows, files: {max_open: 0s}}
  hopped:
    from: hopping
    parquet: {url: ./lake/hopped, partition_by: {campaign: campaign}, mode: replace_windows, files: {max_open: 200ms}}
  visits:
    from: sessions
    parquet: {url: ./lake/visits, partition_by: {dt: "date(window_start)"}, mode: replace_windows, files: {max_open: 200ms}}
checkpoint: {every: 100ms, url: ./state}
"#;

const TUMBLED: &str = "\
SELECT window_start, campaign, n, amount, ids FROM written ORDER BY 1, 2";

const TUMBLED_BY_ORACLE: &str = "\
SELECT date_bin(INTERVAL '10 seconds', at) AS window_start, campaign,
       count(*) AS n, sum(amount) AS amount, count(DISTINCT id) AS ids
FROM events GROUP BY 1, 2 ORDER BY 1, 2";

const HOPPED: &str = "SELECT window_start, campaign, n, amount FROM written ORDER BY 1, 2, 3";

const HOPPED_BY_ORACLE: &str = "\
SELECT date_bin(INTERVAL '10 seconds', at) - back AS window_start,
       campaign, count(*) AS n, sum(amount) AS amount
FROM events CROSS JOIN (VALUES (INTERVAL '0 seconds'), (INTERVAL '10 seconds'), (INTERVAL '20 seconds')) AS slides (back)
GROUP BY 1, 2 ORDER BY 1, 2, 3";

/// Sessions begin where more than their gap has passed.
const VISITS: &str = "\
SELECT window_start, window_end, campaign, n, amount FROM written ORDER BY 1, 2, 3";

const VISITS_BY_ORACLE: &str = "\
SELECT min(at) AS window_start, max(at) + INTERVAL '1 second' AS window_end, campaign,
       count(*) AS n, sum(amount) AS amount
FROM (SELECT *, sum(opens) OVER (PARTITION BY campaign ORDER BY at, opens DESC
                                 ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS number
      FROM (SELECT *, CASE WHEN at <= lag(at) OVER (PARTITION BY campaign ORDER BY at)
                                      + INTERVAL '1 second' THEN 0 ELSE 1 END AS opens
            FROM events))
GROUP BY campaign, number ORDER BY 1, 2, 3";

#[test]
fn each_window_is_in_the_table_once_after_any_kill() {
    let mut random = Random(43);
    let all = rows(14_000, 7);
    let broker = Broker::new("sales", 4);
    let folder = Folder::new();
    folder.write("p.yaml", PIPELINE.replace("BROKERS", &broker.address()));
    let (mut kills, mut removals) = (0, 0);
    for (part, rows) in all.chunks(all.len() / PARTS).enumerate() {
        broker.send_rows("sales", 4, rows);
        let drain: &[&str] = if part + 1 < PARTS { &[] } else { &["--drain"] };
        for moment in [
            Some(random.below(LATEST_MS)),
            Some(random.below(LATEST_MS)),
            None,
        ] {
            let lanes = (1 + random.below(3)).to_string();
            let args = [
                "run",
                "p.yaml",
                "--admin",
                "off",
                "--once",
                "--parallelism",
                &lanes,
            ];
            let mut run = folder.start(&[&args, drain].concat());
            if let Some(moment) = moment
                && run.outlives(Duration::from_millis(moment))
            {
                run.signal("KILL");
                kills += u32::from(run.wait().code.is_none());
            } else {
                run.wait().expect(0);
            }
        }
        removals += records_that_remove(&folder);
    }
    println!("{kills} kills, {removals} records that remove files");
    assert!(
        kills > 5 && removals > 5,
        "{kills} kills, {removals} removals"
    );
    assert_holds(&folder, &all);
    assert_sound(&folder);
}

/// The number of remaining records that remove files.
fn records_that_remove(folder: &Folder) -> usize {
    let records = folder.files("state", "/log/");
    let text = records
        .iter()
        .map(|path| std::fs::read_to_string(path).unwrap());
    text.filter(|record| record.contains(r#"{\"remove\":"#))
        .count()
}

#[track_caller]
fn assert_holds(folder: &Folder, rows: &[Row]) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let ask = |(table, by): (&str, &str), ours: &str, theirs: &str| {
        runtime.block_on(async {
            let ours = written(folder, table, by, ours).await;
            (oracle(rows, theirs).await, ours)
        })
    };
    let (expected, ours) = ask(("lake/tumbled", "dt"), TUMBLED, TUMBLED_BY_ORACLE);
    assert_same("tumbling windows", &expected, &ours);
    let (expected, ours) = ask(("lake/hopped", "campaign"), HOPPED, HOPPED_BY_ORACLE);
    assert_same("hopping windows", &expected, &ours);
    let (expected, ours) = ask(("lake/visits", "dt"), VISITS, VISITS_BY_ORACLE);
    assert_same("sessions", &expected, &ours);
    let corrected = "SELECT count(*) > 0 AS some, bool_and(is_final) AS final FROM written \
                     WHERE revision > 0";
    for table in [
        ("lake/tumbled", "dt"),
        ("lake/hopped", "campaign"),
        ("lake/visits", "dt"),
    ] {
        let (expected, ours) = ask(table, corrected, "SELECT true AS some, true AS final");
        assert_same("corrections", &expected, &ours);
    }
    let staged = folder.files("lake", "_staging");
    assert!(staged.is_empty(), "left staged: {staged:?}");
}
