//! Large amounts: events of a user, users that are due at the same time, long keys, state.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, AsArray, Int64Array, RecordBatch},
    datatypes::{DataType, Field, Schema},
};
use tagflow_engine::Port;

use super::{
    boundaries::{changes, count, driver, every, rolling, tag, us},
    definitions::spec,
    driver::Driver,
    event::{AT, DECIMAL, Event, FLOAT, INT, TEXT, TIME},
    reference::{Phase, Reference, Thresholds},
};
use crate::tags::{
    Absence, Again, Aggregate, Function, Over, Profile, Tag, TagKind, Tags, TagsSpec, value::Value,
};

/// Functions from whose result expired events can be subtracted.
const SUBTRACTED: [(Function, Option<usize>); 6] = [
    (Function::Count, None),
    (Function::Sum, Some(DECIMAL)),
    (Function::Min, Some(INT)),
    (Function::Max, Some(AT)),
    (Function::First, Some(TEXT)),
    (Function::LastK { k: 20 }, Some(INT)),
];

/// Functions that are computed again from the remaining tiles.
const FOLDED: [(Function, Option<usize>); 3] = [
    (Function::Sum, Some(FLOAT)),
    (Function::Std, Some(INT)),
    (Function::Distinct { exact_up_to: 100 }, Some(INT)),
];

fn rolled(functions: &[(Function, Option<usize>)], window: u64, tile: u64) -> Vec<Tag> {
    let tags = functions.iter().copied().enumerate();
    let tags = tags.map(|(place, (function, argument))| {
        let kind = TagKind::Aggregate(Aggregate {
            function,
            argument,
            filter: None,
            over: rolling(window, tile),
        });
        tag(&format!("tag_{place}"), kind)
    });
    tags.collect()
}

fn one_user(count: i64) -> Vec<Event> {
    let mut random = 1_u64;
    let event = |place: i64| {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let number = (random >> 40) as i64;
        Event {
            id: Some(place),
            int: Some(number % 1_000),
            float: Some((number % 8) as f64 / 4.0),
            decimal: Some(i128::from(number % 10_000)),
            text: Some((number % 5).to_string()),
            at: Some(number),
            ..Event::new("u", place * 10, [true; 3])
        }
    };
    (0..count).map(event).collect()
}

/// The tags of a user with `events` events over half of them.
fn heavy(functions: &[(Function, Option<usize>)], events: i64, tile: u64) {
    let window = events as u64 * 5;
    let spec = TagsSpec {
        profile: every(window / 2 + 7),
        ..spec(rolled(functions, window, tile))
    };
    let tags = Tags::new(spec.clone()).unwrap();
    let mut driver = Driver::new(&tags, 1);
    let rows = one_user(events);
    for rows in rows.chunks(5_000) {
        driver.send(rows);
        driver.watermark(rows[0].time);
    }
    driver.barrier();
    driver.restart(1);
    let end = events * 10;
    for step in 1..=4 {
        driver.watermark(end + step * window as i64 / 3);
    }
    let fields = Tags::fields(&spec.tags, &spec.input).unwrap();
    let types: Vec<DataType> = fields.iter().map(|it| it.data_type().clone()).collect();
    let reference = Reference {
        spec: &spec,
        types: &types,
        thresholds: &Thresholds::new(),
    };
    let mut seen = 0;
    for profile in driver.output(Tags::PROFILE) {
        let at = profile
            .column(1)
            .as_primitive::<arrow::datatypes::TimestampMicrosecondType>();
        let at = at.value(0);
        let known = &rows[..rows.partition_point(|row| row.time <= at)];
        for (tag, data_type) in types.iter().enumerate() {
            let expected = reference.value(tag, known, at, Phase::End);
            let ours = super::differential::value(profile.column(2 + tag), 0);
            let is_same = super::history::is_same(data_type, &ours, &expected);
            assert!(
                is_same,
                "tag {tag} at {at}: {ours:?} instead of {expected:?}"
            );
        }
        seen += 1;
    }
    assert!(seen >= 6, "{seen}");
    let last = changes(&driver);
    assert!(last.iter().any(|it| it.starts_with("tag_0 set 0 ")));
}

