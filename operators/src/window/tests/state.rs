//! The content of snapshots, and fingerprints.

use std::time::Duration;

use tagflow_engine::EventTime;

use super::{
    driver::Driver,
    oracle,
    rows::{PARTITIONS, Row},
};
use crate::window::{Emission, Period, Windows, changes::Revisions};

fn row(partition: usize, ts: i64) -> Row {
    Row {
        partition,
        ts,
        campaign: Some("a".into()),
        item: None,
        x: Some(1),
        y: None,
        s: None,
        b: None,
        o: 0,
    }
}

#[test]
fn a_snapshot_writes_only_what_changed() {
    let aggregation = oracle::plan(&[], &["count(*)"]).unwrap();
    let mut driver = Driver::new(&aggregation, 1, 0);
    driver.send(&[row(0, 10), row(0, 70)]);
    driver.barrier();
    assert_eq!(driver.stored(0), ["w0-1", "w60-1"]);
    driver.barrier();
    assert_eq!(driver.stored(0), ["w0-1", "w60-1"]);
    driver.send(&[row(0, 71)]);
    driver.barrier();
    assert_eq!(driver.stored(0), ["w0-1", "w60-1", "w60-2"]);
}

#[test]
fn many_parts_of_a_window_become_one() {
    let aggregation = oracle::plan(&[], &["count(*)"]).unwrap();
    let mut driver = Driver::new(&aggregation, 1, 0);
    for _ in 0..4 {
        driver.send(&[row(0, 10)]);
        driver.barrier();
    }
    assert_eq!(driver.stored(0).len(), 4);
    driver.send(&[row(0, 10)]);
    driver.barrier();
    assert_eq!(driver.stored(0), ["w0-6"]);
}

#[test]
fn a_closed_window_leaves_only_the_watermark() {
    let aggregation = oracle::plan(&[], &["count(*)"]).unwrap();
    let mut driver = Driver::new(&aggregation, 1, 0);
    driver.send(&[row(0, 10)]);
    driver.barrier();
    driver.restart(1);
    assert!(driver.state_bytes() > 0);
    let rows: Vec<Row> = (0..PARTITIONS)
        .map(|partition| row(partition, 60))
        .collect();
    driver.send(&rows);
    driver.end();
    driver.barrier();
    assert_eq!(driver.stored(0), ["watermark"]);
    assert_eq!(driver.state_bytes(), 0);
}

#[test]
fn parts_are_numbered_on_after_a_restart() {
    let aggregation = oracle::plan(&[], &["count(*)"]).unwrap();
    let mut driver = Driver::new(&aggregation, 1, 0);
    driver.send(&[row(0, -10)]);
    driver.barrier();
    driver.restart(1);
    driver.send(&[row(0, -10)]);
    driver.barrier();
    assert_eq!(driver.stored(0), ["w-60-1", "w-60-2"]);
}

#[test]
fn a_fingerprint_is_of_what_the_groups_mean() {
    let of = |keys: &[&str]| oracle::plan(keys, &["count(x)"]).unwrap().fingerprint();
    let same = of(&["campaign"]);
    assert_eq!(same, "tumble 60us by ts; key campaign: Utf8");
    for keys in [&["item"][..], &[], &["campaign", "item"]] {
        assert_ne!(of(keys), same);
    }
    // Panes depend on the time for corrections, but not on previews.
    let emitted = |previews, lateness| {
        let size = Duration::from_micros(60);
        let windows = Windows::Tumble(Period::Fixed(size));
        let emission = Emission {
            previews,
            lateness,
            ttl: None,
        };
        let plan = oracle::plan_windows(windows, emission, &["campaign"], &["sum(x)"]);
        plan.unwrap().fingerprint()
    };
    assert_eq!(
        emitted(Some(Duration::from_micros(5)), Duration::ZERO),
        same
    );
    let corrected = emitted(None, Duration::from_mins(1));
    assert_eq!(
        corrected,
        "tumble 60us by ts; corrected for 1m; key campaign: Utf8"
    );
    assert_ne!(emitted(None, Duration::from_mins(2)), corrected);
}

#[test]
fn a_definition_is_of_what_the_state_of_an_aggregate_means() {
    let of = |aggregate: &str| {
        let plan = oracle::plan(&["campaign"], &[aggregate]).unwrap();
        let mut definitions = plan.definitions();
        definitions.next().unwrap().1
    };
    let same = of("count(x)");
    assert_eq!(same, "count(x); kept as Int64");
    assert_eq!(of("count(x) AS n"), same);
    for other in [
        "count(y)",
        "count(DISTINCT x)",
        "count(x) FILTER (WHERE b)",
        "sum(x)",
    ] {
        assert_ne!(of(other), same);
    }
    // A string is not the column of that name, and keeps its quotes.
    let text = of("count(*) FILTER (WHERE s = 'campaign')");
    assert!(text.contains("s = 'campaign'"), "{text}");
    assert_ne!(text, of("count(*) FILTER (WHERE s = campaign)"));
    assert!(of("count(*) FILTER (WHERE s IN ('it''s', 'b'))").contains("'it''s'"));
    assert!(of("string_agg(s, ',' ORDER BY s || 'x')").contains("'x'"));
    assert_ne!(
        of("array_agg(x ORDER BY o)"),
        of("array_agg(x ORDER BY o DESC)")
    );
}

#[test]
fn revisions_are_forgotten_when_their_window_has_settled() {
    let mut revisions = Revisions::default();
    let mut next = |end| revisions.next(end);
    assert_eq!([next(60), next(60), next(61)], [1, 2, 1]);
    revisions.retire(EventTime::from_micros(60));
    assert_eq!([revisions.next(60), revisions.next(61)], [1, 2]);
}
