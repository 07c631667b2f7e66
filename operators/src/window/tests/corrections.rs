//! Rule 8: windows that come out again, against a naive model.

use std::{collections::BTreeMap, time::Duration};

use arrow::{
    array::{AsArray, RecordBatch},
    datatypes::{Int64Type, TimestampMicrosecondType},
};
use proptest::prelude::*;
use tagflow_engine::EventTime;

use super::{
    driver::Driver,
    oracle,
    rows::{PARTITIONS, Row, row, rows},
};
use crate::window::{Emission, Period, Windows};

fn us(width: i64) -> Duration {
    Duration::from_micros(width.unsigned_abs())
}

fn windows() -> impl Strategy<Value = Windows> {
    prop_oneof![
        Just(Windows::Tumble(Period::Fixed(us(60)))),
        Just(Windows::Hop {
            slide: us(20),
            size: us(60),
        }),
        Just(Windows::Hop {
            slide: us(7),
            size: us(30),
        }),
        Just(Windows::Cumulate {
            step: us(20),
            within: Period::Fixed(us(60)),
        }),
    ]
}

/// The windows that a time lies in, by the words of their kind.
fn around(windows: &Windows, time: i64) -> Vec<(i64, i64)> {
    let all: Vec<(i64, i64)> = match *windows {
        Windows::Tumble(_) => vec![(time.div_euclid(60) * 60, time.div_euclid(60) * 60 + 60)],
        Windows::Hop { slide, size } => {
            let (slide, size) = (slide.as_micros() as i64, size.as_micros() as i64);
            let last = time.div_euclid(slide) * slide;
            (0..=size / slide)
                .map(|back| last - back * slide)
                .map(|start| (start, start + size))
                .collect()
        }
        _ => (1..=3)
            .map(|step| {
                (
                    time.div_euclid(60) * 60,
                    time.div_euclid(60) * 60 + 20 * step,
                )
            })
            .collect(),
    };
    let holds = |(start, end): &(i64, i64)| *start <= time && time < *end;
    all.into_iter().filter(holds).collect()
}

type Counts = BTreeMap<(i64, i64, Option<i64>), i64>;

/// Row by row, by the words of the rule: the last count of each window and
/// item, and how many rows were late.
fn naive(
    windows: &Windows,
    rows: &[Row],
    chunk: usize,
    delay: i64,
    lateness: i64,
) -> (Counts, u64) {
    let (mut counts, mut late) = (Counts::new(), 0);
    let mut watermarks = [EventTime::MIN.as_micros(); PARTITIONS];
    for chunk in rows.chunks(chunk) {
        for partition in 0..PARTITIONS {
            let watermark = *watermarks.iter().min().unwrap();
            for row in chunk.iter().filter(|row| row.partition == partition) {
                let open = around(windows, row.ts)
                    .into_iter()
                    .filter(|(_, end)| end + lateness > watermark);
                let mut counted = false;
                for (start, end) in open {
                    *counts.entry((start, end, row.item)).or_default() += 1;
                    counted = true;
                }
                late += u64::from(!counted);
                watermarks[partition] = watermarks[partition].max(row.ts - delay);
            }
        }
    }
    (counts, late)
}

/// One result: window, item, count, revision and whether it is final.
type Result = (i64, i64, Option<i64>, i64, i64, bool);