#[test]
fn a_user_of_many_events_is_kept_in_tiles() {
    heavy(&[&SUBTRACTED[..], &FOLDED].concat(), 100_000, 3_000);
}

#[test]
fn a_user_of_many_events_is_kept_exactly() {
    heavy(&SUBTRACTED, 100_000, 1);
    heavy(&FOLDED, 2_000, 1);
}

/// One event of each of some users.
fn users(users: std::ops::Range<usize>, time: i64) -> Vec<Event> {
    let events = users.map(|user| Event::new(&format!("user_{user}"), time, [true, false, false]));
    events.collect()
}

#[test]
fn an_expiry_storm_is_taken_in_parts() {
    const USERS: usize = 100_000;
    let mut driver = driver(spec(vec![tag("x", count(rolling(10, 1)))]));
    driver.send(&users(0..USERS, 0));
    driver.watermark(5);
    driver.clear_outputs();
    driver.watermark(100);
    let first = driver.rows(Port::MAIN);
    assert!((1..=50_000).contains(&first), "{first} in one call");
    driver.barrier();
    let second = driver.rows(Port::MAIN);
    assert!(second - first <= 50_000);
    // Processed users are not due again, and the others are not forgotten.
    driver.restart(2);
    for _ in 0..4 {
        driver.flush();
    }
    assert_eq!(driver.rows(Port::MAIN), USERS);
    let falls = changes(&driver);
    assert!(falls.iter().all(|it| it == "x set 0 @10 expiry"));
    driver.flush();
    assert_eq!(driver.rows(Port::MAIN), USERS);
}

#[test]
fn a_backlog_is_done_before_a_profile() {
    let mut driver = driver(TagsSpec {
        profile: Profile {
            newest: vec![us(50)],
            ..every(50)
        },
        ..spec(vec![tag("x", count(rolling(10, 1)))])
    });
    driver.send(&users(0..60_000, 1));
    driver.watermark(51);
    driver.watermark(101);
    driver.send(&users(0..60_000, 102));
    driver.watermark(105);
    driver.watermark(140);
    assert_eq!(driver.rows(Tags::PROFILE), 120_000);
    driver.barrier();
    assert_eq!(driver.rows(Tags::newest(0)), 60_000);
    // No time has passed since.
    driver.watermark(150);
    driver.barrier();
    assert_eq!(driver.rows(Tags::newest(0)), 60_000);
    let newest = driver.output(Tags::newest(0)).iter();
    for profile in driver.output(Tags::PROFILE).iter().chain(newest) {
        let counts = profile
            .column(2)
            .as_primitive::<arrow::datatypes::Int64Type>();
        assert!(counts.values().iter().all(|count| *count == 0));
    }
}

#[test]
fn a_long_key_is_a_key() {
    let long = "k".repeat(10 << 10);
    let mut driver = driver(spec(vec![tag("x", count(Over::Lifetime))]));
    let mut other = long.clone();
    other.push('!');
    driver.send(&[
        Event::new(&long, 0, [true; 3]),
        Event::new(&other, 1, [true; 3]),
        Event::new(&long, 2, [true; 3]),
        Event::new("", 3, [true; 3]),
    ]);
    driver.watermark(1);
    driver.barrier();
    driver.restart(3);
    driver.watermark(10);
    let keys = driver.output(Port::MAIN).iter().flat_map(|batch| {
        let keys = batch.column(0).as_string::<i32>();
        keys.iter()
            .map(|key| key.unwrap().to_owned())
            .collect::<Vec<_>>()
    });
    let mut keys: Vec<String> = keys.collect();
    keys.sort();
    assert_eq!(keys, [String::new(), long.clone(), long, other]);
}

