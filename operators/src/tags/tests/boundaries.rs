//! The exact instants at which something begins or ends.

use std::time::Duration;

use arrow::{
    array::{Array, AsArray},
    datatypes::TimestampMicrosecondType,
};
use datafusion::logical_expr::Operator;
use tagflow_engine::Port;

use super::{
    definitions::{Condition, rule, spec},
    driver::Driver,
    event::{Event, FLAG, FLOAT, INT},
};
use crate::row_errors::RowErrors;
use crate::tags::{
    Absence, Again, Aggregate, Function, Funnel, FunnelMode, Over, Profile, Score, Segment,
    Segments, Tag, TagKind, Tags, TagsSpec, Thresholds, TimeSince, TopK,
};

const A: [bool; 3] = [true, false, false];
const B: [bool; 3] = [false, true, false];
const C: [bool; 3] = [false, false, true];
const BOTH: [bool; 3] = [true, true, false];

pub(super) fn us(length: u64) -> Duration {
    Duration::from_micros(length)
}

/// Profiles at the multiples of `length`.
pub(super) fn every(length: u64) -> Profile {
    Profile {
        every: Some(us(length)),
        newest: Vec::new(),
    }
}

pub(super) fn tag(name: &str, kind: TagKind) -> Tag {
    Tag {
        name: name.into(),
        kind,
        ttl: None,
    }
}

pub(super) fn count(over: Over) -> TagKind {
    TagKind::Aggregate(Aggregate {
        function: Function::Count,
        argument: None,
        filter: None,
        over,
    })
}

pub(super) fn rolling(window: u64, tile: u64) -> Over {
    Over::Rolling {
        window: us(window),
        tile: us(tile),
    }
}

/// The time of the last event.
pub(super) fn last_at() -> TagKind {
    TagKind::Aggregate(Aggregate {
        function: Function::Last,
        argument: Some(super::event::TIME),
        filter: None,
        over: Over::Lifetime,
    })
}

pub(super) fn driver(spec: TagsSpec) -> Driver {
    Driver::new(&Tags::new(spec).unwrap(), 1)
}

pub(super) fn events(flags: [bool; 3], times: &[i64]) -> Vec<Event> {
    let mut events: Vec<Event> = times.iter().map(|at| Event::new("u", *at, flags)).collect();
    for (place, event) in events.iter_mut().enumerate() {
        event.id = Some(place as i64);
    }
    events
}

/// The changes so far: `tag op new @effective cause`.
pub(super) fn changes(driver: &Driver) -> Vec<String> {
    let mut lines = Vec::new();
    for batch in driver.output(Port::MAIN) {
        let text = |column: usize, place: usize| {
            let column = batch.column(column).as_string::<i32>();
            if column.is_null(place) {
                "null"
            } else {
                column.value(place)
            }
        };
        let effective = batch.column(6).as_primitive::<TimestampMicrosecondType>();
        lines.extend((0..batch.num_rows()).map(|place| {
            format!(
                "{} {} {} @{} {}",
                text(1, place),
                text(2, place),
                text(4, place),
                effective.value(place),
                text(7, place)
            )
        }));
    }
    lines
}

/// The moves: `segment op @effective why`.
pub(super) fn moves(driver: &Driver) -> Vec<String> {
    let mut lines = Vec::new();
    for batch in driver.output(Tags::SEGMENTS) {
        let text = |column: usize| batch.column(column).as_string::<i32>();
        let effective = batch.column(3).as_primitive::<TimestampMicrosecondType>();
        lines.extend((0..batch.num_rows()).map(|place| {
            format!(
                "{} {} @{} {}",
                text(0).value(place),
                text(2).value(place),
                effective.value(place),
                text(4).value(place)
            )
        }));
    }
    lines
}

/// The changes of a tag through `events` up to `until`.
fn told(kind: TagKind, ttl: Option<Duration>, events: &[Event], until: i64) -> Vec<String> {
    let tag = Tag {
        ttl,
        ..tag("x", kind)
    };
    let mut driver = driver(spec(vec![tag]));
    driver.send(events);
    driver.watermark(until + 1);
    changes(&driver)
}

