//! The output of one step of the watermark is emitted in parts of bounded size.

use std::{collections::BTreeMap, time::Duration};

use arrow::{
    array::{AsArray, RecordBatch},
    datatypes::{Int64Type, TimestampMicrosecondType},
};

use super::{
    driver::Driver,
    oracle,
    rows::{Row, row},
};
use crate::window::{Emission, Period, Windows};

const PORTION: usize = 32 << 10;
const KEYS: i64 = 4000;

fn us(micros: i64) -> Duration {
    Duration::from_micros(micros.unsigned_abs())
}

/// `KEYS` keys with a row in each of `panes` panes of 60 µs.
fn rows(panes: i64) -> Vec<Row> {
    let row = |number: i64| row(0, 60 * (number / KEYS) + number % 60, number % KEYS);
    (0..panes * KEYS).map(row).collect()
}

/// Emits everything at the end of the input. Returns the count of each window and key, and the
/// bytes of the whole output.
fn end(
    windows: &Windows,
    emission: Emission,
    rows: &[Row],
) -> (Driver, BTreeMap<(i64, i64), i64>, usize) {
    let plan = oracle::plan_windows(windows.clone(), emission, &["item"], &["count(*)"]);
    let mut driver = Driver::new(&plan.unwrap(), 1, 1000).in_portions(PORTION);
    driver.send(rows);
    driver.end();
    let mut counts = BTreeMap::new();
    let results = driver.results();
    for batch in results {
        let ends = batch.column(0).as_struct().column(1);
        let ends = ends.as_primitive::<TimestampMicrosecondType>().values();
        let items = batch.column(1).as_primitive::<Int64Type>();
        let found = batch.column(2).as_primitive::<Int64Type>();
        for (row, end) in ends.iter().enumerate() {
            *counts.entry((*end, items.value(row))).or_default() += found.value(row);
        }
    }
    let bytes = results.iter().map(RecordBatch::get_array_memory_size).sum();
    (driver, counts, bytes)
}

#[track_caller]
fn check_parts(driver: &Driver, bytes: usize, least_parts: usize) {
    let largest = driver.largest_part();
    assert!(largest <= 3 * PORTION, "{largest} bytes at once");
    assert!(bytes >= least_parts * PORTION, "{bytes} bytes in all");
    assert_eq!(driver.state_bytes(), 0);
}

#[test]
fn regression_windows_that_overlap_and_close_together_go_out_in_parts() {
    let windows = Windows::Hop {
        slide: us(60),
        size: us(60 * 40),
    };
    let rows = rows(3);
    let (driver, counts, bytes) = end(&windows, Emission::default(), &rows);
    // Each pane is in 40 windows; as many begin before the first as end after the last.
    let mut expected = BTreeMap::new();
    for row in &rows {
        let pane = row.ts.div_euclid(60);
        for window in 0..40 {
            let end = (pane + 1 + window) * 60;
            *expected.entry((end, row.item.unwrap())).or_default() += 1;
        }
    }
    assert_eq!(counts, expected);
    check_parts(&driver, bytes, 40);
}

#[test]
fn steps_of_a_cumulative_window_go_out_in_parts() {
    let windows = Windows::Cumulate {
        step: us(60),
        within: Period::Fixed(us(60 * 40)),
    };
    // The last pane contains a row of a single key.
    let mut rows = rows(2);
    rows.push(row(0, 60 * 40 - 1, 0));
    let (driver, counts, bytes) = end(&windows, Emission::default(), &rows);
    // Each step has the rows of those before it.
    assert_eq!(counts.len(), 40 * KEYS as usize);
    assert_eq!(counts[&(60, 7)], 1);
    for step in 2..=40 {
        assert_eq!(counts[&(60 * step, 7)], 2);
    }
    assert_eq!(counts[&(60 * 40, 0)], 3);
    check_parts(&driver, bytes, 40);
}

#[test]
fn one_large_window_goes_out_in_parts() {
    let windows = Windows::Tumble(Period::Fixed(us(600)));
    let (driver, counts, bytes) = end(&windows, Emission::default(), &rows(4));
    assert_eq!(counts.len(), KEYS as usize);
    assert!(counts.values().all(|count| *count == 4));
    check_parts(&driver, bytes, 3);
}

#[test]
fn sessions_that_are_over_together_go_out_in_parts() {
    let windows = Windows::Session { gap: us(120) };
    let (driver, counts, bytes) = end(&windows, Emission::default(), &rows(4));
    assert_eq!(counts.len(), KEYS as usize);
    assert!(counts.values().all(|count| *count == 4));
    check_parts(&driver, bytes, 3);
}

#[test]
fn keys_without_a_window_change_in_parts() {
    let windows = Windows::Tumble(Period::Fixed(us(60)));
    let emission = Emission {
        previews: Some(us(60)),
        ttl: Some(Duration::from_secs(1)),
        ..Emission::default()
    };
    let (driver, counts, bytes) = end(&windows, emission, &rows(2));
    assert_eq!(counts.len(), 2 * KEYS as usize);
    assert_eq!(counts[&(60, 7)], 1);
    assert_eq!(counts[&(120, 7)], 2);
    let largest = driver.largest_part();
    assert!(largest <= 3 * PORTION, "{largest} bytes at once");
    assert!(bytes >= 3 * PORTION, "{bytes} bytes in all");
}
