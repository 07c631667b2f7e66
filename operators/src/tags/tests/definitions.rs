//! Random tags and segments.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    fmt,
    sync::Arc,
    time::Duration,
};

use arrow::datatypes::DataType;
use datafusion::{
    logical_expr::Operator,
    physical_expr::{
        PhysicalExpr,
        expressions::{BinaryExpr, Column, NotExpr, lit},
    },
};
use proptest::{
    collection::vec,
    option::{self, weighted},
    prelude::*,
    sample::{Index, select},
};
use tagflow_engine::time::micros;

use super::{
    event::{AT, DAY, DECIMAL, FLAG, FLOAT, ID, INT, TEXT, TEXT_ID, TIME, USER, WEIGHT, schema},
    reference::{Reference, Thresholds},
};
use crate::row_errors::RowErrors;
use crate::tags::{
    self, Absence, Again, Aggregate, Function, Funnel, FunnelMode, Over, Profile, Rule, Score,
    Segment, Segments, Tag, TagKind, Tags, TagsSpec, TimeSince, TopK, value::Value,
};

/// Random definitions.
#[derive(Clone)]
pub(super) struct Case {
    pub(super) spec: TagsSpec,
    /// The type of each tag.
    pub(super) types: Vec<DataType>,
    pub(super) segments: Vec<SegmentCase>,
}

/// A segment whose rules can be evaluated here.
#[derive(Debug, Clone)]
pub(super) struct SegmentCase {
    pub(super) enter: Condition,
    pub(super) exit: Option<Condition>,
    pub(super) hold_us: i64,
}

/// A condition on the columns of [`Segments::tags`].
#[derive(Debug, Clone)]
pub(super) enum Condition {
    Compare(usize, Operator, i64),
    IsTrue(usize),
    Not(Box<Condition>),
    And(Box<Condition>, Box<Condition>),
    Or(Box<Condition>, Box<Condition>),
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for tag in &self.spec.tags {
            writeln!(f, "{tag:?}")?;
        }
        for segment in &self.segments {
            writeln!(f, "{segment:?}")?;
        }
        let TagsSpec {
            id,
            lateness,
            state_ttl,
            profile,
            ..
        } = &self.spec;
        write!(
            f,
            "by {id:?}, late {lateness:?}, state {state_ttl:?}, {profile:?}"
        )
    }
}

impl Case {
    pub(super) fn tags(&self) -> Arc<Tags> {
        Tags::new(self.spec.clone()).unwrap()
    }

    /// The meaning of its tags with `thresholds` as the thresholds.
    pub(super) fn reference<'a>(&'a self, thresholds: &'a Thresholds) -> Reference<'a> {
        Reference {
            spec: &self.spec,
            types: &self.types,
            thresholds,
        }
    }

    /// Whether the bits of a tag are independent of the order of computation.
    pub(super) fn is_exact(&self, tag: usize) -> bool {
        !matches!(
            self.spec.tags[tag].kind,
            TagKind::TopK(_)
                | TagKind::Aggregate(Aggregate {
                    function: Function::Std,
                    ..
                })
        )
    }

    /// The numbers that conditions and scores compare, with `thresholds` as the thresholds.
    pub(super) fn looks(&self, thresholds: &Thresholds) -> BTreeSet<i64> {
        let conditions = self.segments.iter();
        let conditions = conditions.flat_map(|it| [Some(&it.enter), it.exit.as_ref()]);
        let mut looks: BTreeSet<i64> = conditions
            .flatten()
            .flat_map(|it| it.numbers(None))
            .collect();
        for tag in &self.spec.tags {
            if let TagKind::Score(Score {
                thresholds: tags::Thresholds::At(thresholds),
                ..
            }) = &tag.kind
            {
                looks.extend(thresholds.iter().map(|cut| cut.ceil() as i64));
            }
        }
        let thresholds = thresholds.values().flat_map(BTreeMap::values).flatten();
        let thresholds = thresholds.filter(|cut| cut.is_finite());
        looks.extend(thresholds.map(|cut| cut.ceil() as i64));
        looks
    }
}

