//! Random rows, in the order in which they arrive.

use std::sync::Arc;

use arrow::{
    array::{
        ArrayRef, BooleanArray, Decimal128Array, Float64Array, Int64Array, RecordBatch,
        StringArray, TimestampMicrosecondArray,
    },
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use proptest::{collection::vec, option::weighted, prelude::*};
use tagflow_engine::graph::OFFSET_COLUMN;

use crate::{portions::PORTION_BYTES, window::columns::utc};

pub(super) const PARTITIONS: usize = 4;
pub(super) const SIZE_US: i64 = 60;
/// The index of the event time in [`schema`].
pub(super) const TIME: usize = 0;

#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) partition: usize,
    pub(super) ts: i64,
    pub(super) campaign: Option<String>,
    pub(super) item: Option<i64>,
    pub(super) x: Option<i64>,
    pub(super) y: Option<i64>,
    pub(super) s: Option<String>,
    pub(super) b: Option<bool>,
    pub(super) o: i64,
}

impl Row {
    pub(super) fn start(&self) -> i64 {
        i64::try_from(i128::from(self.ts).div_euclid(i128::from(SIZE_US)) * i128::from(SIZE_US))
            .unwrap()
    }
}

/// A row of `item` with no other values.
pub(super) fn row(partition: usize, ts: i64, item: i64) -> Row {
    Row {
        partition,
        ts,
        campaign: None,
        item: Some(item),
        x: None,
        y: None,
        s: None,
        b: None,
        o: 0,
    }
}

/// Up to `count` rows whose event times advance, with at most `disorder` of disorder.
pub(super) fn rows(count: usize, disorder: i64) -> impl Strategy<Value = Vec<Row>> {
    let origin = prop_oneof![Just(0), Just(-1_000), Just(1_767_000_000_000_000_i64)];
    let row = (
        (0..PARTITIONS, 0..=disorder, 0..12_i64),
        weighted(0.8, "[abc]{1,2}"),
        weighted(0.8, 0..4_i64),
        weighted(0.8, -9..9_i64),
        weighted(0.8, -9..9_i64),
        weighted(0.8, "[a-zé ]{0,3}"),
        weighted(0.8, any::<bool>()),
        0..5_i64,
    );
    (origin, vec(row, 0..=count)).prop_map(|(origin, rows)| {
        let mut clock = origin;
        let rows = rows.into_iter();
        rows.map(|((partition, back, step), campaign, item, x, y, s, b, o)| {
            clock += step;
            Row {
                partition,
                ts: clock - back,
                campaign,
                item,
                x,
                y,
                s,
                b,
                o,
            }
        })
        .collect()
    })
}

/// The number of bytes of groups that become output at a time: mostly all, sometimes few.
pub(super) fn portion() -> impl Strategy<Value = usize> {
    prop_oneof![4 => Just(PORTION_BYTES), 1 => Just(256)]
}

pub(super) fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("ts", utc(), false),
        // The group columns of the batch oracle.
        Field::new("start", utc(), false),
        Field::new("campaign", DataType::Utf8, true),
        Field::new("item", DataType::Int64, true),
        Field::new("x", DataType::Int64, true),
        Field::new("y", DataType::Int64, true),
        Field::new("f", DataType::Float64, true),
        Field::new("d", DataType::Decimal128(18, 2), true),
        Field::new("s", DataType::Utf8, true),
        Field::new("b", DataType::Boolean, true),
        Field::new("o", DataType::Int64, false),
        Field::new(OFFSET_COLUMN, DataType::Int64, false),
    ]))
}

pub(super) fn batch<'a>(rows: impl IntoIterator<Item = &'a Row>) -> RecordBatch {
    let rows: Vec<&Row> = rows.into_iter().collect();
    let times = |of: fn(&Row) -> i64| -> ArrayRef {
        let values = rows.iter().map(|row| of(row));
        Arc::new(TimestampMicrosecondArray::from_iter_values(values).with_timezone("UTC"))
    };
    let ints = |of: fn(&Row) -> Option<i64>| -> ArrayRef {
        Arc::new(rows.iter().map(|row| of(row)).collect::<Int64Array>())
    };
    let strings = |of: fn(&Row) -> Option<&str>| -> ArrayRef {
        Arc::new(rows.iter().map(|row| of(row)).collect::<StringArray>())
    };
    // Quarters, so that sums are exact in any order.
    let floats = rows.iter().map(|row| row.y.map(|y| y as f64 / 4.0));
    let decimals = rows.iter().map(|row| row.y.map(i128::from));
    let decimals = decimals.collect::<Decimal128Array>();
    let bools = rows.iter().map(|row| row.b).collect::<BooleanArray>();
    RecordBatch::try_new(
        schema(),
        vec![
            times(|row| row.ts),
            times(Row::start),
            strings(|row| row.campaign.as_deref()),
            ints(|row| row.item),
            ints(|row| row.x),
            ints(|row| row.y),
            Arc::new(floats.collect::<Float64Array>()),
            Arc::new(decimals.with_precision_and_scale(18, 2).unwrap()),
            strings(|row| row.s.as_deref()),
            Arc::new(bools),
            ints(|row| Some(row.o)),
            // The event time of a row serves as its offset.
            ints(|row| Some(row.ts)),
        ],
    )
    .unwrap()
}
