//! Partial aggregates of events. They are commutative monoids, so that tiles can be
//! merged in any order and late events need no special handling.

use std::cmp::Ordering;

use smallvec::{SmallVec, smallvec};

use crate::tags::{
    codec::{self, Codec, codec},
    value::Value,
};

/// An event as an aggregate sees it.
#[derive(Debug)]
pub(crate) struct Observation {
    /// The time of the event.
    pub(super) time: i64,
    /// Distinguishes events with the same time.
    pub(super) tiebreak: u64,
    /// The argument; null where the aggregate has none.
    pub(super) value: Value,
}

/// The partial aggregate of some events. `limit` is the limit of its part.
pub(super) trait Accumulator: Clone + Default + Codec {
    /// The aggregate of one event.
    fn of(event: &Observation) -> Self;

    /// Adds one event.
    fn add(&mut self, event: &Observation, limit: u32) {
        self.merge(&Self::of(event), limit);
    }

    /// Merges another set of events.
    fn merge(&mut self, other: &Self, limit: u32);

    /// Removes the earliest events, where `rest` are the tiles of all other events.
    /// Returns false if the result cannot be computed.
    fn subtract<'a>(&mut self, _other: &Self, _rest: impl Iterator<Item = &'a Self> + Clone) -> bool
    where
        Self: 'a,
    {
        false
    }

    /// The aggregate of all `tiles`, which are in the order of time.
    fn fold<'a>(tiles: impl Iterator<Item = &'a Self>, limit: u32) -> Self
    where
        Self: 'a,
    {
        let mut all = Self::default();
        for tile in tiles {
            all.merge(tile, limit);
        }
        all
    }
}

/// The number of events.
#[derive(Debug, Clone, Default)]
pub(super) struct Count(pub(super) u64);

impl Codec for Count {
    fn put(&self, bytes: &mut Vec<u8>) {
        codec::put_number(bytes, self.0);
    }

    fn take(bytes: &mut &[u8]) -> Option<Self> {
        codec::take_number(bytes).map(Self)
    }
}

impl Accumulator for Count {
    fn of(_: &Observation) -> Self {
        Self(1)
    }

    fn merge(&mut self, other: &Self, _: u32) {
        self.0 += other.0;
    }

    fn subtract<'a>(&mut self, other: &Self, _: impl Iterator<Item = &'a Self>) -> bool {
        self.0 -= other.0;
        true
    }
}

/// The sum of whole numbers, or of the digits of decimals: exact, or unknown.
#[derive(Debug, Clone, Default)]
pub(super) struct Sum(i128);

impl Sum {
    /// The marker of a sum that exceeded 128 bits at some time.
    const UNKNOWN: Self = Self(i128::MAX);

    /// The sum, if it is known.
    pub(super) fn get(&self) -> Option<i128> {
        // Earlier builds saturated sums at either end.
        (self.0 != i128::MAX && self.0 != i128::MIN).then_some(self.0)
    }
}

impl Accumulator for Sum {
    fn of(event: &Observation) -> Self {
        Self(match event.value {
            Value::Int(value) => i128::from(value),
            Value::Decimal(digits) => digits,
            _ => 0,
        })
    }

    fn merge(&mut self, other: &Self, _: u32) {
        let sum = self.get().zip(other.get());
        let sum = sum.and_then(|(mine, theirs)| mine.checked_add(theirs));
        *self = sum.map_or(Self::UNKNOWN, Self);
    }

    fn subtract<'a>(&mut self, other: &Self, _: impl Iterator<Item = &'a Self>) -> bool {
        let sum = self.get().zip(other.get());
        let rest = sum.and_then(|(mine, theirs)| mine.checked_sub(theirs));
        if let Some(rest) = rest {
            self.0 = rest;
        }
        rest.is_some()
    }
}

/// Count, mean and sum of squared deviations, merged as in Chan, Golub and `LeVeque`,
/// *Updating Formulae and a Pairwise Algorithm for Computing Sample Variances* (1979).
/// Also provides the sum of floats.
#[derive(Debug, Clone, Default)]
pub(super) struct Moments {
    pub(super) count: u64,
    pub(super) sum: f64,
    pub(super) squares: f64,
}

