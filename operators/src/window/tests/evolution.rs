//! Aggregates are added and removed. The remaining ones continue, and new ones begin with the next
//! rows.

use std::{sync::Arc, time::Duration};

use arrow::{
    array::{Array, AsArray, RecordBatch},
    datatypes::Int64Type,
};
use tagflow_engine::{
    ErrorKind,
    operator::LaneContext,
    state::{LaneState, Restore},
};

use super::{
    aggregates::{CASES, some_rows},
    driver::Driver,
    oracle::{self, Tolerance, assert_same},
    rows::{PARTITIONS, Row, row},
};
use crate::window::{Aggregation, Emission, Windows};

/// More than the distance of all rows: windows stay open.
const DELAY_US: i64 = 1_000_000_000;

fn plan(aggregates: &[&str]) -> Arc<Aggregation> {
    oracle::plan(&["campaign"], aggregates).unwrap()
}

/// Processes the rows on three lanes in two halves, with another plan for the second.
fn halves(rows: &[Row], first: &[&str], second: &[&str], lanes: usize) -> Driver {
    let (before, after) = rows.split_at(rows.len() / 2);
    let mut driver = Driver::new(&plan(first), 3, DELAY_US);
    for chunk in before.chunks(50) {
        driver.send(chunk);
        driver.barrier();
    }
    driver.restart_as(&plan(second), lanes);
    driver.send(after);
    driver.barrier();
    // That commit must contain the adapted parts.
    driver.restart(lanes);
    driver
}

#[test]
fn a_new_aggregate_begins_with_the_next_rows_and_resets_no_other() {
    let rows = &some_rows()[..150];
    let kept = oracle::batch(rows, &["campaign"], &["count(*)"]);
    let others = CASES.iter().filter(|case| case.sql != "count(*)");
    for (i, case) in others.enumerate() {
        println!("{}", case.sql);
        let second = [case.sql, "count(*)"];
        let mut driver = halves(rows, &["count(*)", "max(o)"], &second, 3 + i % 2);
        driver.end();
        let since = oracle::batch_since(rows, rows.len() / 2, "campaign", case.oracle);
        let column = |place: usize| -> Vec<_> {
            let results = driver.results().iter();
            results
                .map(|it| it.project(&[0, 1, place]).unwrap())
                .collect()
        };
        assert_same(&column(2), &since, 1, &[case.tolerance]);
        assert_same(&column(3), &kept, 1, &[Tolerance::Exact]);
    }
}

#[test]
fn who_comes_back_begins_anew() {
    let rows = some_rows();
    for lanes in [3, 4] {
        let mut driver = halves(&rows, &["sum(x)", "count(*)"], &["count(*)"], lanes);
        driver.restart_as(&plan(&["sum(x)", "count(*)"]), lanes);
        driver.end();
        for rows in driver.results() {
            assert_eq!(rows.column(2).null_count(), rows.num_rows());
        }
        let kept = oracle::batch(&rows, &["campaign"], &["count(*)"]);
        let results = driver.results().iter();
        let old: Vec<_> = results.map(|it| it.project(&[0, 1, 3]).unwrap()).collect();
        assert_same(&old, &kept, 1, &[Tolerance::Exact]);
    }
}

#[test]
fn another_order_of_aggregates_changes_nothing_that_is_stored() {
    let rows = some_rows();
    let mut driver = Driver::new(&plan(&["sum(x)", "min(s)"]), 1, DELAY_US);
    driver.send(&rows);
    driver.barrier();
    let stored: Vec<String> = driver.stored(0).into_iter().map(str::to_owned).collect();
    driver.restart_as(&plan(&["min(s)", "sum(x)"]), 1);
    driver.barrier();
    assert_eq!(driver.stored(0), stored);
    driver.end();
    let expected = oracle::batch(&rows, &["campaign"], &["min(s)", "sum(x)"]);
    assert_same(driver.results(), &expected, 1, &[Tolerance::Exact; 2]);
}

#[test]
fn state_of_which_no_aggregate_is_known_is_refused() {
    let restored = |aggregates: &[&str]| {
        let mut driver = Driver::new(&plan(&["sum(x)", "min(s)"]), 1, DELAY_US);
        driver.send(&some_rows());
        driver.barrier();
        let context = LaneContext {
            node: "q".into(),
            lane: 0,
            lanes: 1,
            memory_bytes: None,
        };
        let mut stage = plan(aggregates).finalize()(&context).unwrap();
        stage.restore(LaneState {
            parts: driver.stored_parts(0),
            lanes: Restore::InPlace,
        })
    };
    restored(&["count(*)", "min(s)"]).unwrap();
    // Groups alone keep their meaning.
    restored(&[]).unwrap();
    let error = restored(&["count(*)", "max(s)"]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("no aggregate of `q`"), "{error}");
}

