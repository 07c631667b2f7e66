//! One aggregate of a series: a partial for each tile, and one for each window.

use std::{collections::VecDeque, ops::Range};

use arrow::datatypes::DataType;
use serde::{Deserialize, Serialize};
use smallvec::{SmallVec, smallvec};

use super::{
    coding::Coded,
    definition::Function,
    partial::{Count, Distinct, First, High, Low, Moments, Observation, Partial, Recent, Sum},
    value::Value,
};

/// What is kept for an aggregate function. Functions may share one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(super) enum PartKind {
    Count,
    Sum,
    Moments,
    Low,
    High,
    First,
    Distinct(u32),
    Recent(u32),
}

impl PartKind {
    /// What `function` over an argument of `data_type` needs.
    pub(super) fn of(function: Function, data_type: Option<&DataType>) -> Vec<Self> {
        let is_float = data_type == Some(&DataType::Float64);
        match function {
            Function::Count => vec![Self::Count],
            Function::Sum | Function::Avg if is_float => vec![Self::Moments],
            Function::Sum => vec![Self::Sum],
            Function::Avg => vec![Self::Sum, Self::Count],
            Function::Std => vec![Self::Moments],
            Function::Min => vec![Self::Low],
            Function::Max => vec![Self::High],
            Function::Distinct { exact_up_to } => vec![Self::Distinct(exact_up_to)],
            Function::First => vec![Self::First],
            Function::Last => vec![Self::Recent(1)],
            Function::LastK { k } => vec![Self::Recent(k)],
        }
    }
}

/// The partials of tiles and windows.
#[derive(Debug, Clone, Default)]
pub(super) struct Partials<P> {
    tiles: VecDeque<P>,
    /// Of a lifetime there is one.
    windows: SmallVec<[P; 1]>,
}

/// The state of one [`PartKind`].
#[derive(Debug, Clone)]
pub(super) enum Part {
    Count(Partials<Count>),
    Sum(Partials<Sum>),
    Moments(Partials<Moments>),
    Low(Partials<Low>),
    High(Partials<High>),
    First(Partials<First>),
    Distinct(u32, Partials<Distinct>),
    Recent(u32, Partials<Recent>),
}

/// Does the same with the partials of any kind.
macro_rules! with_partials {
    ($part:expr, |$partials:ident, $limit:ident| $do:expr) => {
        match $part {
            Part::Count($partials) => {
                let $limit = 0;
                $do
            }
            Part::Sum($partials) => {
                let $limit = 0;
                $do
            }
            Part::Moments($partials) => {
                let $limit = 0;
                $do
            }
            Part::Low($partials) => {
                let $limit = 0;
                $do
            }
            Part::High($partials) => {
                let $limit = 0;
                $do
            }
            Part::First($partials) => {
                let $limit = 0;
                $do
            }
            Part::Distinct(limit, $partials) => {
                let $limit = *limit;
                $do
            }
            Part::Recent(limit, $partials) => {
                let $limit = *limit;
                $do
            }
        }
    };
}

impl Part {
    /// Of no event, with so many tiles and windows.
    pub(super) fn new(kind: PartKind, tiles: usize, windows: usize) -> Self {
        match kind {
            PartKind::Count => Self::Count(Partials::new(tiles, windows)),
            PartKind::Sum => Self::Sum(Partials::new(tiles, windows)),
            PartKind::Moments => Self::Moments(Partials::new(tiles, windows)),
            PartKind::Low => Self::Low(Partials::new(tiles, windows)),
            PartKind::High => Self::High(Partials::new(tiles, windows)),
            PartKind::First => Self::First(Partials::new(tiles, windows)),
            PartKind::Distinct(limit) => Self::Distinct(limit, Partials::new(tiles, windows)),
            PartKind::Recent(limit) => Self::Recent(limit, Partials::new(tiles, windows)),
        }
    }

