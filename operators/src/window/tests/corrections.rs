//! Rule 8: windows with several revisions, against a naive model.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use arrow::{
    array::{AsArray, RecordBatch},
    datatypes::{Int64Type, TimestampMicrosecondType},
};
use proptest::prelude::*;
use tagflow_engine::EventTime;

use super::{
    driver::Driver,
    oracle,
    rows::{PARTITIONS, Row, portion, row, rows},
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

/// The windows that contain a time, by the definition of their kind.
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

/// The rule, row by row: the last count of each window and item, and the number of late rows.
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
        portion in portion(),
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
        let mut driver = Driver::new(&plan.unwrap(), lanes, delay).in_portions(portion);
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
            // It is emitted again only because it changed.
            prop_assert!(before.is_none_or(|(_, before)| before < count));
        }
        let last: Counts = last.into_iter().map(|(key, (_, count))| (key, count)).collect();
        prop_assert_eq!(last, expected);
    }
}

/// The open windows with a row that no earlier window has, and their counts.
fn leading(windows: &Windows, rows: &[Row], watermark: i64) -> Counts {
    let first = |row: &Row| around(windows, row.ts).into_iter().min_by_key(|it| it.1);
    let firsts: BTreeSet<(i64, i64)> = rows.iter().filter_map(first).collect();
    let mut counts = Counts::new();
    for row in rows {
        for (start, end) in around(windows, row.ts) {
            if end > watermark && firsts.contains(&(start, end)) {
                *counts.entry((start, end, row.item)).or_default() += 1;
            }
        }
    }
    counts
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, max_shrink_iters: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn previews_are_what_has_come_so_far(
        windows in windows(),
        rows in rows(200, 60),
        chunk in 1..20_usize,
        portion in portion(),
        every in 1..50_i64,
        lateness in prop_oneof![Just(0_i64), 1..100_i64],
        restarts in proptest::collection::vec(proptest::bool::weighted(0.3), 0..100),
    ) {
        let emission = Emission {
            previews: Some(us(every)),
            lateness: us(lateness),
            ..Emission::default()
        };
        let plan = oracle::plan_windows(windows.clone(), emission, &["item"], &["count(*)"]);
        // With several lanes, a lane may have rows that it has not sent yet.
        let mut driver = Driver::new(&plan.unwrap(), 1, 60).in_portions(portion);
        let mut came: Vec<Row> = Vec::new();
        for (i, chunk) in rows.chunks(chunk).enumerate() {
            for partition in 0..PARTITIONS {
                let of_partition = chunk.iter().filter(|row| row.partition == partition);
                let of_partition: Vec<Row> = of_partition.cloned().collect();
                let before = driver.watermark().as_micros();
                driver.send(&of_partition);
                came.extend(of_partition);
                let watermark = driver.watermark().as_micros();
                if watermark.div_euclid(every) == before.div_euclid(every) {
                    continue;
                }
                let mut newest = BTreeMap::new();
                for (start, end, item, count, revision, is_final) in results(driver.results()) {
                    prop_assert_eq!(is_final, revision >= 0);
                    if end > watermark {
                        prop_assert!(revision < 0);
                        let seen = newest.entry((start, end, item)).or_insert((revision, count));
                        *seen = (*seen).max((revision, count));
                    }
                }
                let newest: Counts = newest.into_iter().map(|(key, (_, count))| (key, count)).collect();
                prop_assert_eq!(newest, leading(&windows, &came, watermark));
            }
            if restarts.get(i) == Some(&true) {
                driver.barrier();
                driver.restart(1);
            }
        }
        driver.end();
        let mut closed = Counts::new();
        for (start, end, item, count, revision, _) in results(driver.results()) {
            if revision >= 0 {
                closed.insert((start, end, item), count);
            }
        }
        // The disorder is within the delay, so no row is late.
        let mut expected = Counts::new();
        for row in &rows {
            for (start, end) in around(&windows, row.ts) {
                *expected.entry((start, end, row.item)).or_default() += 1;
            }
        }
        prop_assert_eq!(closed, expected);
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
    // No change for item 1.
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
