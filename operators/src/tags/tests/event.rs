//! Random events, in the order in which they arrive.

use std::sync::Arc;

use arrow::{
    array::{
        ArrayRef, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int64Array,
        RecordBatch, StringArray, TimestampMicrosecondArray,
    },
    datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit},
};
use proptest::{collection::vec, option::weighted, prelude::*};
use tagflow_engine::graph::OFFSET_COLUMN;

use crate::tags::value::Value;

pub(super) const PARTITIONS: usize = 3;
/// The largest disorder of rows, and the delay of the watermark.
pub(super) const DELAY_US: i64 = 10;

pub(super) const TIME: usize = 0;
pub(super) const USER: usize = 1;
pub(super) const ID: usize = 2;
pub(super) const TEXT_ID: usize = 3;
pub(super) const INT: usize = 4;
pub(super) const FLOAT: usize = 5;
pub(super) const DECIMAL: usize = 6;
pub(super) const TEXT: usize = 7;
/// The first of three conditions.
pub(super) const FLAG: usize = 8;
pub(super) const WEIGHT: usize = 11;
pub(super) const AT: usize = 12;
pub(super) const DAY: usize = 13;

#[derive(Debug, Clone)]
pub(super) struct Event {
    pub(super) time: i64,
    pub(super) user: Option<String>,
    pub(super) id: Option<i64>,
    pub(super) int: Option<i64>,
    pub(super) float: Option<f64>,
    pub(super) decimal: Option<i128>,
    pub(super) text: Option<String>,
    pub(super) flags: [Option<bool>; 3],
    pub(super) weight: Option<f64>,
    pub(super) at: Option<i64>,
    pub(super) day: Option<i32>,
    pub(super) partition: usize,
    pub(super) offset: i64,
}

/// Rows that arrive, and the watermark after them.
#[derive(Debug, Clone)]
pub(super) struct Arrival {
    pub(super) events: Vec<Event>,
    pub(super) watermark: Option<i64>,
}

impl Event {
    /// An event of `key_state` with only its time and the flags of `flags`.
    pub(super) fn new(user: &str, time: i64, flags: [bool; 3]) -> Self {
        Self {
            time,
            user: Some(user.into()),
            id: None,
            int: None,
            float: None,
            decimal: None,
            text: None,
            flags: flags.map(Some),
            weight: None,
            at: None,
            day: None,
            partition: 0,
            offset: 0,
        }
    }

    pub(super) fn value(&self, column: usize) -> Value {
        let int = |value: Option<i64>| value.map_or(Value::Null, Value::Int);
        let text = |value: &Option<String>| {
            let value = value.as_deref();
            value.map_or(Value::Null, |text| Value::Text(text.into()))
        };
        match column {
            TIME => Value::Int(self.time),
            USER => text(&self.user),
            INT => int(self.int),
            FLOAT => self.float.map_or(Value::Null, Value::Float),
            DECIMAL => self.decimal.map_or(Value::Null, Value::Decimal),
            TEXT => text(&self.text),
            8..=10 => self.flags[column - FLAG].map_or(Value::Null, Value::Bool),
            AT => int(self.at),
            DAY => int(self.day.map(i64::from)),
            _ => unreachable!("no argument"),
        }
    }

    pub(super) fn passes(&self, filter: Option<usize>) -> bool {
        filter.is_none_or(|column| self.flags[column - FLAG] == Some(true))
    }

    /// Its position among the events of its user.
    pub(super) fn place(&self, has_id: bool) -> (i64, Option<i64>, usize, i64) {
        let id = self.id.filter(|_| has_id);
        (self.time, id, self.partition, self.offset)
    }
}

pub(super) fn schema() -> SchemaRef {
    let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    Arc::new(Schema::new(vec![
        Field::new("ts", utc.clone(), false),
        Field::new("user_id", DataType::Utf8, true),
        Field::new("id", DataType::Int64, true),
        Field::new("text_id", DataType::Utf8, true),
        Field::new("int", DataType::Int64, true),
        Field::new("float", DataType::Float64, true),
        Field::new("decimal", DataType::Decimal128(10, 2), true),
        Field::new("text", DataType::Utf8, true),
        Field::new("flag_0", DataType::Boolean, true),
        Field::new("flag_1", DataType::Boolean, true),
        Field::new("flag_2", DataType::Boolean, true),
        Field::new("weight", DataType::Float64, true),
        Field::new("at", utc, true),
        Field::new("day", DataType::Date32, true),
        Field::new(OFFSET_COLUMN, DataType::Int64, false),
    ]))
}