impl Condition {
    pub(super) fn eval(&self, value: &impl Fn(usize) -> Value) -> Option<bool> {
        match self {
            Self::Compare(column, operator, number) => {
                let Value::Int(value) = value(*column) else {
                    return None;
                };
                Some(match operator {
                    Operator::Gt => value > *number,
                    Operator::GtEq => value >= *number,
                    Operator::Lt => value < *number,
                    Operator::LtEq => value <= *number,
                    _ => value == *number,
                })
            }
            Self::IsTrue(column) => match value(*column) {
                Value::Bool(value) => Some(value),
                _ => None,
            },
            Self::Not(of) => of.eval(value).map(|it| !it),
            Self::And(one, other) => match (one.eval(value), other.eval(value)) {
                (Some(false), _) | (_, Some(false)) => Some(false),
                (Some(true), Some(true)) => Some(true),
                _ => None,
            },
            Self::Or(one, other) => match (one.eval(value), other.eval(value)) {
                (Some(true), _) | (_, Some(true)) => Some(true),
                (Some(false), Some(false)) => Some(false),
                _ => None,
            },
        }
    }

    pub(super) fn columns(&self) -> BTreeSet<usize> {
        match self {
            Self::Compare(column, ..) | Self::IsTrue(column) => BTreeSet::from([*column]),
            Self::Not(of) => of.columns(),
            Self::And(one, other) | Self::Or(one, other) => &one.columns() | &other.columns(),
        }
    }

    /// The numbers that are compared with `column`, or with any column.
    fn numbers(&self, of: Option<usize>) -> Vec<i64> {
        match self {
            Self::Compare(column, _, number) if of.is_none_or(|of| of == *column) => vec![*number],
            Self::Compare(..) | Self::IsTrue(_) => Vec::new(),
            Self::Not(it) => it.numbers(of),
            Self::And(one, other) | Self::Or(one, other) => {
                [one.numbers(of), other.numbers(of)].concat()
            }
        }
    }

    fn physical(&self, names: &[String]) -> Arc<dyn PhysicalExpr> {
        let column = |place: usize| Arc::new(Column::new(&names[place], place));
        let both = |one: &Self, operator, other: &Self| {
            let (one, other) = (one.physical(names), other.physical(names));
            Arc::new(BinaryExpr::new(one, operator, other))
        };
        match self {
            Self::Compare(place, operator, number) => {
                Arc::new(BinaryExpr::new(column(*place), *operator, lit(*number)))
            }
            Self::IsTrue(place) => column(*place),
            Self::Not(of) => Arc::new(NotExpr::new(of.physical(names))),
            Self::And(one, other) => both(one, Operator::And, other),
            Self::Or(one, other) => both(one, Operator::Or, other),
        }
    }
}

/// The interval of thresholds for scores by quantiles.
pub(super) const RECUT_US: i64 = 30;

fn us(length: i64) -> Duration {
    Duration::from_micros(length as u64)
}

fn durations(of: &'static [i64]) -> impl Strategy<Value = Duration> {
    select(of).prop_map(us)
}

fn filter() -> impl Strategy<Value = Option<usize>> {
    weighted(0.6, FLAG..WEIGHT)
}