#[test]
fn a_key_may_be_a_number() {
    let utc = DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, Some("UTC".into()));
    let schema = Arc::new(Schema::new(vec![
        Field::new("ts", utc, false),
        Field::new("user_id", DataType::Int64, true),
    ]));
    let spec = TagsSpec {
        input: Arc::clone(&schema),
        id: None,
        shown: 2,
        profile: every(10),
        ..spec(vec![tag("x", count(Over::Lifetime))])
    };
    let mut driver = driver(spec);
    let times = arrow::array::TimestampMicrosecondArray::from(vec![1, 2, 3, 4]);
    let keys = Int64Array::from(vec![Some(i64::MIN), Some(7), None, Some(7)]);
    let columns: Vec<ArrayRef> = vec![Arc::new(times.with_timezone("UTC")), Arc::new(keys)];
    driver.send_batch(0, &RecordBatch::try_new(schema, columns).unwrap());
    driver.watermark(3);
    driver.barrier();
    driver.restart(2);
    driver.watermark(11);
    let mut known = Vec::new();
    for profile in driver.output(Tags::PROFILE) {
        for place in 0..profile.num_rows() {
            known.push(
                [0, 2].map(|column| match Value::at(profile.column(column), place) {
                    Value::Int(value) => value,
                    other => panic!("{other:?}"),
                }),
            );
        }
    }
    known.sort_unstable();
    assert_eq!(known, [[i64::MIN, 1], [7, 2]]);
    assert_eq!(driver.counts().filtered, 1);
}

#[test]
fn a_commit_writes_what_changed() {
    const USERS: usize = 20_000;
    let mut driver = driver(spec(vec![
        tag("x", count(Over::Lifetime)),
        tag("y", count(rolling(1_000_000, 1))),
    ]));
    driver.send(&users(0..USERS, 0));
    driver.watermark(1);
    driver.barrier();
    driver.write();
    let (all, all_bytes) = (driver.put_rows, driver.put_bytes);
    assert!(all >= USERS);
    driver.barrier();
    driver.write();
    assert_eq!(driver.put_rows, 0, "nothing changed");
    let mut written = 0;
    for commit in 1..=100 {
        let first = commit * 97 % 100 * (USERS / 100);
        driver.send(&users(first..first + USERS / 100, commit as i64));
        driver.watermark(commit as i64 + 1);
        driver.barrier();
        driver.write();
        if commit == 1 {
            assert!(driver.put_rows < USERS / 50, "{}", driver.put_rows);
            assert!(driver.put_bytes < all_bytes / 20, "{}", driver.put_bytes);
        }
        written += driver.put_rows;
    }
    // Each changed once: written about as often as the number of users doubles.
    assert!(written < 10 * USERS, "{written}");
    let stored = driver.stored_rows();
    assert!(stored < 3 * USERS, "{stored}");
}

#[test]
fn what_is_forgotten_is_not_kept() {
    const USERS: usize = 1_000;
    let mut driver = driver(TagsSpec {
        state_ttl: Some(us(100)),
        ..spec(vec![
            tag("x", count(Over::Lifetime)),
            tag(
                "y",
                TagKind::Absence(Absence {
                    after: 8,
                    expect: 9,
                    same: vec![TIME],
                    within: us(5),
                    again: Again::Each,
                }),
            ),
        ])
    });
    driver.send(&users(0..USERS, 0));
    driver.watermark(10);
    driver.barrier();
    driver.send(&users(0..1, 50));
    driver.watermark(101);
    driver.barrier();
    driver.restart(1);
    driver.send(&users(0..USERS / 2, 101));
    driver.watermark(102);
    // The user with an event at 50 continues, the others begin.
    let again = changes(&driver)
        .into_iter()
        .filter(|it| it.starts_with("x set"));
    let again: Vec<String> = again.skip(USERS + 1).collect();
    assert_eq!(
        again
            .iter()
            .filter(|it| **it == "x set 3 @101 event")
            .count(),
        1
    );
    assert_eq!(again.len(), USERS / 2);
    driver.watermark(1_000);
    driver.barrier();
    assert_eq!(driver.stored_rows(), 2, "the watermark and the layout");
}