#[test]
fn an_exact_window_is_open_at_its_begin() {
    let rows = told(count(rolling(10, 1)), None, &events(A, &[100, 105]), 114);
    assert_eq!(
        rows,
        [
            "x set 1 @100 event",
            "x set 2 @105 event",
            "x set 1 @110 expiry"
        ]
    );
    let rows = told(count(rolling(10, 1)), None, &events(A, &[100, 110]), 119);
    assert_eq!(
        rows,
        [
            "x set 1 @100 event",
            "x set 0 @110 expiry",
            "x set 1 @110 event"
        ],
        "what leaves at an instant leaves before the events of it"
    );
}

#[test]
fn a_tile_leaves_with_its_last_instant() {
    // 100 to 104 are one tile; 105 belongs to the next.
    let rows = told(
        count(rolling(10, 5)),
        None,
        &events(A, &[100, 104, 105]),
        200,
    );
    assert_eq!(
        rows,
        [
            "x set 1 @100 event",
            "x set 2 @104 event",
            "x set 3 @105 event",
            "x set 1 @114 expiry",
            "x set 0 @119 expiry"
        ]
    );
    // Also before 1970: -5 to -1 are one tile.
    let rows = told(count(rolling(10, 5)), None, &events(A, &[-5, -1, 0]), 8);
    assert_eq!(rows[2..], ["x set 3 @0 event"]);
}

#[test]
fn a_value_lasts_until_its_ttl() {
    let rows = told(last_at(), Some(us(10)), &events(A, &[0, 9, 19]), 40);
    assert_eq!(
        rows,
        [
            "x set 1970-01-01T00:00:00Z @0 event",
            "x set 1970-01-01T00:00:00.000009Z @9 event",
            "x set null @19 ttl",
            "x set 1970-01-01T00:00:00.000019Z @19 event",
            "x set null @29 ttl"
        ]
    );
}

fn absence(within: u64, again: Again) -> TagKind {
    TagKind::Absence(Absence {
        after: FLAG,
        expect: FLAG + 1,
        same: vec![],
        within: us(within),
        again,
    })
}

#[test]
fn what_is_expected_may_come_at_the_last_instant() {
    let met = [events(A, &[0]), events(B, &[10])].concat();
    let missed = [events(A, &[0]), events(B, &[11])].concat();
    let fired = "x set true @10 absence";
    for again in [Again::Each, Again::First, Again::Restart] {
        assert!(told(absence(10, again), None, &met, 50).is_empty());
        assert_eq!(told(absence(10, again), None, &missed, 50), [fired]);
        // At the same instant in any order, or as a single event.
        let mut at_once = [events(A, &[0]), events(B, &[0])].concat();
        assert!(told(absence(10, again), None, &at_once, 50).is_empty());
        at_once.swap(0, 1);
        assert!(told(absence(10, again), None, &at_once, 50).is_empty());
        assert!(told(absence(10, again), None, &events(BOTH, &[0]), 50).is_empty());
    }
}

#[test]
fn a_wait_goes_on_through_its_last_instant() {
    let twice = events(A, &[0, 10]);
    let fired = |again| told(absence(10, again), Some(us(3)), &twice, 50);
    let first = ["x set true @10 absence", "x set false @13 ttl"];
    let second = ["x set true @20 absence", "x set false @23 ttl"];
    assert_eq!(fired(Again::Each), [first, second].concat());
    assert_eq!(fired(Again::First), first);
    assert_eq!(fired(Again::Restart), second);
    let apart = told(
        absence(10, Again::First),
        Some(us(3)),
        &events(A, &[0, 11]),
        50,
    );
    assert_eq!(apart.len(), 4, "{apart:?}");
}

#[test]
fn a_firing_fires_once_nobody_needs_to_send_anything() {
    let mut driver = driver(spec(vec![tag("x", absence(10, Again::Each))]));
    driver.send(&events(A, &[0]));
    driver.watermark(10);
    assert!(changes(&driver).is_empty(), "10 is not over");
    driver.watermark(11);
    assert_eq!(changes(&driver), ["x set true @10 absence"]);
}

#[test]
fn a_late_event_takes_back_what_fired() {
    let mut driver = driver(TagsSpec {
        lateness: us(100),
        ..spec(vec![tag("x", absence(10, Again::Each))])
    });
    driver.send(&events(A, &[0]));
    driver.watermark(50);
    driver.send(&events(B, &[10]));
    assert_eq!(
        changes(&driver),
        ["x set true @10 absence", "x retract false @10 late_event"]
    );
    // 49 - 100 is the last instant that counts.
    driver.send(&events(A, &[-50, -51]));
    assert_eq!(driver.rows(Port::SIDE), 1);
    // It was due at -40, before the rows that have been told.
    assert_eq!(changes(&driver)[2..], ["x set true @10 late_event"]);
}

