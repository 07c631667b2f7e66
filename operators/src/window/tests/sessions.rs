//! Sessions with late rows. Tests of whole pipelines show that sessions equal those in batch.

use std::{collections::BTreeMap, time::Duration};

use arrow::{
    array::{Array, AsArray, RecordBatch},
    datatypes::{Int64Type, TimestampMicrosecondType},
};
use proptest::prelude::*;

use super::{
    driver::Driver,
    oracle,
    rows::{PARTITIONS, Row, portion, row, rows},
};
use crate::window::{Emission, Windows};

const GAP_US: i64 = 80;

fn driver() -> Driver {
    let gap = Duration::from_micros(GAP_US as u64);
    let windows = Windows::Session { gap };
    let plan = oracle::plan_windows(windows, Emission::default(), &["item"], &["count(*)"]);
    Driver::new(&plan.unwrap(), 1, 0)
}

/// Advances the watermark to `ts` with rows of another item.
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
fn rows_are_held_until_their_session_is_over() {
    let mut driver = driver();
    assert!(!driver.holds_rows());
    // First in an open pane, then in a session.
    driver.send(&[row(0, 100, 9)]);
    driver.barrier();
    assert!(driver.holds_rows());
    advance(&mut driver, 150);
    driver.barrier();
    assert!(driver.holds_rows());
    driver.end();
    assert!(!driver.holds_rows());
}

