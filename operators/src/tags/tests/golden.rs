//! Fixed rows and fixed bytes: the output and the stored state for an input, as an earlier build
//! wrote them. A change of the code that is no change of behaviour leaves both as they are.
//!
//! `TAGFLOW_GOLDEN=1` prints the current ones.

use std::collections::BTreeSet;

use arrow::{
    array::{Array, ArrayRef, RecordBatch},
    util::display::array_value_to_string,
};
use datafusion::logical_expr::Operator;
use tagflow_engine::{Port, state::StatePart};
use twox_hash::XxHash3_64;

use super::{
    boundaries::{every, rolling, us},
    definitions::{Condition, rule, spec},
    driver::Driver,
    event::{AT, DAY, DECIMAL, Event, FLAG, FLOAT, ID, INT, TEXT, TIME, WEIGHT},
};
use crate::row_errors::RowErrors;
use crate::tags::{
    Absence, Again, Aggregate, Function, Funnel, FunnelMode, Over, Score, Segment, Segments, Tag,
    TagKind, Tags, TagsSpec, Thresholds, TimeSince, TopK,
};

/// A user with all kinds of tags, in the stored form of an earlier build.
const STATE: &str = include_str!("state_format_4.txt");

const A: usize = FLAG;
const B: usize = FLAG + 1;
const C: usize = FLAG + 2;

/// Tags of all kinds and functions.
fn all_kinds(half_life_us: u64) -> Vec<Tag> {
    let aggregate = |function, argument, filter, over| {
        TagKind::Aggregate(Aggregate {
            function,
            argument,
            filter,
            over,
        })
    };
    let top = |weight, filter, k| {
        TagKind::TopK(TopK {
            argument: TEXT,
            weight,
            filter,
            k,
            half_life: us(half_life_us),
        })
    };
    let funnel = |mode, within| {
        TagKind::Funnel(Funnel {
            within: us(within),
            mode,
            steps: vec![("a".into(), A), ("b".into(), B), ("c".into(), C)],
        })
    };
    let absence = |same, within, again| {
        TagKind::Absence(Absence {
            after: A,
            expect: B,
            same,
            within: us(within),
            again,
        })
    };
    let score = |tag, thresholds, is_reversed| {
        TagKind::Score(Score {
            tag,
            thresholds,
            is_reversed,
        })
    };
    let life = Over::Lifetime;
    let distinct = Function::Distinct { exact_up_to: 3 };
    let kinds = [
        (
            "count_90",
            aggregate(Function::Count, None, Some(A), rolling(90, 5)),
            None,
        ),
        (
            "count_30",
            aggregate(Function::Count, None, Some(A), rolling(30, 5)),
            Some(20),
        ),
        (
            "count_life",
            aggregate(Function::Count, Some(INT), None, life),
            None,
        ),
        (
            "sum",
            aggregate(Function::Sum, Some(INT), None, rolling(30, 1)),
            None,
        ),
        (
            "sum_decimal",
            aggregate(Function::Sum, Some(DECIMAL), Some(B), life),
            None,
        ),
        (
            "sum_float",
            aggregate(Function::Sum, Some(FLOAT), None, rolling(30, 4)),
            None,
        ),
        (
            "avg",
            aggregate(Function::Avg, Some(DECIMAL), Some(B), rolling(60, 4)),
            None,
        ),
        (
            "std",
            aggregate(Function::Std, Some(INT), None, rolling(60, 4)),
            None,
        ),
        (
            "min",
            aggregate(Function::Min, Some(INT), None, rolling(12, 1)),
            None,
        ),
        (
            "max",
            aggregate(Function::Max, Some(DAY), None, rolling(12, 1)),
            None,
        ),
        (
            "distinct",
            aggregate(distinct, Some(TEXT), None, rolling(90, 5)),
            None,
        ),
        (
            "first",
            aggregate(Function::First, Some(TEXT), Some(C), life),
            None,
        ),
        (
            "last_at",
            aggregate(Function::Last, Some(TIME), Some(A), life),
            Some(100),
        ),
        (
            "recent",
            aggregate(Function::LastK { k: 3 }, Some(AT), None, rolling(90, 1)),
            None,
        ),
        ("top", top(None, None, 3), None),
        ("top_weighed", top(Some(WEIGHT), Some(C), 2), Some(50)),
        ("funnel", funnel(FunnelMode::Default, 60), None),
        ("funnel_order", funnel(FunnelMode::StrictOrder, 30), None),
        (
            "funnel_once",
            funnel(FunnelMode::StrictDeduplication, 60),
            Some(25),
        ),
        ("funnel_later", funnel(FunnelMode::StrictIncrease, 12), None),
        (
            "absent_each",
            absence(vec![TEXT], 12, Again::Each),
            Some(30),
        ),
        ("absent_first", absence(vec![], 20, Again::First), Some(9)),
        (
            "absent_restart",
            absence(vec![INT, TEXT], 5, Again::Restart),
            None,
        ),
        (
            "age",
            TagKind::TimeSince(TimeSince {
                tag: 12,
                unit: us(7),
            }),
            None,
        ),
        (
            "score_age",
            score(23, Thresholds::At(vec![2.0, 5.0]), true),
            None,
        ),
        (
            "score_sum",
            score(3, Thresholds::At(vec![-3.0, 0.5, 4.0]), false),
            Some(40),
        ),
        ("quartile", score(2, Thresholds::Quantiles(4), false), None),
        (
            "quartile_age",
            score(23, Thresholds::Quantiles(4), true),
            None,
        ),
    ];
    let kinds = kinds.into_iter();
    let tags = kinds.map(|(name, kind, ttl)| Tag {
        name: name.into(),
        kind,
        ttl: ttl.map(us),
    });
    tags.collect()
}