#[test]
fn a_firing_is_taken_back_after_later_events() {
    let mut driver = driver(TagsSpec {
        lateness: us(100),
        ..spec(vec![tag("x", absence(10, Again::Each))])
    });
    driver.send(&events(A, &[0, 20]));
    driver.watermark(25);
    driver.send(&events(B, &[5]));
    let expected = ["x set true @10 absence", "x retract false @10 late_event"];
    assert_eq!(changes(&driver), expected);
}

#[test]
fn a_funnel_knows_the_last_within() {
    let funnel = |mode| {
        TagKind::Funnel(Funnel {
            within: us(10),
            mode,
            steps: vec![("a".into(), FLAG), ("b".into(), FLAG + 1)],
        })
    };
    let passage = [events(A, &[0]), events(B, &[9])].concat();
    assert_eq!(
        told(funnel(FunnelMode::Default), None, &passage, 50),
        [
            "x set a @0 event",
            "x set b @9 event",
            "x set null @10 expiry"
        ],
        "a passage is over when its first step leaves"
    );
    let too_long = [events(A, &[0]), events(B, &[10])].concat();
    assert_eq!(
        told(funnel(FunnelMode::Default), None, &too_long, 50),
        ["x set a @0 event", "x set null @10 expiry"]
    );
    let at_once = events(BOTH, &[0]);
    let stage = |mode| told(funnel(mode), None, &at_once, 5);
    assert_eq!(stage(FunnelMode::Default), ["x set b @0 event"]);
    assert_eq!(stage(FunnelMode::StrictIncrease), ["x set a @0 event"]);
}

/// Members have 2 events or more. They leave with fewer, or after 30 without an event.
fn segments(hold: u64) -> TagsSpec {
    let since = TagKind::TimeSince(TimeSince {
        tag: 0,
        unit: us(10),
    });
    let tags = vec![
        tag("last", last_at()),
        tag("events", count(rolling(20, 1))),
        tag("age", since),
    ];
    let names = ["events".to_owned(), "age".to_owned()];
    let enter = Condition::Compare(0, Operator::GtEq, 2);
    let few = Condition::Compare(0, Operator::Lt, 2);
    let old = Condition::Compare(1, Operator::GtEq, 3);
    let exit = Condition::And(Box::new(few), Box::new(old));
    TagsSpec {
        segments: Segments {
            errors: RowErrors::default(),
            tags: vec![1, 2],
            segments: vec![Segment {
                name: "busy".into(),
                enter: rule("enter", &enter, &names, vec![]),
                exit: Some(rule("exit", &exit, &names, vec![(1, vec![3])])),
                hold_at_least: us(hold),
            }],
        },
        ..spec(tags)
    }
}

#[test]
fn a_segment_is_left_by_time_alone() {
    let mut driver = driver(segments(0));
    driver.send(&events(A, &[0, 5]));
    driver.watermark(35);
    assert_eq!(moves(&driver), ["busy entered @5 enter (events = 2)"]);
    driver.watermark(36);
    let left = "busy left @35 exit (events = 0, age = 3)";
    assert_eq!(moves(&driver)[1..], [left]);
}

#[test]
fn regression_a_hold_ends_the_same_however_rows_come() {
    // It may leave at 105. An event at that instant would let it stay.
    let rows = events(A, &[0, 5, 105, 105]);
    let expected = [
        "busy entered @5 enter (events = 2)",
        "busy left @105 exit (events = 0, age = 3)",
        "busy entered @105 enter (events = 2)",
    ];
    let mut at_once = driver(segments(100));
    at_once.send(&rows);
    at_once.watermark(200);
    let mut one_by_one = driver(segments(100));
    for row in &rows {
        one_by_one.send(std::slice::from_ref(row));
    }
    for watermark in [10, 40, 90, 200] {
        one_by_one.watermark(watermark);
    }
    assert_eq!(moves(&at_once), expected);
    assert_eq!(moves(&one_by_one), expected);
}