impl Moments {
    fn mean(&self) -> f64 {
        self.sum / self.count as f64
    }

    /// The sample standard deviation; NaN if a number is NaN.
    pub(super) fn deviation(&self) -> Option<f64> {
        // The squares are a sum of non-negative numbers.
        (self.count > 1).then(|| (self.squares / (self.count - 1) as f64).sqrt())
    }
}

impl Moments {
    pub(super) fn of_number(value: f64) -> Self {
        Self {
            count: 1,
            sum: value,
            squares: 0.0,
        }
    }
}

impl Accumulator for Moments {
    fn of(event: &Observation) -> Self {
        Self::of_number(match event.value {
            Value::Int(value) => value as f64,
            Value::Decimal(digits) => digits as f64,
            Value::Float(value) => value,
            _ => 0.0,
        })
    }

    fn merge(&mut self, other: &Self, _: u32) {
        if other.count == 0 {
            return;
        }
        if self.count == 0 {
            self.clone_from(other);
            return;
        }
        let (mine, theirs) = (self.count as f64, other.count as f64);
        let apart = other.mean() - self.mean();
        self.squares += other.squares + apart * apart * mine * theirs / (mine + theirs);
        self.sum += other.sum;
        self.count += other.count;
    }
}

/// The smallest value.
#[derive(Debug, Clone, Default)]
pub(super) struct Low(pub(super) Value);

impl Accumulator for Low {
    fn of(event: &Observation) -> Self {
        Self(event.value.clone())
    }

    fn merge(&mut self, other: &Self, _: u32) {
        if self.0.is_null() || (!other.0.is_null() && other.0.compare(&self.0) == Ordering::Less) {
            self.0 = other.0.clone();
        }
    }

    fn subtract<'a>(&mut self, other: &Self, _: impl Iterator<Item = &'a Self>) -> bool {
        other.0.is_null() || other.0.compare(&self.0) == Ordering::Greater
    }
}

/// The largest value.
#[derive(Debug, Clone, Default)]
pub(super) struct High(pub(super) Value);

impl Accumulator for High {
    fn of(event: &Observation) -> Self {
        Self(event.value.clone())
    }

    fn merge(&mut self, other: &Self, _: u32) {
        if other.0.compare(&self.0) == Ordering::Greater {
            self.0 = other.0.clone();
        }
    }

    fn subtract<'a>(&mut self, other: &Self, _: impl Iterator<Item = &'a Self>) -> bool {
        other.0.is_null() || other.0.compare(&self.0) == Ordering::Less
    }
}

/// A value with the time and tie of its event.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Timestamped {
    pub(super) time: i64,
    tiebreak: u64,
    pub(super) value: Value,
}

impl Timestamped {
    fn of(event: &Observation) -> Self {
        Self {
            time: event.time,
            tiebreak: event.tiebreak,
            value: event.value.clone(),
        }
    }

    fn place(&self) -> (i64, u64) {
        (self.time, self.tiebreak)
    }
}

/// The value of the earliest event; among events of equal time and tie, of the first to
/// arrive.
#[derive(Debug, Clone, Default)]
pub(super) struct First(pub(super) Option<Timestamped>);

impl Accumulator for First {
    fn of(event: &Observation) -> Self {
        Self(Some(Timestamped::of(event)))
    }

    fn add(&mut self, event: &Observation, _: u32) {
        let known = self.0.as_ref();
        if known.is_none_or(|known| (event.time, event.tiebreak) < known.place()) {
            *self = Self::of(event);
        }
    }

    fn merge(&mut self, other: &Self, _: u32) {
        let Some(theirs) = &other.0 else { return };
        if self
            .0
            .as_ref()
            .is_none_or(|mine| theirs.place() < mine.place())
        {
            self.0 = Some(theirs.clone());
        }
    }

    fn fold<'a>(mut tiles: impl Iterator<Item = &'a Self>, _: u32) -> Self {
        let first = tiles.find(|tile| tile.0.is_some());
        first.cloned().unwrap_or_default()
    }
}