    /// What it is of.
    pub(super) fn kind(&self) -> PartKind {
        match self {
            Self::Count(_) => PartKind::Count,
            Self::Sum(_) => PartKind::Sum,
            Self::Moments(_) => PartKind::Moments,
            Self::Low(_) => PartKind::Low,
            Self::High(_) => PartKind::High,
            Self::First(_) => PartKind::First,
            Self::Distinct(limit, _) => PartKind::Distinct(*limit),
            Self::Recent(limit, _) => PartKind::Recent(*limit),
        }
    }

    /// Adds an event to the windows from `first` on.
    pub(super) fn add(&mut self, event: &Observation, first: usize) {
        with_partials!(self, |partials, limit| {
            for window in &mut partials.windows[first..] {
                window.add(event, limit);
            }
        });
    }

    /// Adds an event to a tile, which is a new one in that place if `is_new`.
    pub(super) fn add_to_tile(&mut self, event: &Observation, tile: usize, is_new: bool) {
        with_partials!(self, |partials, limit| if is_new {
            partials.tiles.insert(tile, Partial::of(event));
        } else {
            partials.tiles[tile].add(event, limit);
        });
    }

    /// Takes the first tiles of `leaving` to its end out of a window; those behind
    /// them stay.
    pub(super) fn leave(&mut self, window: usize, leaving: Range<usize>) {
        with_partials!(self, |partials, limit| partials
            .leave(window, leaving, limit));
    }

    /// Makes a window's partial from the tiles from `first` on.
    pub(super) fn fold(&mut self, window: usize, first: usize) {
        with_partials!(self, |partials, limit| partials.fold(window, first, limit));
    }

    /// Of a tile alone, as the only window.
    pub(super) fn of_tile(&self, tile: usize) -> Self {
        let mut part = self.clone();
        with_partials!(&mut part, |partials, _limit| {
            partials.windows = partials.tiles.drain(tile..=tile).collect();
            partials.tiles.clear();
        });
        part
    }

    /// Forgets the first tiles.
    pub(super) fn forget(&mut self, tiles: usize) {
        with_partials!(self, |partials, _limit| drop(partials.tiles.drain(..tiles)));
    }

    /// Has so many windows, all without events.
    pub(super) fn reset_windows(&mut self, windows: usize) {
        with_partials!(self, |partials, _limit| {
            partials.windows.clear();
            partials.windows.resize_with(windows, Default::default);
        });
    }
}

impl<P: Partial> Coded for Partials<P> {
    fn put(&self, bytes: &mut Vec<u8>) {
        self.tiles.put(bytes);
        self.windows.put(bytes);
    }

    fn take(bytes: &mut &[u8]) -> Option<Self> {
        Some(Self {
            tiles: Coded::take(bytes)?,
            windows: Coded::take(bytes)?,
        })
    }
}

impl Coded for PartKind {
    fn put(&self, bytes: &mut Vec<u8>) {
        let (number, limit) = match self {
            Self::Count => (0_u8, None),
            Self::Sum => (1, None),
            Self::Moments => (2, None),
            Self::Low => (3, None),
            Self::High => (4, None),
            Self::First => (5, None),
            Self::Distinct(limit) => (6, Some(limit)),
            Self::Recent(limit) => (7, Some(limit)),
        };
        number.put(bytes);
        if let Some(limit) = limit {
            limit.put(bytes);
        }
    }

    fn take(bytes: &mut &[u8]) -> Option<Self> {
        Some(match u8::take(bytes)? {
            0 => Self::Count,
            1 => Self::Sum,
            2 => Self::Moments,
            3 => Self::Low,
            4 => Self::High,
            5 => Self::First,
            6 => Self::Distinct(Coded::take(bytes)?),
            7 => Self::Recent(Coded::take(bytes)?),
            _ => return None,
        })
    }
}

impl Coded for Part {
    fn put(&self, bytes: &mut Vec<u8>) {
        self.kind().put(bytes);
        with_partials!(self, |partials, _limit| partials.put(bytes));
    }