/// All tags, with segments.
fn all(half_life_us: u64) -> TagsSpec {
    let tags = all_kinds(half_life_us);
    let read = ["count_30", "count_life", "age", "absent_each", "quartile"];
    let place = |name: &&str| tags.iter().position(|tag| tag.name == **name).unwrap();
    let places: Vec<usize> = read.iter().map(place).collect();
    let names = read.map(str::to_owned);
    let and = |one, other| Condition::And(Box::new(one), Box::new(other));
    let busy = Condition::Compare(0, Operator::GtEq, 2);
    let quiet = Condition::Compare(0, Operator::Lt, 1);
    let lapsing = and(
        Condition::Compare(1, Operator::GtEq, 4),
        Condition::Compare(2, Operator::GtEq, 3),
    );
    let best = and(
        Condition::Compare(4, Operator::GtEq, 4),
        Condition::Not(Box::new(Condition::IsTrue(3))),
    );
    let segment = |name: &str, enter: &Condition, exit: Option<&Condition>, triggers, hold| {
        let rule = |condition| rule(name, condition, &names, Vec::clone(&triggers));
        Segment {
            name: name.into(),
            enter: rule(enter),
            exit: exit.map(rule),
            hold_at_least: us(hold),
        }
    };
    TagsSpec {
        lateness: us(60),
        state_ttl: Some(us(400)),
        profile: every(170),
        segments: Segments {
            tags: places,
            segments: vec![
                segment("busy", &busy, Some(&quiet), vec![], 15),
                segment("lapsing", &lapsing, None, vec![(2, vec![3])], 0),
                segment("best", &best, None, vec![], 0),
            ],
            errors: RowErrors::default(),
        },
        id: Some(ID),
        ..spec(tags)
    }
}

