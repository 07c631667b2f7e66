//! Aggregates without a window: how their state is stored and restored. Tests of whole pipelines
//! show that their results equal those in batch.

use std::{collections::BTreeMap, time::Duration};

use arrow::{array::AsArray, datatypes::Int64Type};

use super::{
    driver::Driver,
    oracle,
    rows::{PARTITIONS, row},
};
use crate::window::{Emission, Period, Windows};

const EVERY: Duration = Duration::from_micros(10);
/// The item of rows that only advance the watermark.
const NOBODY: i64 = 99;

fn driver() -> Driver {
    let windows = Windows::Tumble(Period::Fixed(EVERY));
    let emission = Emission {
        previews: Some(EVERY),
        ttl: Some(Duration::from_secs(1)),
        ..Emission::default()
    };
    let plan = oracle::plan_windows(windows, emission, &["item"], &["count(*)"]);
    Driver::new(&plan.unwrap(), 1, 0)
}

/// Processes a row of each of `items` at `ts`, and takes a snapshot after they are counted.
fn commit(driver: &mut Driver, ts: i64, items: impl Iterator<Item = i64>) {
    driver.send(&items.map(|item| row(0, ts, item)).collect::<Vec<_>>());
    let others = (0..PARTITIONS).map(|partition| row(partition, ts + 10, NOBODY));
    driver.send(&others.collect::<Vec<_>>());
    driver.barrier();
}

/// The number of rows of totals in each stored part.
fn parts(driver: &Driver) -> Vec<usize> {
    let parts = driver.stored_parts(0).into_iter();
    let totals = parts.filter(|part| part.key.starts_with("totals-"));
    totals.map(|part| part.rows.num_rows()).collect()
}

#[test]
fn parts_grow_by_doubling() {
    let mut driver = driver();
    let mut most = 0;
    for place in 0..64 {
        commit(&mut driver, 20 * place, [place].into_iter());
        let parts = parts(&driver);
        assert!(
            parts.iter().sum::<usize>() <= 4 * (place as usize + 2),
            "{parts:?}"
        );
        most = most.max(parts.len());
    }
    assert!((2..=7).contains(&most), "{most} parts");
}

#[test]
fn a_key_has_its_newest_state_on_other_lanes() {
    for lanes in [1, 2, 4] {
        let mut driver = driver();
        commit(&mut driver, 0, 0..40);
        commit(&mut driver, 20, 0..10);
        commit(&mut driver, 40, 0..3);
        assert!(parts(&driver).len() > 1);
        driver.restart(lanes);
        driver.send(&(0..40).map(|item| row(0, 60, item)).collect::<Vec<_>>());
        driver.end();
        let mut counts = BTreeMap::new();
        for rows in driver.results() {
            let column = |place: usize| rows.column(place).as_primitive::<Int64Type>();
            counts
                .extend((0..rows.num_rows()).map(|at| (column(1).value(at), column(2).value(at))));
        }
        counts.remove(&NOBODY);
        let expected = (0..40).map(|item| (item, 2 + i64::from(item < 10) + i64::from(item < 3)));
        assert_eq!(counts, expected.collect(), "{lanes} lanes");
    }
}