fn aggregate() -> impl Strategy<Value = TagKind> {
    let function = prop_oneof![
        3 => (Just(Function::Count), option::of(select(vec![INT, TEXT, AT]))),
        3 => (
            select(vec![Function::Sum, Function::Avg, Function::Std]),
            select(vec![INT, FLOAT, DECIMAL]).prop_map(Some),
        ),
        2 => (
            select(vec![Function::Min, Function::Max]),
            select(vec![INT, FLOAT, DECIMAL, TEXT, FLAG, AT, DAY]).prop_map(Some),
        ),
        2 => (
            select(vec![3, 50]).prop_map(|exact_up_to| Function::Distinct { exact_up_to }),
            select(vec![INT, TEXT, DAY]).prop_map(Some),
        ),
        2 => (
            select(vec![Function::First, Function::Last]),
            select(vec![INT, FLOAT, TEXT, FLAG]).prop_map(Some),
        ),
        3 => (
            select(vec![Function::First, Function::Last, Function::Min, Function::Max]),
            select(vec![TIME, AT]).prop_map(Some),
        ),
        2 => (
            (1..5_u32).prop_map(|k| Function::LastK { k }),
            select(vec![INT, DECIMAL, TEXT, AT]).prop_map(Some),
        ),
    ];
    let rolling = (durations(&[5, 12, 30, 90]), durations(&[1, 4, 5]));
    let over = prop_oneof![
        1 => Just(Over::Lifetime),
        3 => rolling.prop_map(|(window, tile)| Over::Rolling { window, tile }),
    ];
    (function, filter(), over).prop_map(|((function, argument), filter, over)| {
        TagKind::Aggregate(Aggregate {
            function,
            argument,
            filter,
            over,
        })
    })
}

fn kind() -> impl Strategy<Value = TagKind> {
    let top = (
        option::of(Just(WEIGHT)),
        filter(),
        1..4_usize,
        durations(&[7, 40]),
    );
    let mode = select(vec![
        FunnelMode::Default,
        FunnelMode::StrictOrder,
        FunnelMode::StrictDeduplication,
        FunnelMode::StrictIncrease,
    ]);
    let steps = vec(FLAG..WEIGHT, 1..4);
    let same = select(vec![vec![], vec![TEXT], vec![INT, TEXT]]);
    let again = select(vec![Again::Each, Again::First, Again::Restart]);
    let (after, expect) = (FLAG..WEIGHT, FLAG..WEIGHT);
    let within = || durations(&[1, 5, 12, 60]);
    prop_oneof![
        6 => aggregate(),
        1 => top.prop_map(|(weight, filter, k, half_life)| TagKind::TopK(TopK {
            argument: TEXT, weight, filter, k, half_life,
        })),
        2 => (within(), mode, steps).prop_map(|(within, mode, steps)| {
            let steps = steps.into_iter().enumerate();
            let steps = steps.map(|(step, column)| (format!("step_{step}"), column)).collect();
            TagKind::Funnel(Funnel { within, mode, steps })
        }),
        2 => (after, expect, same, within(), again).prop_map(
            |(after, expect, same, within, again)| TagKind::Absence(Absence {
                after, expect, same, within, again,
            })
        ),
    ]
}

/// A tag that depends on any other one.
#[derive(Debug, Clone)]
enum Derived {
    TimeSince(Duration),
    Score(tags::Thresholds, bool),
}

fn derived() -> impl Strategy<Value = (Derived, Index, Option<Duration>)> {
    let cut = (-8..40_i32).prop_map(|cut| f64::from(cut) / 2.0);
    let kind = prop_oneof![
        durations(&[1, 5, 7]).prop_map(Derived::TimeSince),
        (vec(cut, 0..3), any::<bool>()).prop_map(|(mut thresholds, is_reversed)| {
            thresholds.sort_by(f64::total_cmp);
            Derived::Score(tags::Thresholds::At(thresholds), is_reversed)
        }),
        (2..5_usize, any::<bool>()).prop_map(|(parts, is_reversed)| {
            Derived::Score(tags::Thresholds::Quantiles(parts), is_reversed)
        }),
    ];
    (kind, any::<Index>(), weighted(0.15, durations(&[3, 20])))
}

/// A condition on columns that are not known yet.
#[derive(Debug, Clone)]
enum Draft {
    Leaf(Index, Operator, i64),
    Not(Box<Draft>),
    Both(Box<Draft>, bool, Box<Draft>),
}

