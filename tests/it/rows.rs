//! The rows of the tests: out of order, but always by less than the pipelines' `delay`. So none is
//! late and a batch query gives the same answer.

use std::{fmt::Write as _, sync::Arc};

use arrow::{
    array::{Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray},
    datatypes::{DataType, Field, Schema, TimeUnit},
};

/// One row.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) id: i64,
    pub(crate) campaign: String,
    pub(crate) amount: i64,
    /// Milliseconds since 1970.
    pub(crate) at_ms: i64,
}

/// 2026-01-05T23:59:00Z: the rows soon reach the next day.
const START_MS: i64 = 1_767_657_540_000;

/// `count` rows, 20 ms apart, up to 2 s out of order.
pub(crate) fn rows(count: i64, seed: u64) -> Vec<Row> {
    rows_from(0, count, seed)
}

/// The same, with ids and times that continue those of `first` rows.
pub(crate) fn rows_from(first: i64, count: i64, seed: u64) -> Vec<Row> {
    let mut random = Random(seed);
    (first..first + count)
        .map(|id| Row {
            id,
            campaign: format!("c{}", random.below(20)),
            amount: random.below(1000) as i64,
            at_ms: START_MS + id * 20 - random.below(2000) as i64,
        })
        .collect()
}

impl Row {
    pub(crate) fn json(&self) -> String {
        let Self {
            id,
            campaign,
            amount,
            at_ms,
        } = self;
        format!(r#"{{"id":{id},"campaign":"{campaign}","amount":{amount},"at":{at_ms}}}"#)
    }
}

/// The rows as the lines of a file.
pub(crate) fn ndjson<'a>(rows: impl IntoIterator<Item = &'a Row>) -> String {
    let mut text = String::new();
    for row in rows {
        let _ = writeln!(text, "{}", row.json());
    }
    text
}

/// The rows as a table.
pub(crate) fn batch(rows: &[Row]) -> RecordBatch {
    let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let schema = Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("campaign", DataType::Utf8, false),
        Field::new("amount", DataType::Int64, false),
        Field::new("at", utc, false),
    ]);
    let at = rows.iter().map(|row| row.at_ms * 1000);
    RecordBatch::try_new(
        Arc::new(schema),
        vec![
            Arc::new(rows.iter().map(|row| row.id).collect::<Int64Array>()),
            Arc::new(
                rows.iter()
                    .map(|row| Some(row.campaign.as_str()))
                    .collect::<StringArray>(),
            ),
            Arc::new(rows.iter().map(|row| row.amount).collect::<Int64Array>()),
            Arc::new(TimestampMicrosecondArray::from_iter_values(at).with_timezone("UTC")),
        ],
    )
    .unwrap()
}

/// `SplitMix64`: the same numbers for the same seed.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (bits ^ (bits >> 31)) % bound
    }
}

/// The pipeline of the tests, over a source of any kind: every row unchanged, and the sums per
/// minute.
pub(crate) fn pipeline(source: &str) -> String {
    format!(
        r#"name: sales
sources:
  events:
    {source}
    format: {{json: {{}}}}
    columns: {{id: int64, campaign: string, amount: int64, at: timestamp(ms)}}
    time: {{event_time: at, delay: 5s, idle_after: 500ms}}
queries:
  minute: |
    SELECT tumble(at, INTERVAL '1 minute') AS "window", campaign,
           count(*) AS n, sum(amount) AS amount, count(DISTINCT id) AS ids
    FROM events GROUP BY 1, 2
sinks:
  per_minute:
    from: minute
    parquet: {{url: ./lake/per_minute, partition_by: {{dt: "date(window_start)"}}, files: {{max_open: 200ms}}}}
  every_row:
    from: events
    parquet: {{url: ./lake/every_row, files: {{max_open: 200ms}}}}
checkpoint: {{every: 100ms, url: ./state}}
"#
    )
}

/// The same pipeline with a long idle timeout, so that rows of a partition after a pause are not
/// late.
pub(crate) fn patient(pipeline: &str) -> String {
    pipeline.replace("idle_after: 500ms", "idle_after: 5m")
}

/// The same pipeline with its tables and its state on S3.
pub(crate) fn on_s3(pipeline: &str) -> String {
    pipeline
        .replace("./lake", "s3://lake")
        .replace("./state", "s3://lake/state")
}
