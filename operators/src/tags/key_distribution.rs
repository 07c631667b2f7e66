//! The distribution of tag values over all keys, and its quantile thresholds.
//!
//! A score by quantiles depends on the keys of all lanes. A separate operator in front of
//! the tags counts them; it computes only the scored tags. At each instant at which
//! thresholds change, each of its lanes sends the counts of its values to every lane of
//! the tags. Each of these sums the counts and finds the same thresholds once its
//! watermark has passed that instant. The watermark follows the counts.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::Arc,
};

use arrow::{
    array::{
        ArrayRef, AsArray, BinaryArray, Float64Array, Int64Array, RecordBatch, StringArray,
        TimestampMicrosecondArray,
    },
    datatypes::{
        DataType, Field, Float64Type, Int64Type, Schema, SchemaRef, TimeUnit,
        TimestampMicrosecondType,
    },
};
use tagflow_engine::{
    Error, Result,
    state::{Restore, Snapshot, StatePart, WholePart, rows_for_all},
};

use super::{kinds::Derived, plan::Plan, time_trigger::trigger_values};

/// The key of the part that contains it.
const PART: &str = "population";
const COLUMN: &str = "population";

/// Numbers are distinguished by 13 bits after the leading one: integers are exact up to
/// 16,384, others to one part in 8,192.
const EQUAL_BITS: i64 = (1 << (52 - 13)) - 1;

/// The frequency of each number, by its [place](place).
#[derive(Debug, Default)]
pub(super) struct Counts(BTreeMap<i64, u64>);

/// The distribution over all keys: the current thresholds, and pending counts.
#[derive(Debug, Default)]
pub(super) struct KeyDistribution {
    /// By instant; then by the fingerprint of the tag, the lane that counted, and the
    /// place of the number.
    counts: BTreeMap<i64, BTreeMap<(String, i64, i64), u64>>,
    /// By the fingerprint of the score.
    thresholds: BTreeMap<String, Vec<f64>>,
    part: WholePart,
}

impl Counts {
    /// Counts a number, unless it is NaN.
    pub(super) fn add(&mut self, number: f64) {
        if !number.is_nan() {
            *self.0.entry(place(number)).or_default() += 1;
        }
    }

    /// The least numbers above the lowest 1/`parts`, 2/`parts` … of all; infinity where
    /// no number is above. None if nothing was counted.
    pub(super) fn thresholds(&self, parts: usize) -> Option<Vec<f64>> {
        let all: u64 = self.0.values().sum();
        let lowest = |part: usize| (all * part as u64).div_ceil(parts as u64);
        let mut thresholds = Vec::with_capacity(parts - 1);
        let mut below = 0;
        for (place, count) in &self.0 {
            while thresholds.len() + 1 < parts && lowest(thresholds.len() + 1) <= below {
                thresholds.push(number(*place));
            }
            below += count;
        }
        thresholds.resize(parts - 1, f64::INFINITY);
        (all > 0).then_some(thresholds)
    }

    /// The counts of `lane` for the tag `fingerprint` as of `at`, as rows for every lane.
    pub(super) fn rows(&self, at: i64, lane: usize, fingerprint: &str) -> Result<RecordBatch> {
        let rows = self.0.len();
        let at = TimestampMicrosecondArray::from_value(at, rows).with_timezone("UTC");
        let counts = self.0.values().map(|count| *count as i64);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(at),
            Arc::new(StringArray::from_iter_values(std::iter::repeat_n(
                fingerprint,
                rows,
            ))),
            Arc::new(Int64Array::from_value(lane as i64, rows)),
            Arc::new(Float64Array::from_iter_values(
                self.0.keys().map(|place| number(*place)),
            )),
            Arc::new(Int64Array::from_iter_values(counts)),
        ];
        Ok(RecordBatch::try_new(schema(), columns)?)
    }
}

impl KeyDistribution {
    /// Adds rows of [`Counts::rows`].
    pub(super) fn take(&mut self, rows: &RecordBatch) {
        let ats = rows.column(0).as_primitive::<TimestampMicrosecondType>();
        let tags = rows.column(1).as_string::<i32>();
        let lanes = rows.column(2).as_primitive::<Int64Type>();
        let numbers = rows.column(3).as_primitive::<Float64Type>();
        let counts = rows.column(4).as_primitive::<Int64Type>();
        for row in 0..rows.num_rows() {
            let of = self.counts.entry(ats.value(row)).or_default();
            let key = (
                tags.value(row).to_owned(),
                lanes.value(row),
                place(numbers.value(row)),
            );
            of.insert(key, counts.value(row) as u64);
        }
        self.part.change();
    }

    /// The instants before `watermark` for which counts are pending.
    pub(super) fn due(&self, watermark: i64) -> impl Iterator<Item = i64> {
        self.counts.range(..watermark).map(|(at, _)| *at)
    }

    /// Computes the thresholds as of `at` for `plan`.
    pub(super) fn cut(&mut self, at: i64, plan: &Plan) {
        let counted = self.counts.remove(&at).unwrap_or_default();
        let mut counts: BTreeMap<String, Counts> = BTreeMap::new();
        for ((tag, _, place), count) in counted {
            *counts.entry(tag).or_default().0.entry(place).or_default() += count;
        }
        for tag in &plan.tags {
            if let (Some(of), Some(parts)) = (tag.source.derived(), tag.quantiles()) {
                let counts = counts.get(&plan.tags[of.tag()].fingerprint);
                if let Some(thresholds) = counts.and_then(|counts| counts.thresholds(parts)) {
                    self.thresholds.insert(tag.fingerprint.clone(), thresholds);
                }
            }
        }
        self.part.change();
    }

