//! Keys and times as parts of a state.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, AsArray, Int64Array, UInt8Array, UInt64Array},
    datatypes::{ArrowPrimitiveType, Int64Type, UInt64Type},
    record_batch::RecordBatch,
};
use tagflow_engine::{
    Error, Result,
    state::{KEY_GROUP_COLUMN, KeyHash, StatePart},
};

const HIGH: &str = "high";
const LOW: &str = "low";
const TIME: &str = "time_us";

/// The rows of a part.
pub(super) fn rows(entries: impl Iterator<Item = (KeyHash, i64)> + Clone) -> Result<RecordBatch> {
    let high = UInt64Array::from_iter_values(entries.clone().map(|(key, _)| key.high));
    let low = UInt64Array::from_iter_values(entries.clone().map(|(key, _)| key.low));
    let time = Int64Array::from_iter_values(entries.clone().map(|(_, time)| time));
    let group = UInt8Array::from_iter_values(entries.map(|(key, _)| key.key_group()));
    let columns: [(&str, ArrayRef); 4] = [
        (HIGH, Arc::new(high)),
        (LOW, Arc::new(low)),
        (TIME, Arc::new(time)),
        (KEY_GROUP_COLUMN, Arc::new(group)),
    ];
    let columns = columns.map(|(name, values)| (name, values, true));
    Ok(RecordBatch::try_from_iter_with_nullable(columns)?)
}

/// The entries of a part.
pub(super) fn entries(part: &StatePart) -> Result<Vec<(KeyHash, i64)>> {
    let high = column::<UInt64Type>(part, HIGH)?;
    let low = column::<UInt64Type>(part, LOW)?;
    let time = column::<Int64Type>(part, TIME)?;
    let keys = high
        .iter()
        .zip(low)
        .map(|(&high, &low)| KeyHash { high, low });
    Ok(keys.zip(time.iter().copied()).collect())
}

fn column<'a, T: ArrowPrimitiveType>(part: &'a StatePart, name: &str) -> Result<&'a [T::Native]> {
    part.rows
        .column_by_name(name)
        .and_then(|column| column.as_primitive_opt::<T>())
        .map(|column| column.values().as_ref())
        .ok_or_else(|| Error::data(format!("the stored state `{}` cannot be read", part.key)))
}
