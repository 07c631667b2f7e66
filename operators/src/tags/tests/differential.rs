//! The operator equals the reference; and rule 12: the rows do not depend on the chunking of the
//! input, on the number of lanes, or on stops.
//!
//! `TAGFLOW_TAGS_CASES` sets the number of cases of each property, and `PROPTEST_RNG_SEED` repeats
//! them.

use std::collections::BTreeMap;

use arrow::{
    array::{Array, AsArray, RecordBatch},
    datatypes::{Int64Type, TimestampMicrosecondType},
    util::display::array_value_to_string,
};
use proptest::{collection::vec, prelude::*};
use tagflow_engine::{EventTime, Port};

use super::{
    definitions::{Case, case},
    driver::Driver,
    event::{Arrival, DELAY_US, Event, arrivals},
    history::{history, is_same, row},
    model::{Model, Shown},
    reference::{Thresholds, firings},
};
use crate::tags::{ChangeHistory, Spill, Tag, TagKind, Tags, value::Value};

/// An event after an arrival.
#[derive(Debug, Clone, Copy)]
enum Disruption {
    Nothing,
    Flush,
    Barrier,
    /// A barrier, then new operators on this number of lanes.
    Restart(usize),
    /// New operators from the last barrier, and its rows again.
    Crash(usize),
}

fn disruption() -> impl Strategy<Value = Disruption> {
    prop_oneof![
        5 => Just(Disruption::Nothing),
        1 => Just(Disruption::Flush),
        3 => Just(Disruption::Barrier),
        1 => (1..5_usize).prop_map(Disruption::Restart),
        1 => prop_oneof![Just(1), Just(4)].prop_map(Disruption::Crash),
    ]
}

