//! A pipeline continues when its file is changed while windows are open: existing aggregates keep
//! their counts, new ones count from then on.

use crate::{
    broker::Broker,
    lake::{assert_same, assert_sound, oracle, read},
    process::Folder,
    rows::{Row, rows},
};

/// Rows before the change; windows of a minute are open then.
const BEFORE: usize = 4_000;

const PIPELINE: &str = r#"name: changing
sources:
  events:
    kafka: {brokers: "BROKERS", topics: [sales]}
    format: {json: {}}
    columns: {id: int64, campaign: string, amount: int64, at: timestamp(ms)}
    time: {event_time: at, delay: 5s, idle_after: 5m}
queries:
  minute: |
    SELECT tumble(at, INTERVAL '1 minute') AS "window", campaign, count(*) AS n{query}
    FROM events GROUP BY 1, 2
metrics:
  sliding:
    key: [campaign]
    window: {hop: 60s, every: 20s}
    measures:
      {measures}
sinks:
  per_minute: {from: minute, parquet: {url: ./lake/per_minute, files: {max_open: 0s}}}
  sliding_table: {from: sliding, parquet: {url: ./lake/sliding, files: {max_open: 0s}}}
checkpoint: {every: 100ms, url: ./state}
"#;

const SOLD: &str = "sold: {from: events, agg: sum, arg: amount}";
const REACH: &str = "reach: {from: events, agg: distinct, arg: id}";
const LARGE: &str = "large: {from: events, agg: count, where: amount >= 500}";

fn pipeline(broker: &Broker, query: &str, measures: &[&str]) -> String {
    PIPELINE
        .replace("BROKERS", &broker.address())
        .replace("{query}", query)
        .replace("{measures}", &measures.join("\n      "))
}

#[test]
fn what_is_added_resets_nothing() {
    let all = rows(9_000, 11);
    let broker = Broker::new("sales", 3);
    let folder = Folder::new();
    let run = |more: &[&str]| {
        let args = ["run", "p.yaml", "--once", "--admin", "off"];
        folder.tagflow(&[&args, more].concat()).expect(0);
    };
    folder.write("p.yaml", pipeline(&broker, "", &[SOLD, REACH]));
    broker.send_rows("sales", 3, &all[..BEFORE]);
    run(&[]);

    let query = ", max(amount) AS most";
    folder.write("p.yaml", pipeline(&broker, query, &[LARGE, SOLD]));
    let told = folder.tagflow(&["diff", "p.yaml"]).expect(0).stdout;
    for line in [
        "query    minute         changed",
        "          + max(amount), starts from now",
        "measure  sliding.large  added",
        "measure  sliding.reach  removed",
        "measure  sliding.sold   kept",
    ] {
        assert!(
            told.lines().any(|it| it.starts_with(line)),
            "{line}:\n{told}"
        );
    }
    assert!(!told.contains("--reset"), "{told}");

    broker.send_rows("sales", 3, &all[BEFORE..]);
    // In another folder, and with more lanes.
    run(&["--drain", "--parallelism", "3"]);
    assert_holds(&folder, &all);
    assert_sound(&folder);
}

/// Existing aggregates include all rows. New ones are null in windows that had closed, and include
/// the rows after the change in all others.
fn assert_holds(folder: &Folder, rows: &[Row]) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let oracle = |sql: &str| {
        let sql = sql.replace("AFTER", &format!("(WHERE id >= {BEFORE})"));
        runtime.block_on(oracle(rows, &sql))
    };
    let minutes = oracle(
        "SELECT date_bin(INTERVAL '1 minute', at) AS window_start, campaign, count(*) AS n \
         FROM events GROUP BY 1, 2 ORDER BY 1, 2",
    );
    let ours = "SELECT window_start, campaign, n FROM written ORDER BY 1, 2";
    assert_same("counts", &minutes, &read(folder, "lake/per_minute", ours));
    let most = oracle(
        "SELECT date_bin(INTERVAL '1 minute', at) AS window_start, campaign, \
         max(amount) FILTER AFTER AS most FROM events GROUP BY 1, 2 \
         HAVING count(*) FILTER AFTER > 0 ORDER BY 1, 2",
    );
    let ours = "SELECT window_start, campaign, most FROM written WHERE most IS NOT NULL \
                ORDER BY 1, 2";
    assert_same("what is new", &most, &read(folder, "lake/per_minute", ours));

    let sliding = "SELECT date_bin(INTERVAL '20 seconds', at) - back AS window_start, campaign, \
                   {} FROM events CROSS JOIN (VALUES (INTERVAL '0 seconds'), \
                   (INTERVAL '20 seconds'), (INTERVAL '40 seconds')) AS slides (back) \
                   GROUP BY 1, 2{} ORDER BY 1, 2";
    let of = |columns: &str, having: &str| {
        let sql = sliding.replacen("{}", columns, 1);
        oracle(&sql.replacen("{}", having, 1))
    };
    let ours = "SELECT window_start, campaign, sold FROM written ORDER BY 1, 2";
    let sold = of("sum(amount) AS sold", "");
    assert_same("sums", &sold, &read(folder, "lake/sliding", ours));
    let large = format!("count(*) FILTER (WHERE id >= {BEFORE} AND amount >= 500)");
    let large = of(
        &format!("{large} AS large"),
        &format!(" HAVING {large} > 0"),
    );
    let ours = "SELECT window_start, campaign, large FROM written WHERE large > 0 ORDER BY 1, 2";
    let ours = read(folder, "lake/sliding", ours);
    assert_same("a measure that is new", &large, &ours);
}
