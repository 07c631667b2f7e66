//! Tags and segments that are added and removed at a restart.

use arrow::{array::AsArray, datatypes::Int64Type};
use datafusion::logical_expr::Operator;
use proptest::{collection::vec, prelude::*};
use tagflow_engine::Port;

use super::{
    boundaries::{changes, count, driver, events, last_at, moves, rolling, tag, us},
    definitions::{Case, Condition, case, rule, spec},
    differential::{assert_same_profiles, config, lanes, on_time},
    driver::Driver,
    event::{Arrival, FLAG, INT, arrivals},
    model::Model,
};
use crate::row_errors::RowErrors;
use crate::tags::state_schema::StateSchema;
use crate::tags::{
    Absence, Again, Aggregate, Function, Over, Segment, Segments, TagKind, Tags, TagsSpec,
    TimeSince,
};

const A: [bool; 3] = [true, false, false];

/// A case with some of its tags, without those that depend on other tags.
fn part(case: &Case, keeps: &[bool]) -> Case {
    let mut part = case.clone();
    let places = (0..case.spec.tags.len()).filter(|place| {
        let kind = &case.spec.tags[*place].kind;
        keeps[*place] && !matches!(kind, TagKind::TimeSince(_) | TagKind::Score(_))
    });
    part.segments.clear();
    part.spec.segments = Segments::default();
    let places: Vec<usize> = places.collect();
    part.types = places.iter().map(|tag| case.types[*tag].clone()).collect();
    part.spec.tags = places
        .iter()
        .map(|tag| case.spec.tags[*tag].clone())
        .collect();
    // Also in another order.
    if keeps[0] {
        part.types.reverse();
        part.spec.tags.reverse();
    }
    part
}

/// Runs `arrivals` in the operator and the model.
fn proceed<'a>(driver: &mut Driver, model: &mut Model<'a>, arrivals: &'a [Arrival]) {
    for arrival in arrivals {
        driver.send(&arrival.events);
        for event in &arrival.events {
            model.send(event);
        }
        if let Some(watermark) = arrival.watermark.filter(|it| *it > model.watermark) {
            driver.watermark(watermark);
            model.watermark(watermark);
        }
    }
}

proptest! {
    #![proptest_config(config(60))]

    /// Kept tags are as if nothing had happened; new ones begin empty.
    #[test]
    fn tags_that_stay_are_kept(
        case in case(false),
        arrivals in arrivals(16, on_time(), false),
        keeps in vec(any::<bool>(), 16),
        keeps_then in vec(any::<bool>(), 16),
        lanes in (lanes(), lanes()),
        half in 0..16_usize,
    ) {
        let (before, after) = (part(&case, &keeps), part(&case, &keeps_then));
        let (first, second) = arrivals.split_at(half.min(arrivals.len()));
        let mut driver = Driver::new(&before.tags(), lanes.0);
        let mut model = Model::new(&before);
        proceed(&mut driver, &mut model, first);
        driver.barrier();
        assert_same_profiles(&before, &driver, &model, |_| true, false);
        let (events, watermark) = (model.events.clone(), model.watermark);

        driver.restart_as(&after.tags(), lanes.1);
        driver.clear_outputs();
        // The next commit must contain the restored state.
        driver.barrier();
        driver.restart(lanes.1);
        let mut kept = Model::new(&after);
        (kept.events, kept.watermark) = (events, watermark);
        proceed(&mut driver, &mut kept, second);
        let tags = &after.spec.tags;
        let was_there = |tag: usize| before.spec.tags.contains(&tags[tag]);
        assert_same_profiles(&after, &driver, &kept, was_there, false);
    }
}

fn sum(over: Over) -> TagKind {
    TagKind::Aggregate(Aggregate {
        function: Function::Sum,
        argument: Some(INT),
        filter: None,
        over,
    })
}

/// Continues with other tags, on `lanes` lanes.
fn restarted(driver: &mut Driver, spec: TagsSpec, lanes: usize) {
    driver.barrier();
    driver.restart_as(&Tags::new(spec).unwrap(), lanes);
    driver.clear_outputs();
}

#[test]
fn a_new_tag_begins_now() {
    for lanes in [1, 2] {
        let mut rows = events(A, &[0, 10, 20]);
        for row in &mut rows {
            row.int = Some(1);
        }
        let mut driver = driver(spec(vec![tag("kept", sum(Over::Lifetime))]));
        driver.send(&rows[..2]);
        driver.watermark(15);
        let tags = vec![
            tag("filtered", sum(rolling(100, 1))),
            tag("kept", sum(Over::Lifetime)),
        ];
        restarted(&mut driver, spec(tags), lanes);
        driver.send(&rows[2..]);
        driver.watermark(200);
        assert_eq!(
            changes(&driver),
            [
                "filtered set 1 @20 event",
                "kept set 3 @20 event",
                "filtered set 0 @120 expiry"
            ]
        );
    }
}

#[test]
fn a_tag_that_comes_back_begins_anew() {
    let mut rows = events(A, &[0, 10, 20]);
    for row in &mut rows {
        row.int = Some(1);
    }
    let tags = || {
        vec![
            tag("x", count(Over::Lifetime)),
            tag("y", sum(Over::Lifetime)),
        ]
    };
    let mut driver = driver(spec(tags()));
    driver.send(&rows[..2]);
    driver.watermark(15);
    restarted(&mut driver, spec(tags()[..1].to_vec()), 1);
    driver.barrier();
    restarted(&mut driver, spec(tags()), 1);
    driver.send(&rows[2..]);
    driver.watermark(50);
    assert_eq!(changes(&driver), ["x set 3 @20 event", "y set 1 @20 event"]);
}