pub(super) fn config(cases: u32) -> ProptestConfig {
    let campaign = std::env::var("TAGFLOW_TAGS_CASES");
    let campaign = campaign.ok().and_then(|cases| cases.parse().ok());
    ProptestConfig {
        cases: campaign.unwrap_or(cases),
        max_shrink_iters: 4_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// Runs `arrivals`, in chunks of `chunk` rows, with the disruptions.
fn run(
    case: &Case,
    arrivals: &[Arrival],
    lanes: usize,
    chunk: usize,
    disruptions: &[Disruption],
) -> Driver {
    let mut driver = Driver::new(&case.tags(), lanes);
    let (mut next, mut committed) = (0, 0);
    let mut disruptions = disruptions.iter();
    while next < arrivals.len() {
        for events in arrivals[next].events.chunks(chunk) {
            driver.send(events);
        }
        if let Some(watermark) = arrivals[next].watermark {
            driver.watermark(watermark);
        }
        next += 1;
        match disruptions.next() {
            None | Some(Disruption::Nothing) => {}
            Some(Disruption::Flush) => driver.flush(),
            Some(Disruption::Barrier) => {
                driver.barrier();
                committed = next;
            }
            Some(Disruption::Restart(lanes)) => {
                driver.barrier();
                driver.restart(*lanes);
                // The next commit must contain the restored state again.
                driver.barrier();
                driver.restart(*lanes);
                committed = next;
            }
            Some(Disruption::Crash(lanes)) => {
                // A crash before the first commit starts from nothing.
                driver.restart(*lanes);
                next = committed;
            }
        }
    }
    driver
}

/// Rows as lines, without inexact tags.
fn lines(case: &Case, batches: &[RecordBatch]) -> Vec<String> {
    let is_inexact = |tag: &str| {
        let mut tags = case.spec.tags.iter().enumerate();
        tags.any(|(place, it)| it.name == tag && !case.is_exact(place))
    };
    let mut lines = Vec::new();
    for batch in batches {
        for place in 0..batch.num_rows() {
            // How rows are numbered is not known to the reference.
            let schema = batch.schema();
            let fields = schema.fields().iter().zip(batch.columns());
            let columns = fields.filter(|(field, _)| field.name() != "seq");
            let columns = columns.map(|(_, column)| column);
            let columns = columns.map(|column| {
                if column.is_null(place) {
                    return None;
                }
                let times = column.as_primitive_opt::<TimestampMicrosecondType>();
                Some(match times {
                    Some(times) => EventTime::from_micros(times.value(place)).to_string(),
                    None => array_value_to_string(column, place).unwrap(),
                })
            });
            let columns: Vec<Option<String>> = columns.collect();
            if !columns[1].as_deref().is_some_and(is_inexact) {
                lines.push(row(&columns));
            }
        }
    }
    lines
}

fn sorted(mut lines: Vec<String>) -> Vec<String> {
    lines.sort();
    lines
}

fn assert_same_lines(kind: &str, ours: Vec<String>, expected: Vec<String>) {
    let (ours, expected) = (sorted(ours), sorted(expected));
    if ours != expected {
        let without = |of: &[String], others: &[String]| {
            let mut others = others.to_vec();
            let mut of = of.to_vec();
            of.retain(|it| match others.iter().position(|other| other == it) {
                Some(place) => {
                    others.swap_remove(place);
                    false
                }
                None => true,
            });
            of.join("\n  ")
        };
        panic!(
            "{kind}: not expected\n  {}\nmissing\n  {}",
            without(&ours, &expected),
            without(&expected, &ours)
        );
    }
}

/// A value of a profile.
pub(super) fn value(column: &dyn Array, place: usize) -> Value {
    match column.as_list_opt::<i32>() {
        Some(_) if column.is_null(place) => Value::Null,
        Some(lists) => {
            let items = lists.value(place);
            Value::List((0..items.len()).map(|it| Value::at(&items, it)).collect())
        }
        None => Value::at(column, place),
    }
}

/// Whether a list contains the heaviest items; equal ones may be in any order.
fn is_top(tag: usize, ours: &Value, shown: &Shown) -> bool {
    let weights = &shown.weights[tag];
    let expected = match &shown.values[tag] {
        Value::List(items) => items.len(),
        _ => 0,
    };
    let Value::List(ours) = ours else {
        return expected == 0;
    };
    let tolerance = 1e-9;
    ours.len() == expected
        && ours.iter().zip(weights).all(|(item, (_, heaviest))| {
            let weight = weights.iter().find(|(known, _)| known == item);
            weight.is_some_and(|(_, weight)| (weight - heaviest).abs() <= tolerance * heaviest)
        })
        && ours
            .iter()
            .enumerate()
            .all(|(place, it)| !ours[..place].contains(it))
}

/// Asserts that the tags of profiles for which `is_checked` equal those of the model. Checks
/// segments too, if `has_rules_alone`.
pub(super) fn assert_same_profiles(
    case: &Case,
    driver: &Driver,
    model: &Model<'_>,
    is_checked: impl Fn(usize) -> bool,
    has_rules_alone: bool,
) {
    let ours = driver.output(Tags::PROFILE);
    assert_profiles(case, ours, &model.profiles, is_checked, has_rules_alone);
}

/// Asserts that the next barrier emits the current profiles, if they are due.
fn assert_newest(case: &Case, driver: &mut Driver, model: &Model<'_>, has_rules_alone: bool) {
    let every = case.spec.profile.newest[0].as_micros() as i64;
    let expected = if driver.is_newest_due(every) {
        model.newest(driver.agreed())
    } else {
        BTreeMap::new()
    };
    let before = driver.output(Tags::newest(0)).len();
    driver.barrier();
    let ours = &driver.output(Tags::newest(0))[before..];
    assert_profiles(case, ours, &expected, |_| true, has_rules_alone);
}

fn assert_profiles(
    case: &Case,
    ours: &[RecordBatch],
    expected: &BTreeMap<(String, i64), Shown>,
    is_checked: impl Fn(usize) -> bool,
    has_rules_alone: bool,
) {
    let mut expected: BTreeMap<_, _> = expected.iter().collect();
    for batch in ours {
        let users = batch.column(0).as_string::<i32>();
        let times = batch.column(1).as_primitive::<TimestampMicrosecondType>();
        for place in 0..batch.num_rows() {
            let key = (users.value(place).to_owned(), times.value(place));
            let shown = expected.remove(&key);
            let shown = shown.unwrap_or_else(|| panic!("a profile of {key:?} is not expected"));
            for (tag, expected) in shown
                .values
                .iter()
                .enumerate()
                .filter(|(tag, _)| is_checked(*tag))
            {
                let ours = value(batch.column(2 + tag), place);
                let is_ranking = matches!(case.spec.tags[tag].kind, TagKind::TopK(_));
                let is_right = is_same(&case.types[tag], &ours, expected)
                    || (is_ranking && is_top(tag, &ours, shown));
                assert!(
                    is_right,
                    "{} of {key:?}: {ours:?} instead of {expected:?} {:?}",
                    case.spec.tags[tag].name, shown.weights[tag],
                );
            }
            if has_rules_alone {
                let Value::List(ours) = value(batch.columns().last().unwrap(), place) else {
                    panic!("no segments");
                };
                let expected = shown.segments.iter().enumerate();
                let expected = expected.filter(|(_, is_in)| **is_in);
                let expected: Vec<Value> = expected
                    .map(|(place, _)| Value::Text(format!("segment_{place}").into()))
                    .collect();
                assert_eq!(ours, expected, "segments of {key:?}");
            }
        }
    }
    assert!(expected.is_empty(), "no profiles of {:?}", expected.keys());
}

/// Asserts that each row of a tag continues from the row before it.
fn assert_chained(case: &Case, driver: &Driver) {
    let mut last: BTreeMap<(String, String), Option<String>> = BTreeMap::new();
    for batch in driver.output(Port::MAIN) {
        let column = |place: usize| batch.column(place).as_string::<i32>();
        for place in 0..batch.num_rows() {
            let text = |at: usize| {
                let is_valid = column(at).is_valid(place);
                is_valid.then(|| column(at).value(place).to_owned())
            };
            let tag = text(1).unwrap();
            let definition = case.spec.tags.iter().position(|it| it.name == tag).unwrap();
            let none = case.reference(&Thresholds::new()).before_any(definition);
            let none = none.text(&case.types[definition]);
            let key = (text(0).unwrap(), tag);
            let before = last.get(&key).unwrap_or(&none);
            assert_eq!(
                &text(3),
                before,
                "{key:?} of {:?}",
                lines(case, &[batch.slice(place, 1)])
            );
            let is_forgotten = text(2).as_deref() == Some("forget");
            last.insert(key, if is_forgotten { none } else { text(4) });
        }
    }
}

/// Asserts that the emitted changes up to a profile lead to the same profile.
fn assert_told(case: &Case, driver: &Driver) {
    let told = ChangeHistory {
        changes: driver.output(Port::MAIN).to_vec(),
        moves: driver.output(Tags::SEGMENTS).to_vec(),
    };
    let no_cuts = Thresholds::new();
    for batch in driver.output(Tags::PROFILE) {
        let users = batch.column(0).as_string::<i32>();
        let times = batch.column(1).as_primitive::<TimestampMicrosecondType>();
        for row in 0..batch.num_rows() {
            let (user, at) = (users.value(row), times.value(row));
            let known = driver
                .tags
                .told(&told, user, EventTime::from_micros(at), None);
            let known = known.unwrap();
            for (place, tag) in case.spec.tags.iter().enumerate() {
                let none = case.reference(&no_cuts).before_any(place);
                let none = none.json(&case.types[place]);
                let ours = known.iter().flat_map(|known| &known.tags);
                let ours = ours.filter(|it| it.name == tag.name).map(|it| &it.json);
                let is_untold = matches!(tag.kind, TagKind::TimeSince(_)) && tag.ttl.is_some();
                if !is_untold {
                    let ours = ours.chain(known.is_none().then_some(&none)).next().unwrap();
                    let shown = value(batch.column(2 + place), row);
                    let shown = shown.json(&case.types[place]);
                    assert_eq!(*ours, shown, "{} of {user} at {at}", tag.name);
                }
            }
            let segments = known.into_iter().flat_map(|known| known.segments);
            let segments = segments.map(|(name, _)| Value::Text(name.as_str().into()));
            let shown = value(batch.columns().last().unwrap(), row);
            assert_eq!(
                Value::List(segments.collect()),
                shown,
                "segments of {user} at {at}"
            );
        }
    }
}

/// Asserts that absences fired as often as they should, without the retracted ones.
fn assert_firings(case: &Case, driver: &Driver, model: &Model<'_>) {
    let lasts = |tag: &Tag| matches!(tag.kind, TagKind::Absence(_)) && tag.ttl.is_none();
    if case.spec.state_ttl.is_some() {
        return;
    }
    for tag in case.spec.tags.iter().filter(|it| lasts(it)) {
        let mut fired = 0;
        for batch in driver.output(Port::MAIN) {
            let tags = batch.column(1).as_string::<i32>().iter();
            let ops = batch.column(2).as_string::<i32>().iter();
            for (_, op) in tags.zip(ops).filter(|(it, _)| *it == Some(&tag.name)) {
                fired += if op == Some("retract") { -1 } else { 1 };
            }
        }
        let expected = model.events.values().map(|events| {
            let ended = events.partition_point(|it| it.time < model.watermark);
            let firings = firings(&tag.kind, &events[..ended]);
            usize::from(firings.iter().any(|at| *at < model.watermark))
        });
        assert_eq!(fired, expected.sum::<usize>() as i64, "{}", tag.name);
    }
}

fn assert_balanced(driver: &Driver, model: &Model<'_>) {
    let counts = driver.counts();
    assert!(counts.balances(), "{counts:?}");
    assert_eq!(counts.late, model.late.len() as u64);
    assert_eq!(counts.filtered, model.without_user as u64);
    let of_users = counts.rows_in - counts.late - counts.filtered;
    assert_eq!(counts.contributed + counts.held - counts.released, of_users);
    let done = model.events.values().flatten();
    let waiting = done.filter(|it| it.time >= model.watermark).count();
    assert_eq!(counts.held - counts.released, waiting as u64);
}

/// The model of `arrivals`.
fn model<'a>(case: &'a Case, arrivals: &[Arrival], chunk: usize) -> Model<'a> {
    let mut model = Model::new(case);
    for arrival in arrivals {
        for events in arrival.events.chunks(chunk) {
            for event in events {
                model.send(event);
            }
        }
        if let Some(watermark) = arrival.watermark
            && watermark > model.watermark
        {
            model.watermark(watermark);
        }
    }
    model
}