    /// The plan `plan` with the current thresholds.
    pub(super) fn scored(&self, plan: &Plan) -> Plan {
        let mut plan = plan.clone();
        for (place, tag) in plan.tags.iter_mut().enumerate() {
            if tag.quantiles().is_none() {
                continue;
            }
            let derived = tag.source.derived_mut();
            let Some(thresholds) = derived.and_then(Derived::thresholds_mut) else {
                continue;
            };
            // None before keys have been counted.
            thresholds.at = self.thresholds.get(&tag.fingerprint).cloned();
            for trigger in &mut plan.time_triggers {
                if trigger.thresholds_of == Some(place) {
                    trigger.after = Some(trigger_values(thresholds.at.as_deref()));
                }
            }
        }
        plan
    }

    /// Adds the part to `snapshot` if it has changed.
    pub(super) fn snapshot(&mut self, snapshot: &mut Snapshot) -> Result<()> {
        self.part.snapshot(PART, snapshot, || {
            let content = (&self.counts, &self.thresholds);
            let bytes = postcard::to_allocvec(&content).map_err(|error| {
                Error::internal("the counts of keys cannot be written").with_source(error)
            })?;
            let bytes = Arc::new(BinaryArray::from_vec(vec![&bytes]));
            rows_for_all([(COLUMN, bytes as _)]).map(Some)
        })
    }

    /// Restores a stored part; returns whether `part` was one. The parts of all lanes are
    /// equal, or receive the same counts later.
    pub(super) fn restore(&mut self, part: &StatePart, lanes: Restore) -> Result<bool> {
        if part.key != PART {
            return Ok(false);
        }
        let unreadable = || Error::data("the stored counts of keys cannot be read");
        let column = part.rows.column_by_name(COLUMN).ok_or_else(unreadable)?;
        let column = column.as_binary_opt::<i32>().ok_or_else(unreadable)?;
        for bytes in column.iter().flatten() {
            let (counts, thresholds): (BTreeMap<_, _>, BTreeMap<_, _>) =
                postcard::from_bytes(bytes).map_err(|error| unreadable().with_source(error))?;
            for (at, counts) in counts {
                match self.counts.entry(at) {
                    Entry::Vacant(entry) => drop(entry.insert(counts)),
                    Entry::Occupied(mut entry) => entry.get_mut().extend(counts),
                }
            }
            self.thresholds.extend(thresholds);
        }
        self.part.restore(&part.key, lanes);
        Ok(true)
    }
}

/// The columns of [`Counts::rows`].
pub(super) fn schema() -> SchemaRef {
    let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    Arc::new(Schema::new(vec![
        Field::new("at", utc, false),
        Field::new("tag", DataType::Utf8, false),
        Field::new("lane", DataType::Int64, false),
        Field::new("value", DataType::Float64, false),
        Field::new("keys", DataType::Int64, false),
    ]))
}

/// The position of a number in the order of numbers, the same for nearly equal ones.
fn place(number: f64) -> i64 {
    let bits = number.to_bits() as i64;
    let place = if bits < 0 { -(bits & i64::MAX) } else { bits };
    place & !EQUAL_BITS
}

/// The lowest number with this place.
fn number(place: i64) -> f64 {
    let number = f64::from_bits(place.unsigned_abs());
    if place < 0 { -number } else { number }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn counts(numbers: &[f64]) -> Counts {
        let mut counts = Counts::default();
        for number in numbers {
            counts.add(*number);
        }
        counts
    }

    #[test]
    fn cuts_are_the_least_above_the_lowest_parts() {
        let numbers: Vec<f64> = (1..=10).map(f64::from).collect();
        assert_eq!(
            counts(&numbers).thresholds(5).unwrap(),
            [3.0, 5.0, 7.0, 9.0]
        );
        // Most are zero, and belong to the lowest parts.
        let numbers = [0.0, 0.0, 0.0, 0.0, -0.0, 0.0, 20.0, 30.0];
        assert_eq!(counts(&numbers).thresholds(4).unwrap(), [20.0, 20.0, 20.0]);
        let same = counts(&[7.0, 7.0, f64::NAN]).thresholds(3).unwrap();
        assert_eq!(same, [f64::INFINITY, f64::INFINITY]);
        assert_eq!(counts(&[]).thresholds(3), None);
    }

    proptest! {
        #[test]
        fn whole_numbers_are_cut_as_defined(
            numbers in vec(-16_384..=16_384_i32, 1..60),
            parts in 2..8_usize,
        ) {
            let mut numbers: Vec<f64> = numbers.into_iter().map(f64::from).collect();
            let thresholds = counts(&numbers).thresholds(parts).unwrap();
            numbers.sort_by(f64::total_cmp);
            for (cut, part) in thresholds.into_iter().zip(1..) {
                let lowest = &numbers[..(numbers.len() * part).div_ceil(parts)];
                let above = numbers.iter().find(|it| **it > lowest[lowest.len() - 1]);
                let expected = above.unwrap_or(&f64::INFINITY);
                prop_assert_eq!(cut.to_bits(), expected.to_bits());
            }
        }

        #[test]
        fn nearly_equal_numbers_stay_in_order(one in -1e12..1e12_f64, other in -1e12..1e12_f64) {
            prop_assert_eq!(place(one).cmp(&place(other)).is_le(), one <= other || place(one) == place(other));
            let low = number(place(one));
            prop_assert!(low <= one && one - low <= one.abs() / 8_192.0);
        }
    }
}