#[test]
fn a_session_waits_for_a_row_at_its_end() {
    let mut driver = driver();
    driver.send(&[row(0, 100, 1)]);
    advance(&mut driver, 180);
    assert_eq!(sessions(&driver, 1), []);
    // 100 is exactly the gap behind the watermark, so not late.
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
    // Both 40 + 80 and 10 + 80 have passed; only the first is near 100.
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

/// Sessions that are corrected for `lateness_us`.
fn corrected(lateness_us: u64, lanes: usize) -> Driver {
    let windows = Windows::Session {
        gap: Duration::from_micros(GAP_US as u64),
    };
    let emission = Emission {
        lateness: Duration::from_micros(lateness_us),
        ..Emission::default()
    };
    let aggregates = ["count(*)", "sum(x)"];
    let plan = oracle::plan_windows(windows, emission, &["item"], &aggregates);
    Driver::new(&plan.unwrap(), lanes, 0)
}

/// Sessions with previews at the interval `every`.
fn previewed(every: u64, lateness: u64, lanes: usize, delay: i64) -> Driver {
    let windows = Windows::Session {
        gap: Duration::from_micros(GAP_US as u64),
    };
    let emission = Emission {
        previews: Some(Duration::from_micros(every)),
        lateness: Duration::from_micros(lateness),
        ..Emission::default()
    };
    let aggregates = ["count(*)", "sum(x)"];
    let plan = oracle::plan_windows(windows, emission, &["item"], &aggregates);
    Driver::new(&plan.unwrap(), lanes, delay)
}

/// The results of sessions: item, start, end, count, revision, whether it is retracted.
type Story = (Option<i64>, i64, i64, i64, i64, bool);

fn stories(results: &[RecordBatch]) -> Vec<Story> {
    let mut stories = Vec::new();
    for rows in results {
        let bound = |column: usize| {
            let bounds = rows.column(0).as_struct().column(column);
            bounds.as_primitive::<TimestampMicrosecondType>().clone()
        };
        let int = |column: usize| rows.column(column).as_primitive::<Int64Type>().clone();
        let flag = |name| rows.column_by_name(name).unwrap().as_boolean().clone();
        let revisions = rows.column_by_name("revision").unwrap();
        for row in 0..rows.num_rows() {
            let retracted = flag("is_retracted").value(row);
            let revision = revisions.as_primitive::<Int64Type>().value(row);
            assert_eq!(flag("is_final").value(row), revision >= 0);
            // A retraction has the values of no row.
            assert!(!retracted || int(2).value(row) == 0 && int(3).is_null(row));
            stories.push((
                int(1).is_valid(row).then(|| int(1).value(row)),
                bound(0).value(row),
                bound(1).value(row),
                int(2).value(row),
                revision,
                retracted,
            ));
        }
    }
    stories
}

fn of_item(driver: &Driver, item: i64) -> Vec<Story> {
    let mut stories = stories(driver.results());
    stories.retain(|story| story.0 == Some(item));
    stories
}

#[test]
fn a_late_row_makes_a_session_longer() {
    for lanes in [1, 4] {
        let mut driver = corrected(1_000, lanes);
        driver.send(&[row(0, 100, 1)]);
        advance(&mut driver, 300);
        driver.barrier();
        driver.restart(lanes);
        driver.send(&[row(1, 150, 1), row(2, 160, 1)]);
        driver.barrier();
        driver.restart(5 - lanes);
        driver.send(&[row(1, 120, 1)]);
        driver.end();
        let one = |start, end, count, revision, retracted| {
            (Some(1), start, end, count, revision, retracted)
        };
        assert_eq!(
            of_item(&driver, 1),
            [
                one(100, 180, 1, 0, false),
                // One batch of a partition at a time.
                one(100, 180, 0, 1, true),
                one(100, 230, 2, 1, false),
                one(100, 230, 0, 2, true),
                one(100, 240, 3, 2, false),
                // Within its bounds it is the same session.
                one(100, 240, 4, 3, false),
            ]
        );
        assert!(driver.counts().balances());
    }
}

#[test]
fn a_late_row_joins_sessions_that_have_come_out() {
    let mut driver = corrected(1_000, 1);
    driver.send(&[row(0, 100, 1), row(0, 250, 1)]);
    advance(&mut driver, 500);
    driver.send(&[row(1, 175, 1)]);
    let stories = of_item(&driver, 1);
    assert_eq!(
        stories,
        [
            (Some(1), 100, 180, 1, 0, false),
            (Some(1), 250, 330, 1, 0, false),
            (Some(1), 100, 180, 0, 1, true),
            (Some(1), 250, 330, 0, 1, true),
            (Some(1), 100, 330, 3, 1, false),
        ]
    );
}

#[test]
fn a_session_that_has_come_out_goes_on() {
    for lanes in [1, 4] {
        let mut driver = corrected(1_000, 1);
        driver.send(&[row(0, 100, 1), row(0, 250, 1)]);
        advance(&mut driver, 300);
        driver.send(&[row(1, 175, 1)]);
        driver.barrier();
        driver.restart(lanes);
        let so_far = [
            (Some(1), 100, 180, 1, 0, false),
            (Some(1), 100, 180, 0, 1, true),
        ];
        assert_eq!(of_item(&driver, 1), so_far);
        advance(&mut driver, 400);
        let stories = of_item(&driver, 1);
        assert_eq!(stories[2..], [(Some(1), 100, 330, 3, 0, false)]);
    }
}

#[test]
fn a_late_row_alone_is_a_session_of_its_own() {
    let mut driver = corrected(200, 1);
    advance(&mut driver, 400);
    driver.send(&[row(1, 200, 1)]);
    assert_eq!(of_item(&driver, 1), [(Some(1), 200, 280, 1, 1, false)]);
    // Its session closed more than 200 ago, at the last sealed pane.
    driver.send(&[row(1, 100, 2)]);
    assert_eq!(driver.counts().late, 1);
    assert!(driver.counts().balances());
}

#[test]
fn sessions_that_cannot_be_corrected_any_more_are_let_go() {
    let mut driver = corrected(100, 1);
    driver.send(&[row(0, 100, 1)]);
    advance(&mut driver, 250);
    driver.barrier();
    assert!(driver.stored(0).iter().any(|key| key.starts_with("closed")));
    advance(&mut driver, 1_000);
    driver.barrier();
    assert!(!driver.stored(0).iter().any(|key| key.starts_with("closed")));
}

#[test]
fn a_preview_gives_way_to_what_the_session_has_grown_to() {
    for lanes in [1, 4] {
        let mut driver = previewed(50, 0, lanes, 0);
        driver.send(&[row(0, 100, 1)]);
        advance(&mut driver, 110);
        // It has not changed.
        advance(&mut driver, 120);
        driver.barrier();
        driver.restart(lanes);
        advance(&mut driver, 151);
        driver.send(&[row(0, 170, 1)]);
        advance(&mut driver, 200);
        driver.barrier();
        driver.restart(5 - lanes);
        advance(&mut driver, 400);
        driver.end();
        let one = |start, end, count, revision, retracted| {
            (Some(1), start, end, count, revision, retracted)
        };
        assert_eq!(
            of_item(&driver, 1),
            [
                // It would close in the tick after this one.
                one(100, 180, 1, -3, false),
                // After a restart all are emitted again.
                one(100, 180, 1, -2, false),
                one(100, 180, 0, -1, true),
                one(100, 250, 2, -2, false),
                one(100, 250, 2, 0, false),
            ]
        );
        assert_eq!(driver.state_bytes(), 0);
    }
}

#[test]
fn previews_that_are_not_wanted_any_more_are_forgotten() {
    let windows = Windows::Session {
        gap: Duration::from_micros(GAP_US as u64),
    };
    let aggregates = ["count(*)", "sum(x)"];
    let plan = |emission| oracle::plan_windows(windows.clone(), emission, &["item"], &aggregates);
    let plain = plan(Emission::default()).unwrap();
    for lanes in [1, 4] {
        let mut driver = previewed(50, 0, 1, 0);
        driver.send(&[row(0, 100, 1)]);
        advance(&mut driver, 110);
        driver.barrier();
        let is_kept = |driver: &Driver| driver.stored(0).contains(&"previews");
        assert!(is_kept(&driver));
        driver.restart_as(&plain, lanes);
        driver.barrier();
        assert!(!is_kept(&driver));
        driver.end();
        assert_eq!(sessions(&driver, 1).last(), Some(&(100, 180, 1)));
        assert_eq!(driver.state_bytes(), 0);
    }
}

#[test]
fn a_preview_that_never_was_a_session_is_retracted_when_it_closes() {
    // Two sessions that a row between them joins, with no tick before they are over.
    let mut driver = previewed(1_000, 0, 1, 0);
    driver.send(&[row(0, 1_000, 1), row(0, 1_150, 1)]);
    advance(&mut driver, 1_001);
    driver.send(&[row(1, 1_075, 1)]);
    advance(&mut driver, 1_500);
    let one =
        |start, end, count, revision, retracted| (Some(1), start, end, count, revision, retracted);
    let mut stories = of_item(&driver, 1);
    stories.sort_unstable_by_key(|story| (story.4, story.1));
    assert_eq!(
        stories,
        [
            one(1_000, 1_080, 1, -2, false),
            one(1_150, 1_230, 1, -2, false),
            one(1_000, 1_080, 0, -1, true),
            one(1_150, 1_230, 0, -1, true),
            one(1_000, 1_230, 3, 0, false),
        ]
    );
}

/// A session: item, start, end, and number of rows.
type Session = (Option<i64>, i64, i64, i64);

/// The sessions of rows, by gaps between them.
fn sessions_of(mut rows: Vec<(Option<i64>, i64)>) -> Vec<Session> {
    rows.sort_unstable();
    let mut sessions: Vec<Session> = Vec::new();
    for (item, ts) in rows {
        match sessions.last_mut() {
            Some((last_item, _, end, count)) if *last_item == item && ts <= *end => {
                *end = ts + GAP_US;
                *count += 1;
            }
            _ => sessions.push((item, ts, ts + GAP_US, 1)),
        }
    }
    sessions
}

/// The valid results: the newest revisions that are not retracted.
fn holds(driver: &Driver) -> Result<Vec<Session>, TestCaseError> {
    let mut newest = BTreeMap::new();
    for (item, start, end, count, revision, retracted) in stories(driver.results()) {
        let now = (revision, count, retracted);
        let before = newest.insert((item, start, end), now);
        let grows =
            |(before, _, is_retracted): (i64, i64, bool)| before < revision && !is_retracted;
        prop_assert!(before.is_none_or(grows));
    }
    let holds = newest
        .into_iter()
        .filter(|(_, (_, _, retracted))| !retracted);
    let holds = holds.map(|((item, start, end), (_, count, _))| (item, start, end, count));
    Ok(holds.collect())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, max_shrink_iters: 500, failure_persistence: None, ..ProptestConfig::default() })]

    /// For any order of the rows, the valid results in the end are the sessions of all rows that
    /// were not late.
    #[test]
    fn what_is_not_retracted_is_the_truth(
        rows in rows(150, 400),
        chunk in 1..20_usize,
        portion in portion(),
        lateness in prop_oneof![1..50_u64, 50..1_000_u64],
        lanes in prop_oneof![Just(1_usize), Just(4)],
        barriers in proptest::collection::vec(
            prop_oneof![6 => Just(None), 2 => Just(Some(1_usize)), 1 => Just(Some(4))],
            0..100,
        ),
    ) {
        let mut driver = corrected(lateness, lanes).in_portions(portion);
        for (i, chunk) in rows.chunks(chunk).enumerate() {
            driver.send(chunk);
            if let Some(Some(lanes)) = barriers.get(i) {
                driver.barrier();
                driver.restart(*lanes);
            }
        }
        driver.end();
        prop_assert!(driver.counts().balances());

        let mut rows: Vec<(Option<i64>, i64)> = rows.iter().map(|row| (row.item, row.ts)).collect();
        let came = rows.len();
        for late in driver.late() {
            let of = |name| {
                let times = late.column_by_name(name).unwrap();
                times.as_primitive::<TimestampMicrosecondType>().values().clone()
            };
            let texts = late.column_by_name("row").unwrap().as_string::<i32>();
            for (at, (ts, watermark)) in of("event_time").iter().zip(&of("watermark")).enumerate() {
                prop_assert!(ts + GAP_US + (lateness as i64) < *watermark);
                let row: serde_json::Value = serde_json::from_str(texts.value(at)).unwrap();
                let row = (row["item"].as_i64(), *ts);
                let place = rows.iter().position(|known| *known == row);
                rows.swap_remove(place.unwrap());
            }
        }
        prop_assert_eq!(driver.counts().late, (came - rows.len()) as u64);

        prop_assert_eq!(holds(&driver)?, sessions_of(rows));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, max_shrink_iters: 500, failure_persistence: None, ..ProptestConfig::default() })]

    /// After each preview the valid results are the open sessions of the rows so far. In the end
    /// they are the sessions of all rows.
    #[test]
    fn previews_are_the_sessions_so_far(
        rows in rows(200, 60),
        chunk in 1..20_usize,
        portion in portion(),
        every in 1..200_u64,
        lateness in prop_oneof![Just(0_u64), 1..100_u64],
        barriers in proptest::collection::vec(
            prop_oneof![6 => Just(None), 2 => Just(Some(1_usize)), 1 => Just(Some(4))],
            0..100,
        ),
    ) {
        let mut driver = previewed(every, lateness, 1, 60).in_portions(portion);
        let mut lanes = 1;
        let mut came: Vec<(Option<i64>, i64)> = Vec::new();
        for (i, chunk) in rows.chunks(chunk).enumerate() {
            for partition in 0..PARTITIONS {
                let mut of_partition = chunk.to_vec();
                of_partition.retain(|row| row.partition == partition);
                let before = driver.watermark().as_micros();
                driver.send(&of_partition);
                came.extend(of_partition.iter().map(|row| (row.item, row.ts)));
                let watermark = driver.watermark().as_micros();
                let tick = |time: i64| time.div_euclid(every as i64);
                // With several lanes, a lane may have rows that it has not sent yet.
                if tick(watermark) == tick(before) || lanes > 1 {
                    continue;
                }
                let sessions = sessions_of(came.clone());
                let is_open = |session: &Session| session.2 > watermark;
                let (open, over): (Vec<_>, Vec<_>) = holds(&driver)?.into_iter().partition(is_open);
                let expected = sessions.iter().copied().filter(is_open);
                prop_assert_eq!(open, expected.collect::<Vec<_>>());
                // Sessions that are over but not closed may have their state before.
                let is_part = |part: &Session| {
                    let mut sessions = sessions.iter();
                    sessions.any(|it| it.0 == part.0 && it.1 <= part.1 && part.2 <= it.2)
                };
                prop_assert!(over.iter().all(is_part));
            }
            if let Some(Some(next)) = barriers.get(i) {
                driver.barrier();
                driver.restart(*next);
                lanes = *next;
            }
        }
        driver.end();
        prop_assert_eq!(driver.counts().late, 0);
        prop_assert_eq!(holds(&driver)?, sessions_of(came));
    }
}