fn draft() -> impl Strategy<Value = Draft> {
    let operator = select(vec![
        Operator::Gt,
        Operator::GtEq,
        Operator::Lt,
        Operator::LtEq,
        Operator::Eq,
    ]);
    let leaf = (any::<Index>(), operator, -2..12_i64);
    let leaf = leaf.prop_map(|(column, operator, number)| Draft::Leaf(column, operator, number));
    leaf.prop_recursive(2, 4, 2, |of| {
        prop_oneof![
            of.clone().prop_map(|of| Draft::Not(Box::new(of))),
            (of.clone(), any::<bool>(), of).prop_map(|(one, and, other)| Draft::Both(
                Box::new(one),
                and,
                Box::new(other)
            )),
        ]
    })
}

impl Draft {
    fn of(&self, is_bool: &[bool]) -> Condition {
        match self {
            Self::Leaf(column, operator, number) => {
                let column = column.index(is_bool.len());
                if is_bool[column] {
                    Condition::IsTrue(column)
                } else {
                    Condition::Compare(column, *operator, *number)
                }
            }
            Self::Not(of) => Condition::Not(Box::new(of.of(is_bool))),
            Self::Both(one, true, other) => {
                Condition::And(Box::new(one.of(is_bool)), Box::new(other.of(is_bool)))
            }
            Self::Both(one, false, other) => {
                Condition::Or(Box::new(one.of(is_bool)), Box::new(other.of(is_bool)))
            }
        }
    }
}

/// Tags and segments. If `is_late`, events may be late, and no definition depends on earlier
/// results.
pub(super) fn case(is_late: bool) -> impl Strategy<Value = Case> {
    let tags = vec((kind(), weighted(0.3, durations(&[3, 10, 50]))), 1..8);
    let hold = if is_late { vec![0] } else { vec![0, 5, 40] };
    let exit = if is_late { 0.001 } else { 0.5 };
    let segment = (
        draft(),
        weighted(exit, draft()),
        select(hold),
        any::<bool>(),
    );
    let lateness = if is_late {
        select(vec![1, 20, 60])
    } else {
        select(vec![0, 20])
    };
    let id = if is_late {
        select(vec![Some(ID), Some(TEXT_ID)])
    } else {
        select(vec![None, Some(ID), Some(TEXT_ID)])
    };
    (
        tags,
        vec(derived(), 0..4),
        vec(segment, 0..3),
        lateness,
        option::of(durations(&[70, 150])),
        (durations(&[7, 20, 50]), durations(&[7, 20, 50])),
        id,
    )
        .prop_map(
            move |(tags, derived, segments, lateness, state_ttl, profile, id)| {
                let (every, newest) = profile;
                let tags = named(tags, derived);
                let fields = Tags::fields(&tags, &schema()).unwrap();
                let types: Vec<DataType> = fields.iter().map(|it| it.data_type().clone()).collect();
                let rule_tags: Vec<usize> = (0..tags.len())
                    .filter(|tag| matches!(types[*tag], DataType::Int64 | DataType::Boolean))
                    .collect();
                let is_bool: Vec<bool> = rule_tags
                    .iter()
                    .map(|tag| types[*tag] == DataType::Boolean)
                    .collect();
                let since: HashSet<usize> = rule_tags
                    .iter()
                    .enumerate()
                    .filter(|(_, tag)| matches!(tags[**tag].kind, TagKind::TimeSince(_)))
                    .map(|(column, _)| column)
                    .collect();
                let names: Vec<String> = rule_tags
                    .iter()
                    .map(|tag| tags[*tag].name.clone())
                    .collect();
                let mut cases = Vec::new();
                let mut rules = Vec::new();
                for (enter, exit, hold_us, has_values) in segments {
                    if rule_tags.is_empty() {
                        break;
                    }
                    let exit = exit.filter(|_| !is_late);
                    let (enter, exit) = (enter.of(&is_bool), exit.map(|exit| exit.of(&is_bool)));
                    let rule = |text: &str, condition: &Condition| {
                        let columns = condition.columns().into_iter();
                        let time_triggers = columns.filter(|column| since.contains(column));
                        let time_triggers = time_triggers.map(|column| {
                            let numbers = condition.numbers(Some(column));
                            (column, if has_values { numbers } else { Vec::new() })
                        });
                        rule(text, condition, &names, time_triggers.collect())
                    };
                    rules.push(Segment {
                        name: format!("segment_{}", rules.len()).into(),
                        enter: rule("enter", &enter),
                        exit: exit.as_ref().map(|exit| rule("exit", exit)),
                        hold_at_least: us(hold_us),
                    });
                    cases.push(SegmentCase {
                        enter,
                        exit,
                        hold_us,
                    });
                }
                Case {
                    spec: TagsSpec {
                        lateness: us(lateness),
                        state_ttl,
                        profile: Profile {
                            every: Some(every),
                            newest: vec![newest],
                        },
                        id,
                        segments: Segments {
                            tags: rule_tags,
                            segments: rules,
                            errors: RowErrors::default(),
                        },
                        ..spec(tags)
                    },
                    types,
                    segments: cases,
                }
            },
        )
}