/// `SplitMix64`.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut it = self.0;
        it = (it ^ (it >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        it = (it ^ (it >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (it ^ (it >> 31)) % limit
    }

    /// An event of a random user, up to `disorder_us` before `clock`.
    fn event(&mut self, number: i64, clock: i64, disorder_us: u64) -> Event {
        let is_late = self.below(5) == 0;
        let back = if is_late { self.below(disorder_us) } else { 0 };
        let time = clock - back as i64;
        let user = format!("user-{}", self.below(self.0 % 7 + 1));
        let flags = [self.below(3) == 0, self.below(4) == 0, self.below(3) == 0];
        Event {
            id: Some(number * 7_919 % 100_003),
            int: (self.below(8) > 0).then(|| self.below(11) as i64 - 5),
            float: Some(self.below(33) as f64 / 4.0 - 4.0),
            decimal: (self.below(8) > 0).then(|| i128::from(self.below(600)) - 300),
            text: (self.below(9) > 0).then(|| ["a", "b", "c", "d"][self.below(4) as usize].into()),
            weight: Some([-1.0, 0.5, 1.0, 2.0][self.below(4) as usize]),
            at: Some(time + self.below(60) as i64 - 30),
            day: Some(self.below(4) as i32),
            partition: self.below(3) as usize,
            offset: number,
            ..Event::new(&user, time, flags)
        }
    }
}

/// Sends `batches` of events, with watermarks, pauses, barriers and restarts.
fn run(driver: &mut Driver, batches: i64) {
    let mut random = Random(7);
    let (mut clock, mut number) = (1_000, 0);
    for batch in 1..=batches {
        let events: Vec<Event> = (0..12)
            .map(|_| {
                clock += random.below(4) as i64;
                number += 1;
                random.event(number, clock, 90)
            })
            .collect();
        driver.send(&events);
        driver.watermark(clock - 5);
        match batch % 40 {
            11 => clock += 100,
            13 => driver.barrier(),
            20 => driver.restart(1 + (batch / 40 % 2) as usize),
            31 => clock += 500,
            33 => driver.flush(),
            _ => {}
        }
    }
    driver.end();
    driver.barrier();
}

/// Rows as lines, in their order.
fn lines(batches: &[RecordBatch]) -> Vec<String> {
    let mut lines = Vec::new();
    for batch in batches {
        for row in 0..batch.num_rows() {
            let value = |column: &ArrayRef| {
                if column.is_null(row) {
                    return "null".to_owned();
                }
                array_value_to_string(column, row).unwrap()
            };
            let values: Vec<String> = batch.columns().iter().map(value).collect();
            lines.push(values.join("|"));
        }
    }
    lines
}

fn hash(lines: &[String]) -> String {
    format!(
        "{} {:016x}",
        lines.len(),
        XxHash3_64::oneshot(lines.join("\n").as_bytes())
    )
}

fn prints() -> bool {
    std::env::var("TAGFLOW_GOLDEN").is_ok()
}

#[test]
fn rows_are_those_of_an_earlier_build() {
    let mut driver = Driver::new(&Tags::new(all(40)).unwrap(), 1);
    run(&mut driver, 400);
    let changes = lines(driver.output(Port::MAIN));
    // The input reaches each cause of a change.
    let causes: BTreeSet<String> = changes
        .iter()
        .map(|line| {
            let values: Vec<&str> = line.split('|').collect();
            format!("{} {}", values[2], values[7])
        })
        .collect();
    let causes: Vec<&str> = causes.iter().map(String::as_str).collect();
    assert_eq!(
        causes,
        [
            "forget state_ttl",
            "retract late_event",
            "set absence",
            "set event",
            "set expiry",
            "set late_event",
            "set quantiles",
            "set ttl",
        ]
    );
    let moves = lines(driver.output(Tags::SEGMENTS));
    let profiles = lines(driver.output(Tags::PROFILE));
    let late = driver.rows(Port::SIDE);
    let found = [
        hash(&changes),
        hash(&moves),
        hash(&profiles),
        late.to_string(),
    ];
    if prints() {
        println!("{found:#?}");
    }
    assert_eq!(
        found,
        [
            "60815 764d07ae8d4672c5",
            "1916 53edefd38f55745b",
            "486 55bcf749b38c75d2",
            "114"
        ]
    );
}

/// A user with events of each kind, and half of its waits open.
fn one_user(driver: &mut Driver) {
    let mut random = Random(3);
    let events: Vec<Event> = (0..30)
        .map(|number| {
            let event = random.event(number, 1_000 + number * 3, 20);
            Event {
                user: Some("u".into()),
                ..event
            }
        })
        .collect();
    driver.send(&events[..20]);
    driver.watermark(1_050);
    driver.send(&events[20..]);
    driver.watermark(1_090);
    driver.barrier();
}

/// The stored parts as text: a line for each row.
fn written(parts: &[StatePart]) -> String {
    let lines = parts.iter().flat_map(|part| {
        let lines = lines(std::slice::from_ref(&part.rows)).into_iter();
        lines.map(|line| format!("{}|{line}\n", part.key))
    });
    lines.collect()
}

#[test]
fn the_state_of_an_earlier_build_is_read() {
    let tags = Tags::new(TagsSpec {
        profile: every(1_000_000),
        // Sums of weights are exact: the bytes are the same on each machine.
        ..all(1)
    });
    let tags = tags.unwrap();
    let mut driver = Driver::new(&tags, 1);
    one_user(&mut driver);
    let text = written(&driver.stored());
    if prints() {
        println!("{text}");
    }
    assert_eq!(text, STATE);

    // The same bytes are read.
    driver.restart(1);
    driver.clear_outputs();
    let mut random = Random(5);
    let events: Vec<Event> = (0..20)
        .map(|number| Event {
            user: Some("u".into()),
            ..random.event(number + 30, 1_095 + number * 3, 50)
        })
        .collect();
    driver.send(&events);
    driver.watermark(1_400);
    let changes = hash(&lines(driver.output(Port::MAIN)));
    if prints() {
        println!("{changes}");
    }
    assert_eq!(changes, "288 ea0e9520ef27e771");
}