pub(super) fn batch(events: &[&Event]) -> RecordBatch {
    let all = || events.iter();
    let times = TimestampMicrosecondArray::from_iter_values(all().map(|it| it.time));
    let ats: TimestampMicrosecondArray = all().map(|it| it.at).collect();
    let decimals: Decimal128Array = all().map(|it| it.decimal).collect();
    let flags = |flag: usize| -> ArrayRef {
        Arc::new(all().map(|it| it.flags[flag]).collect::<BooleanArray>())
    };
    let columns: Vec<ArrayRef> = vec![
        Arc::new(times.with_timezone("UTC")),
        Arc::new(all().map(|it| it.user.as_deref()).collect::<StringArray>()),
        Arc::new(all().map(|it| it.id).collect::<Int64Array>()),
        Arc::new(
            all()
                .map(|it| it.id.map(|id| format!("{id:06}")))
                .collect::<StringArray>(),
        ),
        Arc::new(all().map(|it| it.int).collect::<Int64Array>()),
        Arc::new(all().map(|it| it.float).collect::<Float64Array>()),
        Arc::new(decimals.with_precision_and_scale(10, 2).unwrap()),
        Arc::new(all().map(|it| it.text.as_deref()).collect::<StringArray>()),
        flags(0),
        flags(1),
        flags(2),
        Arc::new(all().map(|it| it.weight).collect::<Float64Array>()),
        Arc::new(ats.with_timezone("UTC")),
        Arc::new(all().map(|it| it.day).collect::<Date32Array>()),
        Arc::new(Int64Array::from_iter_values(all().map(|it| it.offset))),
    ];
    RecordBatch::try_new(schema(), columns).unwrap()
}

/// An event without time, the advance of the clock before it, and its distance behind the clock.
fn event(back: BoxedStrategy<i64>) -> impl Strategy<Value = (i64, i64, Event)> {
    let step = prop_oneof![4 => Just(0), 4 => 1..4_i64, 1 => 5..20_i64];
    let user = prop_oneof![
        12 => Just(Some("heavy")),
        8 => prop_oneof![Just(Some("b")), Just(Some("c")), Just(Some(""))],
        1 => Just(None),
    ];
    let flag = || weighted(0.9, any::<bool>());
    (
        (step, back, user, 0..PARTITIONS, weighted(0.9, 0..4_i64)),
        weighted(0.85, -5..5_i64),
        weighted(0.85, (-8..8_i32).prop_map(|it| f64::from(it) / 4.0)),
        weighted(0.85, -300..300_i128),
        weighted(0.85, "[a-e]"),
        (flag(), flag(), flag()),
        weighted(
            0.9,
            prop_oneof![
                Just(-1.0),
                Just(0.0),
                Just(0.5),
                Just(1.0),
                Just(2.0),
                Just(5.0)
            ],
        ),
        weighted(0.85, -30..30_i64),
        weighted(0.85, 0..4_i32),
    )
        .prop_map(
            |(
                (step, back, user, partition, id),
                int,
                float,
                decimal,
                text,
                flags,
                weight,
                at,
                day,
            )| {
                let event = Event {
                    time: 0,
                    user: user.map(Into::into),
                    id,
                    int,
                    float,
                    decimal,
                    text,
                    flags: flags.into(),
                    weight,
                    at,
                    day,
                    partition,
                    offset: 0,
                };
                (step, back, event)
            },
        )
}

/// Up to `count` arrivals of some events each. Events are `back` behind the clock. If
/// `has_own_ids`, each has an id of its own.
pub(super) fn arrivals(
    count: usize,
    back: BoxedStrategy<i64>,
    has_own_ids: bool,
) -> impl Strategy<Value = Vec<Arrival>> {
    let origin = prop_oneof![Just(0), Just(-1_000), Just(1_767_000_000_000_000_i64)];
    let gap = prop_oneof![12 => Just(0), 5 => 1..20_i64, 3 => 100..400_i64];
    let behind = weighted(0.7, prop_oneof![Just(0), 0..15_i64]);
    let arrival = (vec(event(back), 0..8), gap, behind);
    (origin, vec(arrival, 0..count)).prop_map(move |(origin, arrivals)| {
        let (mut clock, mut number) = (origin, 0);
        let arrivals = arrivals.into_iter().map(|(events, gap, behind)| {
            clock += gap;
            let events = events.into_iter().map(|(step, back, mut event)| {
                clock += step;
                number += 1;
                event.time = clock - back;
                event.at = event.at.map(|at| at + event.time);
                event.offset = number;
                if has_own_ids {
                    // Not in the order of arrival.
                    event.id = Some(number * 7_919 % 100_003);
                }
                event
            });
            Arrival {
                events: events.collect(),
                watermark: behind.map(|behind| clock - DELAY_US - behind),
            }
        });
        arrivals.collect()
    })
}