/// A rule over the columns `names`.
pub(super) fn rule(
    text: &str,
    condition: &Condition,
    names: &[String],
    time_triggers: Vec<(usize, Vec<i64>)>,
) -> Rule {
    Rule {
        condition: condition.physical(names),
        text: text.into(),
        time_triggers,
    }
}

/// Only these tags.
pub(super) fn spec(tags: Vec<Tag>) -> TagsSpec {
    TagsSpec {
        pipeline: "test".into(),
        node: "tags".into(),
        input: schema(),
        key: USER,
        time: TIME,
        id: Some(ID),
        shown: 3,
        personal: BTreeSet::new(),
        spill: None,
        lateness: Duration::ZERO,
        state_ttl: None,
        profile: Profile::default(),
        rescore_every: us(RECUT_US),
        counted: Vec::new(),
        tags,
        segments: Segments::default(),
    }
}

/// Sets the names of tags, and the inputs of derived ones.
fn named(
    kinds: Vec<(TagKind, Option<Duration>)>,
    derived: Vec<(Derived, Index, Option<Duration>)>,
) -> Vec<Tag> {
    let mut tags: Vec<Tag> = Vec::new();
    for (kind, ttl) in kinds {
        tags.push(Tag {
            name: format!("tag_{}", tags.len()),
            kind,
            ttl,
        });
    }
    for (kind, index, ttl) in derived {
        let fields = Tags::fields(&tags, &schema()).unwrap();
        let is_candidate = |place: &usize| match (&kind, fields[*place].data_type()) {
            (Derived::TimeSince(_), DataType::Timestamp(..)) => true,
            (
                Derived::Score(thresholds, _),
                DataType::Int64 | DataType::Float64 | DataType::Decimal128(..),
            ) => {
                let by_quantiles = matches!(thresholds, tags::Thresholds::Quantiles(_));
                // Inexact tags may have different thresholds, and scores by quantiles cannot be
                // inputs.
                let is_vague = match &tags[*place].kind {
                    TagKind::Aggregate(Aggregate { function, .. }) => *function == Function::Std,
                    TagKind::Score(_) => by_quantiles,
                    _ => false,
                };
                !is_vague
            }
            _ => false,
        };
        let candidates: Vec<usize> = (0..tags.len()).filter(is_candidate).collect();
        if candidates.is_empty() {
            continue;
        }
        let tag = candidates[index.index(candidates.len())];
        tags.push(Tag {
            name: format!("tag_{}", tags.len()),
            kind: match kind {
                Derived::TimeSince(unit) => TagKind::TimeSince(TimeSince { tag, unit }),
                Derived::Score(thresholds, is_reversed) => TagKind::Score(Score {
                    tag,
                    thresholds,
                    is_reversed,
                }),
            },
            ttl,
        });
    }
    tags
}

/// The lateness of a case.
pub(super) fn lateness_us(case: &Case) -> i64 {
    micros(case.spec.lateness)
}