/// All events of each user, in order.
fn by_user(case: &Case, arrivals: &[Arrival]) -> BTreeMap<String, Vec<Event>> {
    let mut users: BTreeMap<String, Vec<Event>> = BTreeMap::new();
    for event in arrivals.iter().flat_map(|it| &it.events) {
        if let Some(user) = &event.user {
            users.entry(user.clone()).or_default().push(event.clone());
        }
    }
    for events in users.values_mut() {
        events.sort_by_key(|it| it.place(case.spec.id.is_some()));
    }
    users
}

pub(super) fn on_time() -> BoxedStrategy<i64> {
    (0..=DELAY_US).boxed()
}

fn late() -> BoxedStrategy<i64> {
    prop_oneof![3 => 0..=DELAY_US, 2 => DELAY_US..90].boxed()
}

pub(super) fn lanes() -> impl Strategy<Value = usize> {
    prop_oneof![Just(1_usize), 2..5_usize]
}

fn chunk() -> impl Strategy<Value = usize> {
    prop_oneof![1..4_usize, Just(100)]
}

/// All rows as lines.
fn all(driver: &Driver, port: Port) -> Vec<String> {
    let batches = driver.output(port).iter();
    let rows = batches.flat_map(|batch| {
        (0..batch.num_rows()).map(|place| {
            let columns = batch.columns().iter();
            let columns = columns.map(|it| array_value_to_string(it, place).unwrap());
            columns.collect::<Vec<_>>().join(" | ")
        })
    });
    rows.collect()
}