    fn take(bytes: &mut &[u8]) -> Option<Self> {
        let mut part = Self::new(PartKind::take(bytes)?, 0, 0);
        with_partials!(&mut part, |partials, _limit| *partials =
            Coded::take(bytes)?);
        Some(part)
    }
}

impl<P: Partial> Partials<P> {
    fn new(tiles: usize, windows: usize) -> Self {
        Self {
            tiles: vec![P::default(); tiles].into(),
            windows: smallvec![P::default(); windows],
        }
    }

    fn leave(&mut self, window: usize, leaving: Range<usize>, limit: u32) {
        let stay = leaving.end;
        for tile in leaving {
            let rest = self.tiles.range(tile + 1..);
            if !self.windows[window].subtract(&self.tiles[tile], rest) {
                self.fold(window, stay, limit);
                return;
            }
        }
    }

    fn fold(&mut self, window: usize, first: usize, limit: u32) {
        self.windows[window] = P::fold(self.tiles.range(first..), limit);
    }
}

/// The value of `function` over an argument of `argument` in a window, from the
/// parts that [`PartKind::of`] names.
pub(super) fn value(
    function: Function,
    argument: Option<&DataType>,
    parts: &[Part],
    window: usize,
) -> Value {
    let scale = match argument {
        Some(DataType::Decimal128(_, scale)) => 10f64.powi(i32::from(*scale)),
        _ => 1.0,
    };
    let float = |value: Option<f64>| value.map_or(Value::Null, Value::Float);
    for part in parts {
        match (function, part) {
            (Function::Count, Part::Count(it)) => {
                return Value::Int(it.windows[window].0 as i64);
            }
            (Function::Sum, Part::Sum(it)) => {
                let sum = it.windows[window].0;
                return match argument {
                    Some(DataType::Decimal128(..)) => Value::Decimal(sum),
                    _ => Value::Int(i64::try_from(sum).unwrap_or(if sum < 0 {
                        i64::MIN
                    } else {
                        i64::MAX
                    })),
                };
            }
            (Function::Sum, Part::Moments(it)) if argument == Some(&DataType::Float64) => {
                return Value::Float(it.windows[window].sum);
            }
            (Function::Avg, Part::Moments(it)) if argument == Some(&DataType::Float64) => {
                let it = &it.windows[window];
                return float((it.count > 0).then(|| it.sum / it.count as f64));
            }
            (Function::Avg, Part::Sum(sum)) => {
                let counts = parts.iter().find_map(|part| match part {
                    Part::Count(counts) => Some(&counts.windows[window]),
                    _ => None,
                });
                let count = counts.map_or(0, |count| count.0);
                let sum = sum.windows[window].0 as f64 / scale;
                return float((count > 0).then(|| sum / count as f64));
            }
            (Function::Std, Part::Moments(it)) => {
                return float(it.windows[window].deviation().map(|it| it / scale));
            }
            (Function::Min, Part::Low(it)) => return it.windows[window].0.clone(),
            (Function::Max, Part::High(it)) => return it.windows[window].0.clone(),
            (Function::First, Part::First(it)) => {
                let first = it.windows[window].0.as_ref();
                return first.map_or(Value::Null, |first| first.value.clone());
            }
            (Function::Last, Part::Recent(1, it)) => {
                let last = it.windows[window].0.first();
                return last.map_or(Value::Null, |last| last.value.clone());
            }
            (Function::LastK { k }, Part::Recent(limit, it)) if *limit == k => {
                let recent = &it.windows[window].0;
                if recent.is_empty() {
                    return Value::Null;
                }
                return Value::List(recent.iter().map(|it| it.value.clone()).collect());
            }
            (Function::Distinct { exact_up_to }, Part::Distinct(limit, it))
                if *limit == exact_up_to =>
            {
                return Value::Int(it.windows[window].count());
            }
            _ => {}
        }
    }
    Value::Null
}