#[test]
fn a_key_is_forgotten_after_its_last_event() {
    let mut driver = driver(TagsSpec {
        state_ttl: Some(us(100)),
        lateness: us(300),
        ..spec(vec![tag("x", count(Over::Lifetime))])
    });
    driver.send(&events(A, &[0, 100]));
    driver.watermark(200);
    let first = [
        "x set 1 @0 event",
        "x forget null @100 state_ttl",
        "x set 1 @100 event",
    ];
    assert_eq!(
        changes(&driver),
        first,
        "100 after the last event it is forgotten"
    );
    driver.watermark(201);
    assert_eq!(changes(&driver)[3..], ["x forget null @200 state_ttl"]);
    // A late event of a key that should have been forgotten.
    driver.watermark(300);
    driver.send(&events(A, &[150]));
    let late = ["x set 1 @150 late_event", "x forget null @299 state_ttl"];
    assert_eq!(changes(&driver)[4..], late);
    driver.send(&events(A, &[250]));
    driver.watermark(1_000);
    let late = ["x set 1 @250 late_event", "x forget null @350 state_ttl"];
    assert_eq!(changes(&driver)[6..], late);
}

#[test]
fn regression_a_profile_of_nobody_is_no_profile() {
    let mut driver = driver(TagsSpec {
        profile: every(10),
        ..spec(vec![tag("x", count(Over::Lifetime))])
    });
    driver.send(&events(A, &[11]));
    driver.watermark(11);
    driver.watermark(25);
    assert_eq!(driver.rows(Tags::PROFILE), 1);
}

#[test]
fn regression_a_time_that_comes_back_is_due_once() {
    // The next instant is 20, then 15, and then 20 again.
    let tags = vec![
        tag("x", count(rolling(20, 1))),
        tag("y", absence(10, Again::Each)),
    ];
    let mut driver = driver(spec(tags));
    driver.send(&events(B, &[0]));
    driver.watermark(1);
    driver.send(&events(A, &[5]));
    driver.watermark(6);
    driver.send(&events(B, &[6]));
    driver.watermark(7);
    driver.watermark(100);
    let falls = changes(&driver)
        .into_iter()
        .filter(|it| it.contains("expiry"));
    assert_eq!(
        falls.collect::<Vec<_>>(),
        [
            "x set 2 @20 expiry",
            "x set 1 @25 expiry",
            "x set 0 @26 expiry"
        ]
    );
}

#[test]
fn regression_a_score_changes_with_what_it_is_made_of() {
    let thresholds = Thresholds::At(vec![2.0, 4.0]);
    let score = |tag| {
        TagKind::Score(Score {
            tag,
            thresholds: thresholds.clone(),
            is_reversed: true,
        })
    };
    let since = TagKind::TimeSince(TimeSince {
        tag: 0,
        unit: us(10),
    });
    let tags = vec![
        Tag {
            ttl: Some(us(60)),
            ..tag("last", last_at())
        },
        tag("age", since),
        tag("recency", score(1)),
    ];
    let mut driver = driver(spec(tags));
    driver.send(&events(A, &[0]));
    driver.watermark(100);
    let rows = changes(&driver);
    let of_score = rows.iter().filter(|it| it.starts_with("recency"));
    assert_eq!(
        of_score.collect::<Vec<_>>(),
        [
            "recency set 3 @0 event",
            "recency set 2 @20 expiry",
            "recency set 1 @40 expiry",
            "recency set null @60 ttl"
        ]
    );
}

#[test]
fn regression_a_score_of_a_time_goes_on_from_what_was_told() {
    let last = TagKind::Aggregate(Aggregate {
        function: Function::Last,
        argument: Some(super::event::TIME),
        filter: None,
        over: rolling(100, 1),
    });
    let days = TagKind::TimeSince(TimeSince {
        tag: 0,
        unit: us(1),
    });
    let recency = TagKind::Score(Score {
        tag: 1,
        thresholds: Thresholds::Quantiles(2),
        is_reversed: false,
    });
    let tags = vec![
        tag("last", last),
        tag("days", days),
        tag("recency", recency),
    ];
    let mut driver = driver(spec(tags.clone()));
    driver.send(&[Event::new("a", 0, A), Event::new("b", 20, A)]);
    driver.watermark(102);
    // The threshold rises at 60, above the time at the last evaluation.
    assert_eq!(
        recency_of_a(&driver),
        [["null", "1"], ["1", "2"], ["2", "null"]]
    );

    // It also rises here, and the score stays unchanged: the forgotten score is a 2.
    let mut driver = self::driver(TagsSpec {
        state_ttl: Some(us(70)),
        ..spec(tags)
    });
    driver.send(&[Event::new("a", -1, A), Event::new("b", 0, A)]);
    driver.watermark(90);
    let told = recency_of_a(&driver);
    assert_eq!(
        told.last(),
        Some(&["2".to_owned(), "null".to_owned()]),
        "{told:?}"
    );
}

