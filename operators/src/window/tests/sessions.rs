//! Sessions where rows come late. That they answer as in batch is shown over
//! whole pipelines.

use std::time::Duration;

use arrow::{
    array::AsArray,
    datatypes::{Int64Type, TimestampMicrosecondType},
};

use super::{
    driver::Driver,
    oracle,
    rows::{PARTITIONS, Row, row},
};
use crate::window::{Emission, Windows};

const GAP_US: i64 = 80;

fn driver() -> Driver {
    let gap = Duration::from_micros(GAP_US as u64);
    let windows = Windows::Session { gap };
    let plan = oracle::plan_windows(windows, Emission::default(), &["item"], &["count(*)"]);
    Driver::new(&plan.unwrap(), 1, 0)
}

/// Moves the watermark to `ts` by rows of an item of their own.
fn advance(driver: &mut Driver, ts: i64) {
    let rows: Vec<Row> = (0..PARTITIONS)
        .map(|partition| row(partition, ts, 9))
        .collect();
    driver.send(&rows);
}

/// Start, end and count of each session of `item`.
fn sessions(driver: &Driver, item: i64) -> Vec<(i64, i64, i64)> {
    let mut sessions = Vec::new();
    for rows in driver.results() {
        let bound = |column: usize| {
            let bounds = rows.column(0).as_struct().column(column);
            bounds.as_primitive::<TimestampMicrosecondType>().clone()
        };
        let items = rows.column(1).as_primitive::<Int64Type>();
        let counts = rows.column(2).as_primitive::<Int64Type>();
        for row in 0..rows.num_rows() {
            if items.value(row) == item {
                let (start, end) = (bound(0).value(row), bound(1).value(row));
                sessions.push((start, end, counts.value(row)));
            }
        }
    }
    sessions.sort_unstable();
    sessions
}

#[test]
fn more_than_a_gap_ends_a_session() {
    let mut driver = driver();
    driver.send(&[row(0, 0, 1), row(0, 80, 1), row(0, 161, 1)]);
    driver.end();
    assert_eq!(sessions(&driver, 1), [(0, 160, 2), (161, 241, 1)]);
}

#[test]
fn a_session_waits_for_a_row_at_its_end() {
    let mut driver = driver();
    driver.send(&[row(0, 100, 1)]);
    advance(&mut driver, 180);
    assert_eq!(sessions(&driver, 1), []);
    // 100 is just the gap behind the watermark, so not late.
    driver.send(&[row(1, 180, 1), row(0, 100, 2)]);
    driver.end();
    assert_eq!(driver.counts().late, 0);
    assert_eq!(sessions(&driver, 1), [(100, 260, 2)]);
    assert_eq!(sessions(&driver, 2), [(100, 180, 1)]);
}

#[test]
fn a_row_behind_the_watermark_joins_two_open_sessions() {
    for lanes in [1, 4] {
        let mut driver = driver();
        driver.send(&[row(0, 0, 1), row(0, 100, 1)]);
        advance(&mut driver, 79);
        driver.barrier();
        driver.restart(lanes);
        driver.send(&[row(1, 50, 1)]);
        driver.barrier();
        driver.restart(lanes);
        driver.end();
        assert_eq!(sessions(&driver, 1), [(0, 180, 3)]);
        assert_eq!(driver.counts().late, 0);
        assert!(driver.counts().balances());
    }
}

#[test]
fn a_row_whose_gap_has_passed_counts_if_it_joins_an_open_session() {
    let mut driver = driver();
    driver.send(&[row(0, 100, 1)]);
    advance(&mut driver, 170);
    // 40 + 80 has passed, and so has 10 + 80; only the first is near 100.
    driver.send(&[row(1, 40, 1), row(1, 10, 2)]);
    assert_eq!(driver.counts().late, 1);
    driver.end();
    assert_eq!(sessions(&driver, 1), [(40, 180, 2)]);
    assert_eq!(sessions(&driver, 2), []);
    assert!(driver.counts().balances());
}

#[test]
fn a_row_of_a_session_that_is_over_is_late() {
    let mut driver = driver();
    driver.send(&[row(0, 100, 1)]);
    advance(&mut driver, 300);
    assert_eq!(sessions(&driver, 1), [(100, 180, 1)]);
    driver.send(&[row(1, 100, 1)]);
    let [late] = driver.late() else { panic!() };
    let ends = late.column_by_name("window_end").unwrap();
    assert_eq!(
        ends.as_primitive::<TimestampMicrosecondType>().values(),
        &[180]
    );
    driver.end();
    assert_eq!(sessions(&driver, 1), [(100, 180, 1)]);
    assert!(driver.counts().balances());
    assert_eq!(driver.state_bytes(), 0);
}