#[test]
fn another_window_shares_what_is_there() {
    let mut driver = driver(spec(vec![tag("narrow", count(rolling(10, 1)))]));
    driver.send(&events(A, &[0, 5]));
    driver.watermark(8);
    let tags = vec![
        tag("narrow", count(rolling(10, 1))),
        tag("wide", count(rolling(20, 1))),
    ];
    restarted(&mut driver, spec(tags), 1);
    driver.watermark(100);
    assert_eq!(
        changes(&driver),
        [
            "narrow set 1 @10 expiry",
            "narrow set 0 @15 expiry",
            "wide set 1 @20 expiry",
            "wide set 0 @25 expiry"
        ]
    );
}

/// Events, their age, and segments over both.
fn with_segments(segments: &[(&str, Condition)]) -> TagsSpec {
    let names = ["events".to_owned(), "age".to_owned()];
    let since = TagKind::TimeSince(TimeSince {
        tag: 0,
        unit: us(10),
    });
    let segments = segments.iter().map(|(name, condition)| Segment {
        name: (*name).into(),
        enter: rule(name, condition, &names, vec![(1, vec![3])]),
        exit: None,
        hold_at_least: us(0),
    });
    TagsSpec {
        segments: Segments {
            tags: vec![1, 2],
            segments: segments.collect(),
            errors: RowErrors::default(),
        },
        ..spec(vec![
            tag("last", last_at()),
            tag("events", count(Over::Lifetime)),
            tag("age", since),
        ])
    }
}

#[test]
fn regression_a_new_segment_has_its_members_at_once() {
    let twice = Condition::Compare(0, Operator::GtEq, 2);
    let old = Condition::Compare(1, Operator::GtEq, 3);
    let mut driver = driver(with_segments(&[("old", old.clone())]));
    driver.send(&events(A, &[0, 5]));
    driver.watermark(8);
    restarted(
        &mut driver,
        with_segments(&[("old", old.clone()), ("twice", twice)]),
        1,
    );
    driver.watermark(100);
    assert_eq!(
        moves(&driver),
        [
            "old entered @35 old (age = 3)",
            "twice entered @8 twice (events = 2)"
        ]
    );
    // Other rules with the same name.
    let thrice = Condition::Compare(0, Operator::GtEq, 3);
    restarted(
        &mut driver,
        with_segments(&[("old", old), ("twice", thrice)]),
        2,
    );
    driver.watermark(200);
    assert_eq!(
        moves(&driver),
        ["twice left @100 no longer: twice (events = 2)"]
    );
}

#[test]
fn regression_a_lateness_that_is_raised_leaves_waits_alone() {
    let absence = |lateness| TagsSpec {
        lateness: us(lateness),
        ..spec(vec![tag(
            "x",
            TagKind::Absence(Absence {
                after: FLAG,
                expect: FLAG + 1,
                same: vec![],
                within: us(10),
                again: Again::Each,
            }),
        )])
    };
    let mut driver = driver(absence(0));
    driver.send(&events(A, &[0, 15]));
    driver.watermark(20);
    restarted(&mut driver, absence(100), 1);
    // It contributes neither to the current wait nor to the firing.
    driver.send(&events(A, &[12]));
    assert!(changes(&driver).is_empty(), "{:?}", changes(&driver));
    driver.watermark(100);
    // The tag is true since the firing at 10, so the waits that end at 22 and 25 change
    // nothing.
    assert!(changes(&driver).is_empty(), "{:?}", changes(&driver));
    assert_eq!(driver.rows(Port::SIDE), 0);
}

/// The numbers of changes.
fn seqs(driver: &Driver) -> Vec<i64> {
    let batches = driver.output(Port::MAIN).iter();
    let seqs = batches.flat_map(|batch| {
        let seqs = batch.column_by_name("seq").unwrap();
        seqs.as_primitive::<Int64Type>().values().to_vec()
    });
    seqs.collect()
}

#[test]
fn keys_of_older_formats_are_read_and_newer_ones_refused() {
    let mut driver = driver(spec(vec![tag("n", count(Over::Lifetime))]));
    driver.send(&events(A, &[0, 15]));
    driver.watermark(20);
    assert_eq!(seqs(&driver), [1, 2]);
    driver.barrier();
    // Versions that read formats 2 and 3 alone must not read these keys.
    driver.edit_layouts(r#""format":4"#, r#""format":3"#);
    driver.restart(1);
    driver.clear_outputs();
    driver.send(&events(A, &[30]));
    driver.watermark(40);
    assert_eq!(changes(&driver), ["n set 3 @30 event"]);
    assert_eq!(seqs(&driver), [3]);
    driver.barrier();
    // The next commit has the new format.
    driver.edit_layouts(r#""format":4"#, r#""format":5"#);
    let newer = StateSchema::read(&driver.layouts()[0], "tags").unwrap_err();
    assert!(newer.to_string().contains("`run --reset tags`"), "{newer}");
}

#[test]
fn changes_are_numbered_anew_when_the_state_expires() {
    let spec = TagsSpec {
        state_ttl: Some(us(100)),
        ..spec(vec![tag("n", count(rolling(50, 1)))])
    };
    for lanes in [1, 2] {
        let mut driver = Driver::new(&Tags::new(spec.clone()).unwrap(), lanes);
        driver.send(&events(A, &[0, 10]));
        driver.watermark(20);
        driver.barrier();
        driver.restart(lanes);
        driver.watermark(120);
        driver.send(&events(A, &[130]));
        driver.watermark(140);
        let expected = [
            "n set 1 @0 event",
            "n set 2 @10 event",
            "n set 1 @50 expiry",
            "n set 0 @60 expiry",
            "n set 1 @130 event",
        ];
        assert_eq!(changes(&driver), expected);
        assert_eq!(seqs(&driver), [1, 2, 3, 4, 1]);
    }
}
