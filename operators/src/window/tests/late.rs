//! Rule 7: which rows are late, against a naive model.

use std::collections::BTreeMap;

use arrow::{
    array::{AsArray, RecordBatch},
    datatypes::{Int64Type, TimestampMicrosecondType},
};
use proptest::prelude::*;
use tagflow_engine::EventTime;

use super::{
    driver::Driver,
    oracle,
    rows::{PARTITIONS, Row, SIZE_US, portion, rows},
};

/// Counts by window, and the late rows: event time, window end, watermark.
#[derive(Debug, Default, PartialEq)]
struct Answer {
    counts: BTreeMap<i64, i64>,
    late: Vec<(i64, i64, i64)>,
}

/// The rule, row by row.
fn naive(rows: &[Row], chunk: usize, delay: i64) -> Answer {
    let mut answer = Answer::default();
    let mut watermarks = [EventTime::MIN.as_micros(); PARTITIONS];
    for chunk in rows.chunks(chunk) {
        for partition in 0..PARTITIONS {
            let watermark = *watermarks.iter().min().unwrap();
            for row in chunk.iter().filter(|row| row.partition == partition) {
                let end = row.start() + SIZE_US;
                if end <= watermark {
                    answer.late.push((row.ts, end, watermark));
                } else {
                    *answer.counts.entry(row.start()).or_default() += 1;
                }
                watermarks[partition] = watermarks[partition].max(row.ts - delay);
            }
        }
    }
    answer.late.sort_unstable();
    answer
}

fn answer(results: &[RecordBatch], late: &[RecordBatch]) -> Answer {
    let mut answer = Answer::default();
    for rows in results {
        let starts = rows.column(0).as_struct().column(0);
        let starts = starts.as_primitive::<TimestampMicrosecondType>();
        let counts = rows.column(1).as_primitive::<Int64Type>();
        for (start, count) in starts.values().iter().zip(counts.values()) {
            let last = answer.counts.insert(*start, *count);
            assert_eq!(last, None, "a window came out twice");
        }
    }
    for rows in late {
        let times = |name| {
            let column = rows.column_by_name(name).unwrap();
            column.as_primitive::<TimestampMicrosecondType>().values()
        };
        for (i, time) in times("event_time").iter().enumerate() {
            let (end, watermark) = (times("window_end")[i], times("watermark")[i]);
            answer.late.push((*time, end, watermark));
        }
    }
    answer.late.sort_unstable();
    answer
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, max_shrink_iters: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn late_rows_are_those_of_the_rule(
        rows in rows(200, 300),
        chunk in 1..20_usize,
        portion in portion(),
        delay in 0..40_i64,
        lanes in prop_oneof![Just(1_usize), Just(2), Just(4)],
        restarts in proptest::collection::vec(prop_oneof![8 => Just(None), 1 => Just(Some(1_usize)), 1 => Just(Some(4))], 0..100),
    ) {
        let aggregation = oracle::plan(&[], &["count(*)"]).unwrap();
        let mut driver = Driver::new(&aggregation, lanes, delay).in_portions(portion);
        for (i, chunk) in rows.chunks(chunk).enumerate() {
            driver.send(chunk);
            if let Some(Some(lanes)) = restarts.get(i) {
                driver.barrier();
                driver.restart(*lanes);
            }
        }
        driver.end();
        let expected = naive(&rows, chunk, delay);
        prop_assert_eq!(driver.counts().late, expected.late.len() as u64);
        prop_assert!(driver.counts().balances());
        prop_assert_eq!(answer(driver.results(), driver.late()), expected);
    }
}

fn row(partition: usize, ts: i64) -> Row {
    Row {
        partition,
        ts,
        campaign: Some("a\n\"é".into()),
        item: None,
        x: Some(1),
        y: Some(150),
        s: None,
        b: Some(true),
        o: 0,
    }
}

/// All partitions at `ts`.
fn all_at(ts: i64) -> Vec<Row> {
    (0..PARTITIONS)
        .map(|partition| row(partition, ts))
        .collect()
}

#[test]
fn a_row_at_the_watermark_counts() {
    let aggregation = oracle::plan(&[], &["count(*)"]).unwrap();
    let mut driver = Driver::new(&aggregation, 1, 0);
    driver.send(&all_at(119));
    // At the watermark, and behind it in an open window.
    driver.send(&[row(0, 119), row(1, 60)]);
    assert_eq!(driver.counts().late, 0);
    // The window [0, 60) has closed.
    driver.send(&[row(2, 59)]);
    assert_eq!(driver.counts().late, 1);
    assert!(driver.results().is_empty());
    driver.send(&all_at(120));
    assert_eq!(answer(driver.results(), &[]).counts, [(60, 6)].into());
}

#[test]
fn late_rows_tell_their_story() {
    let aggregation = oracle::plan(&["campaign"], &["count(x)"]).unwrap();
    let mut driver = Driver::new(&aggregation, 2, 0);
    driver.send(&all_at(200));
    driver.send(&[row(3, 59)]);
    let [late] = driver.late() else { panic!() };
    assert_eq!(late.schema(), tagflow_schemas::late::schema());
    let text = |name| {
        late.column_by_name(name)
            .unwrap()
            .as_string::<i32>()
            .value(0)
    };
    assert_eq!(text("pipeline"), "test");
    assert_eq!(text("query"), "q");
    assert_eq!(text("source"), "s");
    assert_eq!(text("partition"), "3");
    assert_eq!(text("reason"), "window_closed");
    assert_eq!(
        text("row"),
        r#"{"ts":"1970-01-01T00:00:00.000059Z","start":"1970-01-01T00:00:00Z","campaign":"a\n\"é","item":null,"x":1,"y":150,"f":37.5,"d":1.50,"s":null,"b":true,"o":0}"#
    );
    let int = |name| {
        let column = late.column_by_name(name).unwrap();
        column.as_primitive::<Int64Type>().value(0)
    };
    assert_eq!(int("offset"), 59);
    assert_eq!(int("delay_us"), 140);
}

#[test]
fn rows_after_the_end_are_late_in_the_windows_that_it_closed() {
    for lanes in [1, 4] {
        let aggregation = oracle::plan(&[], &["count(*)"]).unwrap();
        let mut driver = Driver::new(&aggregation, 1, 0);
        driver.send(&all_at(10));
        driver.end();
        driver.barrier();
        assert_eq!(answer(driver.results(), &[]).counts, [(0, 4)].into());
        driver.restart(lanes);
        driver.send(&[row(0, 11), row(0, 61), row(1, 12)]);
        driver.end();
        assert_eq!(driver.counts().late, 2);
        let counts = answer(driver.results(), &[]).counts;
        assert_eq!(counts, [(0, 4), (60, 1)].into());
    }
}

#[test]
fn a_window_without_rows_emits_nothing() {
    let aggregation = oracle::plan(&[], &["count(*)"]).unwrap();
    let mut driver = Driver::new(&aggregation, 1, 0);
    driver.send(&all_at(10));
    driver.send(&all_at(1_000));
    driver.end();
    let counts = answer(driver.results(), &[]).counts;
    assert_eq!(counts, [(0, 4), (960, 4)].into());
}