/// The emitted old and new values.
fn recency_of_a(driver: &Driver) -> Vec<[String; 2]> {
    let mut told = Vec::new();
    for batch in driver.output(Port::MAIN) {
        let column = |place: usize| batch.column(place).as_string::<i32>();
        for row in 0..batch.num_rows() {
            if (column(0).value(row), column(1).value(row)) == ("a", "recency") {
                let text = |place: usize| column(place).iter().nth(row).flatten();
                told.push([3, 4].map(|place| text(place).unwrap_or("null").to_owned()));
            }
        }
    }
    told
}

#[test]
fn regression_a_funnel_has_a_ttl() {
    let funnel = TagKind::Funnel(Funnel {
        within: us(100),
        mode: FunnelMode::StrictOrder,
        steps: vec![("a".into(), FLAG), ("b".into(), FLAG + 1)],
    });
    let rows = [events(A, &[0]), events([false; 3], &[9])].concat();
    let rows = told(funnel, Some(us(10)), &rows, 50);
    assert_eq!(rows, ["x set a @0 event", "x set null @10 ttl"]);
}

/// The changes of an aggregate until 14 µs.
fn told_of(function: Function, argument: usize, over: Over, events: &[Event]) -> Vec<String> {
    let kind = TagKind::Aggregate(Aggregate {
        function,
        argument: Some(argument),
        filter: None,
        over,
    });
    told(kind, None, events, 14)
}

#[test]
fn regression_sums_that_do_not_fit_are_null() {
    let ints = |values: [i64; 3]| {
        let mut rows = events(A, &[0, 5, 6]);
        for (row, value) in rows.iter_mut().zip(values) {
            row.int = Some(value);
        }
        rows
    };
    let most = i64::MAX;
    let first = format!("x set {most} @0 event");
    let again = format!("x set {} @6 event", most - 2);
    for over in [Over::Lifetime, rolling(10, 1)] {
        let rows = ints([most, 1, -3]);
        let mut expected = vec![first.as_str(), "x set null @5 event", again.as_str()];
        if over != Over::Lifetime {
            expected.push("x set -2 @10 expiry");
        }
        assert_eq!(told_of(Function::Sum, INT, over, &rows), expected);
    }
    let means = told_of(
        Function::Avg,
        INT,
        Over::Lifetime,
        &ints([most, most, most]),
    );
    assert_eq!(means, [format!("x set {} @0 event", most as f64)]);
}

#[test]
fn regression_a_deviation_of_nan_is_nan() {
    let floats = |values: &[f64]| {
        let times: Vec<i64> = (0..values.len() as i64).collect();
        let mut rows = events(A, &times);
        for (row, value) in rows.iter_mut().zip(values) {
            row.float = Some(*value);
        }
        rows
    };
    let told = |function, over, values: &[f64]| told_of(function, FLOAT, over, &floats(values));
    let rows = [1.0, f64::NAN, 3.0];
    for over in [Over::Lifetime, rolling(20, 1)] {
        assert_eq!(told(Function::Std, over, &rows), ["x set NaN @1 event"]);
        let means = ["x set 1 @0 event", "x set NaN @1 event"];
        assert_eq!(told(Function::Avg, over, &rows), means);
    }
    // As soon as NaN has left, the value is a number again.
    let rows = [f64::NAN, 1.0, 3.0];
    let left = format!("x set {} @10 expiry", 2_f64.sqrt());
    let expected = ["x set NaN @1 event", &left, "x set null @11 expiry"];
    assert_eq!(told(Function::Std, rolling(10, 1), &rows), expected);
    assert_eq!(
        told(Function::Std, Over::Lifetime, &[2.5; 9]),
        ["x set 0 @1 event"]
    );
}