/// The values of a column of whole numbers, by the key before it.
fn values(driver: &Driver, column: usize) -> Vec<(Option<i64>, Option<i64>)> {
    let mut values = Vec::new();
    for rows in driver
        .results()
        .iter()
        .filter(|it| it.num_columns() > column)
    {
        let numbers = |column: usize| rows.column(column).as_primitive::<Int64Type>().clone();
        let (keys, of_rows) = (numbers(1), numbers(column));
        values.extend(keys.iter().zip(of_rows.iter()));
    }
    values.sort_unstable();
    values
}

fn numbered(partition: usize, ts: i64, item: i64) -> Row {
    Row {
        x: Some(10 * item),
        ..row(partition, ts, item)
    }
}

#[test]
fn a_session_that_goes_on_has_a_new_aggregate_from_now_on() {
    let windows = Windows::Session {
        gap: Duration::from_micros(80),
    };
    let of = |aggregates: &[&str]| {
        let plan =
            oracle::plan_windows(windows.clone(), Emission::default(), &["item"], aggregates);
        plan.unwrap()
    };
    // The last event time also bounds sessions: the new aggregate is its equal.
    for lanes in [1, 4] {
        let mut driver = Driver::new(&of(&["count(*)"]), 1, 0);
        driver.send(&[numbered(0, 0, 1), numbered(0, 5, 2)]);
        // Both pane and open sessions.
        let watermark = (0..PARTITIONS).map(|partition| numbered(partition, 60, 3));
        driver.send(&watermark.collect::<Vec<_>>());
        driver.barrier();
        driver.restart_as(&of(&["sum(x)", "max(ts)", "count(*)"]), lanes);
        driver.send(&[numbered(0, 70, 1)]);
        driver.barrier();
        driver.restart(lanes);
        driver.end();
        let sums = [(Some(1), Some(10)), (Some(2), None), (Some(3), None)];
        assert_eq!(values(&driver, 2), sums);
        let counts = [(Some(1), Some(2)), (Some(2), Some(1)), (Some(3), Some(4))];
        assert_eq!(values(&driver, 4), counts);
    }
}

#[test]
fn a_key_without_a_window_has_a_new_aggregate_from_now_on() {
    let every = Duration::from_micros(60);
    let windows = Windows::Tumble(crate::window::Period::Fixed(every));
    let emission = Emission {
        previews: Some(every),
        ttl: Some(Duration::from_micros(600)),
        ..Emission::default()
    };
    let of = |aggregates: &[&str]| {
        oracle::plan_windows(windows.clone(), emission, &["item"], aggregates).unwrap()
    };
    for lanes in [1, 4] {
        let mut driver = Driver::new(&of(&["count(*)"]), 1, 0);
        driver.send(&[numbered(0, 0, 1), numbered(0, 5, 2)]);
        let tick = (0..PARTITIONS).map(|partition| numbered(partition, 60, 3));
        driver.send(&tick.collect::<Vec<_>>());
        driver.barrier();
        driver.restart_as(&of(&["sum(x)", "count(*)"]), lanes);
        driver.send(&[numbered(0, 70, 1)]);
        driver.barrier();
        driver.restart(lanes);
        driver.end();
        // Of the second tick: no change for item 2.
        assert_eq!(
            driver
                .results()
                .iter()
                .map(RecordBatch::num_rows)
                .sum::<usize>(),
            4
        );
        let seconds: Vec<_> = driver
            .results()
            .iter()
            .filter(|it| it.num_columns() == 6)
            .collect();
        let mut rows = Vec::new();
        for batch in seconds {
            let column = |place: usize| batch.column(place).as_primitive::<Int64Type>();
            for row in 0..batch.num_rows() {
                let sum = column(2).is_valid(row).then(|| column(2).value(row));
                rows.push((column(1).value(row), sum, column(3).value(row)));
            }
        }
        rows.sort_unstable();
        assert_eq!(rows, [(1, Some(10), 2), (3, None, 4)]);
    }
}