proptest! {
    #![proptest_config(config(15))]

    #[test]
    fn users_on_disk_are_as_those_in_memory(
        case in case(true),
        arrivals in arrivals(16, late(), true),
        lanes in lanes(),
        chunk in chunk(),
        disruptions in vec(disruption(), 0..30),
    ) {
        let in_memory = run(&case, &arrivals, lanes, chunk, &disruptions);
        let folder = tempfile::tempdir().unwrap();
        let mut case = case;
        // Memory for a key, or none.
        case.spec.spill = Some(Spill {
            folder: folder.path().into(),
            memory_bytes: 300,
        });
        let on_disk = run(&case, &arrivals, lanes, chunk, &disruptions);
        prop_assert_eq!(on_disk.counts(), in_memory.counts());
        for port in [Port::MAIN, Port::SIDE, Tags::PROFILE, Tags::SEGMENTS] {
            assert_same_lines("on disk", all(&on_disk, port), all(&in_memory, port));
        }
    }
}

proptest! {
    #![proptest_config(config(250))]

    #[test]
    fn tags_are_right_at_all_times(
        case in case(false),
        arrivals in arrivals(16, on_time(), false),
        lanes in lanes(),
        chunk in chunk(),
        disruptions in vec(disruption(), 0..30),
    ) {
        let mut driver = run(&case, &arrivals, lanes, chunk, &disruptions);
        let model = model(&case, &arrivals, chunk);
        assert_balanced(&driver, &model);
        assert_same_profiles(&case, &driver, &model, |_| true, false);
        assert_told(&case, &driver);
        assert_newest(&case, &mut driver, &model, false);
        driver.end();
        // Then time passes for all users to the last event.
        let until = driver.agreed().saturating_sub(1);
        assert_newest(&case, &mut driver, &model, false);
        let (mut changes, mut moves) = (Vec::new(), Vec::new());
        for (user, events) in by_user(&case, &arrivals) {
            let history = history(&case, &user, &events, until, &model.thresholds);
            changes.extend(history.changes);
            moves.extend(history.moves);
        }
        assert_same_lines("changes", lines(&case, driver.output(Port::MAIN)), changes);
        assert_same_lines("segments", lines(&case, driver.output(Tags::SEGMENTS)), moves);
        assert_chained(&case, &driver);
        prop_assert_eq!(driver.rows(Port::SIDE), 0);
        prop_assert_eq!(driver.counts().contributed + driver.counts().filtered, driver.counts().rows_in);
    }

    #[test]
    fn late_events_correct_what_they_touch(
        case in case(true),
        arrivals in arrivals(16, late(), true),
        lanes in lanes(),
        chunk in chunk(),
        disruptions in vec(disruption(), 0..30),
    ) {
        let mut driver = run(&case, &arrivals, lanes, chunk, &disruptions);
        let model = model(&case, &arrivals, chunk);
        assert_balanced(&driver, &model);
        assert_same_profiles(&case, &driver, &model, |_| true, true);
        assert_newest(&case, &mut driver, &model, true);
        assert_chained(&case, &driver);
        assert_firings(&case, &driver, &model);
        let mut late = Vec::new();
        for batch in driver.output(Port::SIDE) {
            let partitions = batch.column(3).as_string::<i32>();
            let offsets = batch.column(4).as_primitive::<Int64Type>();
            let rows = partitions.iter().zip(offsets);
            late.extend(rows.map(|(partition, offset)| {
                (partition.unwrap().to_owned(), offset.unwrap())
            }));
        }
        let mut expected = model.late.clone();
        late.sort();
        expected.sort();
        prop_assert_eq!(late, expected);
    }

    /// Rule 12 of event time.
    #[test]
    fn rows_do_not_depend_on_how_they_came_about(
        case in case(false),
        arrivals in arrivals(16, on_time(), false),
        lanes in lanes(),
        chunk in chunk(),
        disruptions in vec(disruption(), 0..30),
        skipped in vec(any::<bool>(), 16),
    ) {
        let mut at_once = arrivals.clone();
        let last = arrivals.iter().filter_map(|it| it.watermark).max();
        for (arrival, is_skipped) in at_once.iter_mut().zip(skipped) {
            if is_skipped {
                arrival.watermark = None;
            }
        }
        at_once.push(Arrival { events: Vec::new(), watermark: last });
        let mut plain = run(&case, &at_once, 1, 100, &[]);
        let mut disrupted = run(&case, &arrivals, lanes, chunk, &disruptions);
        plain.end();
        disrupted.end();
        for port in [Port::MAIN, Tags::PROFILE, Tags::SEGMENTS] {
            assert_same_lines("disrupted", all(&disrupted, port), all(&plain, port));
        }
    }
}