#[test]
fn regression_zeros_are_one_value_and_so_are_nans() {
    let nan = f64::from_bits(0xfff8_0000_0000_0001);
    let mut rows = events(A, &[0, 1, 2, 3, 4]);
    for (row, value) in rows.iter_mut().zip([0.0, -0.0, f64::NAN, nan, -0.0]) {
        row.float = Some(value);
    }
    let distinct = Function::Distinct { exact_up_to: 100 };
    assert_eq!(
        told_of(distinct, FLOAT, Over::Lifetime, &rows),
        ["x set 1 @0 event", "x set 2 @2 event"]
    );
    let top = TagKind::TopK(TopK {
        argument: FLOAT,
        weight: None,
        filter: None,
        k: 5,
        half_life: us(1000),
    });
    assert_eq!(
        told(top, None, &rows, 14),
        [
            "x set [0] @0 event",
            "x set [0,\"NaN\"] @2 event",
            "x set [\"NaN\",0] @3 event",
            "x set [0,\"NaN\"] @4 event"
        ]
    );
}

#[test]
fn regression_an_empty_text_is_not_null_to_an_absence() {
    let kind = TagKind::Absence(Absence {
        after: FLAG,
        expect: FLAG + 1,
        same: vec![super::event::TEXT],
        within: us(10),
        again: Again::Each,
    });
    let fired = |after: Option<&str>, expected: Option<&str>| {
        let mut rows = [events(A, &[0]), events(B, &[5])].concat();
        rows[0].text = after.map(Into::into);
        rows[1].text = expected.map(Into::into);
        !told(kind.clone(), None, &rows, 14).is_empty()
    };
    for (one, other) in [(None, Some("")), (Some(""), None), (Some("c"), None)] {
        assert!(fired(one, other), "{one:?} {other:?}");
    }
    for same in [None, Some(""), Some("c")] {
        assert!(!fired(same, same), "{same:?}");
    }
}

#[test]
fn regression_a_strict_funnel_remembers_earlier_steps() {
    let furthest = |mode, rows: &[(i64, [bool; 3])]| {
        let kind = TagKind::Funnel(Funnel {
            within: us(100),
            mode,
            steps: vec![
                ("a".into(), FLAG),
                ("b".into(), FLAG + 1),
                ("c".into(), FLAG + 2),
            ],
        });
        let rows = rows
            .iter()
            .flat_map(|(time, flags)| events(*flags, &[*time]));
        let rows: Vec<Event> = rows.collect();
        let changes = told(kind, None, &rows, 50);
        let last = changes.last().unwrap();
        last.split(' ').nth(2).unwrap().to_owned()
    };
    // A step at the time of the next one does not replace an earlier one.
    let again = [(0, A), (5, A), (5, B), (9, C)];
    assert_eq!(furthest(FunnelMode::StrictIncrease, &again), "c");
    let at_once = [(5, A), (5, B), (9, C)];
    assert_eq!(furthest(FunnelMode::StrictIncrease, &at_once), "a");
    // A first step that is always true.
    let any = [(0, A), (5, BOTH), (9, [true, false, true])];
    assert_eq!(furthest(FunnelMode::StrictIncrease, &any), "c");
    // As in ClickHouse: a repeated first step ends nothing, and neither does, in strict order, a
    // step that was reached.
    let cases: [(&str, [bool; 3], [&str; 2]); 3] = [
        ("abac", A, ["c", "c"]),
        ("abbc", B, ["c", "b"]),
        ("abc, no step between", [false; 3], ["b", "c"]),
    ];
    for (name, between, expected) in cases {
        let rows = [(0, A), (1, B), (2, between), (3, C)];
        let modes = [FunnelMode::StrictOrder, FunnelMode::StrictDeduplication];
        assert_eq!(modes.map(|mode| furthest(mode, &rows)), expected, "{name}");
    }
    // Events at the same time have the order of their steps, for any arrival order.
    assert_eq!(
        furthest(FunnelMode::Default, &[(5, C), (5, B), (5, A)]),
        "c"
    );
    let twice = [(0, A), (5, B), (5, B), (6, C)];
    assert_eq!(furthest(FunnelMode::StrictDeduplication, &twice), "b");
}

#[test]
fn regression_events_of_one_time_leave_a_funnel_together() {
    let funnel = TagKind::Funnel(Funnel {
        within: us(10),
        mode: FunnelMode::Default,
        steps: vec![("a".into(), FLAG), ("b".into(), FLAG + 1)],
    });
    // The second step precedes the first of its time.
    let rows = [(0, A), (5, B), (5, A)];
    let rows = rows
        .iter()
        .flat_map(|(time, flags)| events(*flags, &[*time]));
    let rows: Vec<Event> = rows.collect();
    assert_eq!(
        told(funnel, None, &rows, 50),
        [
            "x set a @0 event",
            "x set b @5 event",
            "x set null @15 expiry"
        ]
    );
}