fn results(batches: &[RecordBatch]) -> Vec<Result> {
    let mut results = Vec::new();
    for rows in batches {
        let bound = |column: usize| {
            let bounds = rows.column(0).as_struct().column(column);
            bounds.as_primitive::<TimestampMicrosecondType>()
        };
        let int = |name| {
            let column = rows.column_by_name(name).unwrap();
            column.as_primitive::<Int64Type>()
        };
        let items = rows.column(1).as_primitive::<Int64Type>();
        let is_final = rows.column_by_name("is_final").unwrap().as_boolean();
        for (row, item) in items.iter().enumerate() {
            let counts = rows.column(2).as_primitive::<Int64Type>();
            results.push((
                bound(0).value(row),
                bound(1).value(row),
                item,
                counts.value(row),
                int("revision").value(row),
                is_final.value(row),
            ));
        }
    }
    results
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, max_shrink_iters: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_last_revision_is_the_truth(
        windows in windows(),
        rows in rows(200, 300),
        chunk in 1..20_usize,
        delay in 0..40_i64,
        lateness in 1..200_i64,
        lanes in prop_oneof![Just(1_usize), Just(2), Just(4)],
        barriers in proptest::collection::vec(
            prop_oneof![6 => Just(None), 2 => Just(Some(0_usize)), 1 => Just(Some(1)), 1 => Just(Some(4))],
            0..100,
        ),
    ) {
        let emission = Emission { lateness: us(lateness), ..Emission::default() };
        let plan = oracle::plan_windows(windows.clone(), emission, &["item"], &["count(*)"]);
        let mut driver = Driver::new(&plan.unwrap(), lanes, delay);
        for (i, chunk) in rows.chunks(chunk).enumerate() {
            driver.send(chunk);
            match barriers.get(i) {
                Some(Some(0)) => driver.barrier(),
                Some(Some(lanes)) => {
                    driver.barrier();
                    driver.restart(*lanes);
                }
                _ => {}
            }
        }
        driver.end();
        let (expected, late) = naive(&windows, &rows, chunk, delay, lateness);
        prop_assert_eq!(driver.counts().late, late);
        prop_assert!(driver.counts().balances());
        let mut last = BTreeMap::new();
        for (start, end, item, count, revision, is_final) in results(driver.results()) {
            prop_assert!(is_final);
            let before = last.insert((start, end, item), (revision, count));
            prop_assert!(revision >= 0);
            prop_assert!(before.is_none_or(|(before, _)| before < revision));
            // It comes out again only because it changed.
            prop_assert!(before.is_none_or(|(_, before)| before < count));
        }
        let last: Counts = last.into_iter().map(|(key, (_, count))| (key, count)).collect();
        prop_assert_eq!(last, expected);
    }
}

/// All partitions at `ts`.
fn all_at(ts: i64, item: i64) -> Vec<Row> {
    (0..PARTITIONS)
        .map(|partition| row(partition, ts, item))
        .collect()
}

fn driver(emission: Emission) -> Driver {
    let windows = Windows::Tumble(Period::Fixed(us(60)));
    let plan = oracle::plan_windows(windows, emission, &["item"], &["count(*)"]);
    Driver::new(&plan.unwrap(), 1, 0)
}

#[test]
fn previews_count_up_to_the_close() {
    let mut driver = driver(Emission {
        previews: Some(us(10)),
        lateness: Duration::ZERO,
        ..Emission::default()
    });
    driver.send(&all_at(5, 1));
    driver.send(&all_at(21, 2));
    driver.send(&all_at(24, 2));
    // Nothing changed for item 1.
    driver.send(&all_at(52, 2));
    driver.send(&all_at(60, 3));
    let mut results = results(driver.results());
    results.sort_by_key(|(start, _, item, _, revision, _)| (*start, *revision, *item));
    assert_eq!(
        results,
        [
            // At watermark 5, 21, 52 and 60.
            (0, 60, Some(1), 4, -6, false),
            (0, 60, Some(2), 4, -4, false),
            (0, 60, Some(2), 12, -1, false),
            (0, 60, Some(1), 4, 0, true),
            (0, 60, Some(2), 12, 0, true),
            (60, 120, Some(3), 4, -6, false),
        ]
    );
}

#[test]
fn a_window_that_was_empty_is_corrected_too() {
    let mut driver = driver(Emission {
        previews: None,
        lateness: us(100),
        ..Emission::default()
    });
    driver.send(&all_at(130, 1));
    driver.send(&[row(0, 10, 2)]);
    driver.barrier();
    driver.send(&[row(0, 11, 2)]);
    driver.barrier();
    driver.restart(4);
    driver.send(&[row(0, 12, 2)]);
    driver.barrier();
    assert_eq!(
        results(driver.results()),
        [
            (0, 60, Some(2), 1, 1, true),
            (0, 60, Some(2), 2, 2, true),
            (0, 60, Some(2), 3, 3, true),
        ]
    );
    // Its time is over.
    driver.send(&all_at(160, 1));
    driver.send(&[row(0, 13, 2)]);
    assert_eq!(driver.counts().late, 1);
}
