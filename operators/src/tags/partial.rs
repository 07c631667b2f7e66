//! What is kept of events that go into one aggregate: commutative monoids, so that
//! tiles can be merged in any order and late events need no other way.

use std::cmp::Ordering;

use smallvec::{SmallVec, smallvec};

use super::{
    coding::{self, Coded, coded},
    value::Value,
};

/// An event as an aggregate sees it.
#[derive(Debug)]
pub(super) struct Observation {
    /// When it happened.
    pub(super) time: i64,
    /// Tells apart events of one time.
    pub(super) tie: u64,
    /// Its argument; null where there is none.
    pub(super) value: Value,
}

/// What is kept of some events. `limit` is that of the part that it belongs to.
pub(super) trait Partial: Clone + Default + Coded {
    /// Of one event.
    fn of(event: &Observation) -> Self;

    /// With one event more.
    fn add(&mut self, event: &Observation, limit: u32) {
        self.merge(&Self::of(event), limit);
    }

    /// Of both sets of events.
    fn merge(&mut self, other: &Self, limit: u32);

    /// Without the earliest events that it is of, where `rest` are the tiles of all
    /// others; false where that is not known.
    fn subtract<'a>(&mut self, _other: &Self, _rest: impl Iterator<Item = &'a Self> + Clone) -> bool
    where
        Self: 'a,
    {
        false
    }

    /// Of all of `tiles`, which are in the order of time.
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

/// How many.
#[derive(Debug, Clone, Default)]
pub(super) struct Count(pub(super) u64);

impl Coded for Count {
    fn put(&self, bytes: &mut Vec<u8>) {
        coding::put_number(bytes, self.0);
    }

    fn take(bytes: &mut &[u8]) -> Option<Self> {
        coding::take_number(bytes).map(Self)
    }
}

impl Partial for Count {
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

/// The sum of whole numbers, or of the digits of decimals.
#[derive(Debug, Clone, Default)]
pub(super) struct Sum(pub(super) i128);

impl Partial for Sum {
    fn of(event: &Observation) -> Self {
        Self(match event.value {
            Value::Int(value) => i128::from(value),
            Value::Decimal(digits) => digits,
            _ => 0,
        })
    }

    fn merge(&mut self, other: &Self, _: u32) {
        self.0 = self.0.saturating_add(other.0);
    }

    fn subtract<'a>(&mut self, other: &Self, _: impl Iterator<Item = &'a Self>) -> bool {
        // A sum that was cut off is not known any more.
        if self.0 == i128::MAX || self.0 == i128::MIN {
            return false;
        }
        self.0 -= other.0;
        true
    }
}

/// Number, mean and sum of squared deviations, merged as in Chan, Golub and
/// `LeVeque`, *Updating Formulae and a Pairwise Algorithm for Computing Sample
/// Variances* (1979). The sum of floats comes from here too.
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

    /// The sample standard deviation.
    pub(super) fn deviation(&self) -> Option<f64> {
        (self.count > 1).then(|| (self.squares / (self.count - 1) as f64).max(0.0).sqrt())
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

impl Partial for Moments {
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

impl Partial for Low {
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

impl Partial for High {
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

/// A value with the place in time of its event.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Placed {
    pub(super) time: i64,
    tie: u64,
    pub(super) value: Value,
}

impl Placed {
    fn of(event: &Observation) -> Self {
        Self {
            time: event.time,
            tie: event.tie,
            value: event.value.clone(),
        }
    }

    fn place(&self) -> (i64, u64) {
        (self.time, self.tie)
    }
}

/// The value of the earliest event; of those at one place, of the one that came
/// first.
#[derive(Debug, Clone, Default)]
pub(super) struct First(pub(super) Option<Placed>);

impl Partial for First {
    fn of(event: &Observation) -> Self {
        Self(Some(Placed::of(event)))
    }

    fn add(&mut self, event: &Observation, _: u32) {
        let known = self.0.as_ref();
        if known.is_none_or(|known| (event.time, event.tie) < known.place()) {
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

/// The values of the latest events, at most `limit` of them, the latest first; of
/// those at one place, the one that came last first.
#[derive(Debug, Clone, Default)]
pub(super) struct Recent(pub(super) SmallVec<[Placed; 1]>);

impl Recent {
    fn insert(&mut self, new: Placed, limit: u32) {
        let limit = limit as usize;
        let place = (self.0).partition_point(|known| known.place() > new.place());
        if place < limit {
            self.0.truncate(limit - 1);
            self.0.insert(place, new);
        }
    }
}

impl Partial for Recent {
    fn of(event: &Observation) -> Self {
        Self(smallvec![Placed::of(event)])
    }

    fn add(&mut self, event: &Observation, limit: u32) {
        self.insert(Placed::of(event), limit);
    }

    fn merge(&mut self, other: &Self, limit: u32) {
        for theirs in other.0.iter().rev() {
            self.insert(theirs.clone(), limit);
        }
    }

    fn subtract<'a>(&mut self, other: &Self, _: impl Iterator<Item = &'a Self>) -> bool {
        // What was left out is earlier still.
        if let Some(last) = other.0.first() {
            self.0.retain(|mine| mine.place() > last.place());
        }
        true
    }
}

/// Different values, by their hashes: all of them up to `limit`; beyond, the lowest
/// `limit` hashes, from which the number of all is estimated (Bar-Yossef et al.,
/// *Counting Distinct Elements in a Data Stream*, 2002; the theta of Dasgupta et
/// al., *A Framework for Estimating Stream Expression Cardinalities*, 2016).
#[derive(Debug, Clone, Default)]
pub(super) struct Distinct {
    /// Ascending. A tile mostly has one.
    hashes: SmallVec<[u64; 2]>,
    /// The lowest hash that was left out.
    theta: Option<u64>,
}

impl Distinct {
    /// How many there are.
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

impl Partial for Distinct {
    fn of(event: &Observation) -> Self {
        Self {
            hashes: smallvec![event.value.hash()],
            theta: None,
        }
    }

    fn subtract<'a>(&mut self, other: &Self, rest: impl Iterator<Item = &'a Self> + Clone) -> bool {
        if self.theta.is_some() {
            // What was left out may be needed now.
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

coded! {
    Sum { 0 }
    Moments { count, sum, squares }
    Low { 0 }
    High { 0 }
    Placed { time, tie, value }
    First { 0 }
    Recent { 0 }
    Distinct { hashes, theta }
}