/// The values of the latest events, at most `limit`, the latest first; among events of
/// equal time and tie, the last to arrive is first.
#[derive(Debug, Clone, Default)]
pub(super) struct Recent(pub(super) SmallVec<[Timestamped; 1]>);

impl Recent {
    fn insert(&mut self, new: Timestamped, limit: u32) {
        let limit = limit as usize;
        let place = (self.0).partition_point(|known| known.place() > new.place());
        if place < limit {
            self.0.truncate(limit - 1);
            self.0.insert(place, new);
        }
    }
}

impl Accumulator for Recent {
    fn of(event: &Observation) -> Self {
        Self(smallvec![Timestamped::of(event)])
    }

    fn add(&mut self, event: &Observation, limit: u32) {
        self.insert(Timestamped::of(event), limit);
    }

    fn merge(&mut self, other: &Self, limit: u32) {
        for theirs in other.0.iter().rev() {
            self.insert(theirs.clone(), limit);
        }
    }

    fn subtract<'a>(&mut self, other: &Self, _: impl Iterator<Item = &'a Self>) -> bool {
        // Values that were dropped are even earlier.
        if let Some(last) = other.0.first() {
            self.0.retain(|mine| mine.place() > last.place());
        }
        true
    }
}

/// Distinct values, by their hashes. Up to `limit`, all hashes are kept. Beyond, the
/// lowest `limit` hashes are kept, from which the number of all is estimated (Bar-Yossef
/// et al., *Counting Distinct Elements in a Data Stream*, 2002; the theta of Dasgupta et
/// al., *A Framework for Estimating Stream Expression Cardinalities*, 2016).
#[derive(Debug, Clone, Default)]
pub(super) struct Distinct {
    /// In ascending order. Most tiles have one hash.
    hashes: SmallVec<[u64; 2]>,
    /// The lowest hash that was dropped.
    theta: Option<u64>,
}

impl Distinct {
    /// The number of distinct values.
    pub(super) fn count(&self) -> i64 {
        match self.theta {
            None => self.hashes.len() as i64,
            Some(theta) => {
                let share = theta as f64 / (u64::MAX as f64 + 1.0);
                (self.hashes.len() as f64 / share).round() as i64
            }
        }
    }
}

impl Accumulator for Distinct {
    fn of(event: &Observation) -> Self {
        Self {
            hashes: smallvec![event.value.hash()],
            theta: None,
        }
    }

    fn subtract<'a>(&mut self, other: &Self, rest: impl Iterator<Item = &'a Self> + Clone) -> bool {
        if self.theta.is_some() {
            // Hashes that were dropped may be needed now.
            return false;
        }
        let stays = |hash| {
            let mut rest = rest.clone();
            rest.any(|tile| tile.hashes.binary_search(hash).is_ok())
        };
        for hash in other.hashes.iter().filter(|hash| !stays(hash)) {
            if let Ok(place) = self.hashes.binary_search(hash) {
                self.hashes.remove(place);
            }
        }
        true
    }

    fn merge(&mut self, other: &Self, limit: u32) {
        let theta = [self.theta, other.theta].into_iter().flatten().min();
        let below = |hashes: &[u64]| match theta {
            Some(theta) => hashes.partition_point(|hash| *hash < theta),
            None => hashes.len(),
        };
        self.theta = theta;
        self.hashes.truncate(below(&self.hashes));
        match &other.hashes[..below(&other.hashes)] {
            [] => {}
            [hash] => {
                if let Err(place) = self.hashes.binary_search(hash) {
                    self.hashes.insert(place, *hash);
                }
            }
            hashes => {
                self.hashes.extend_from_slice(hashes);
                #[expect(clippy::stable_sort_primitive, reason = "it merges two runs")]
                self.hashes.sort();
                self.hashes.dedup();
            }
        }
        let limit = limit as usize;
        if self.hashes.len() > limit {
            self.theta = Some(self.hashes[limit]);
            self.hashes.truncate(limit);
        }
    }
}

codec! {
    Sum { 0 }
    Moments { count, sum, squares }
    Low { 0 }
    High { 0 }
    Timestamped { time, tiebreak, value }
    First { 0 }
    Recent { 0 }
    Distinct { hashes, theta }
}
