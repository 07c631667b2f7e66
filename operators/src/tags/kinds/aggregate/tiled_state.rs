//! One aggregate of a series: a partial aggregate for each tile, and one for each window.

use std::{collections::VecDeque, ops::Range};

use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType, Decimal128Type, DecimalType};
use serde::{Deserialize, Serialize};
use smallvec::{SmallVec, smallvec};

use super::{
    accumulator::{
        Accumulator, Count, Distinct, First, High, Low, Moments, Observation, Recent, Sum,
    },
    function::Function,
};
use crate::tags::{codec::Codec, value::Value};

/// The kind of state that an aggregate function needs. Functions may share one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) enum TiledStateKind {
    Count,
    Sum,
    Moments,
    Low,
    High,
    First,
    Distinct(u32),
    Recent(u32),
}

impl TiledStateKind {
    /// The kind that `function` over an argument of `data_type` needs.
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

/// The partial aggregates of tiles and windows.
#[derive(Debug, Clone, Default)]
pub(super) struct Tiles<P> {
    tiles: VecDeque<P>,
    /// A lifetime has exactly one window.
    windows: SmallVec<[P; 1]>,
}

/// The state of one [`TiledStateKind`].
#[derive(Debug, Clone)]
pub(crate) enum TiledState {
    Count(Tiles<Count>),
    Sum(Tiles<Sum>),
    Moments(Tiles<Moments>),
    Low(Tiles<Low>),
    High(Tiles<High>),
    First(Tiles<First>),
    Distinct(u32, Tiles<Distinct>),
    Recent(u32, Tiles<Recent>),
}

/// Does the same with the partial aggregates of any kind.
macro_rules! with_partials {
    ($part:expr, |$partials:ident, $limit:ident| $do:expr) => {
        match $part {
            TiledState::Count($partials) => {
                let $limit = 0;
                $do
            }
            TiledState::Sum($partials) => {
                let $limit = 0;
                $do
            }
            TiledState::Moments($partials) => {
                let $limit = 0;
                $do
            }
            TiledState::Low($partials) => {
                let $limit = 0;
                $do
            }
            TiledState::High($partials) => {
                let $limit = 0;
                $do
            }
            TiledState::First($partials) => {
                let $limit = 0;
                $do
            }
            TiledState::Distinct(limit, $partials) => {
                let $limit = *limit;
                $do
            }
            TiledState::Recent(limit, $partials) => {
                let $limit = *limit;
                $do
            }
        }
    };
}

impl TiledState {
    /// A part without events, with this many tiles and windows.
    pub(super) fn new(kind: TiledStateKind, tiles: usize, windows: usize) -> Self {
        match kind {
            TiledStateKind::Count => Self::Count(Tiles::new(tiles, windows)),
            TiledStateKind::Sum => Self::Sum(Tiles::new(tiles, windows)),
            TiledStateKind::Moments => Self::Moments(Tiles::new(tiles, windows)),
            TiledStateKind::Low => Self::Low(Tiles::new(tiles, windows)),
            TiledStateKind::High => Self::High(Tiles::new(tiles, windows)),
            TiledStateKind::First => Self::First(Tiles::new(tiles, windows)),
            TiledStateKind::Distinct(limit) => Self::Distinct(limit, Tiles::new(tiles, windows)),
            TiledStateKind::Recent(limit) => Self::Recent(limit, Tiles::new(tiles, windows)),
        }
    }

    /// The kind of the part.
    pub(super) fn kind(&self) -> TiledStateKind {
        match self {
            Self::Count(_) => TiledStateKind::Count,
            Self::Sum(_) => TiledStateKind::Sum,
            Self::Moments(_) => TiledStateKind::Moments,
            Self::Low(_) => TiledStateKind::Low,
            Self::High(_) => TiledStateKind::High,
            Self::First(_) => TiledStateKind::First,
            Self::Distinct(limit, _) => TiledStateKind::Distinct(*limit),
            Self::Recent(limit, _) => TiledStateKind::Recent(*limit),
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

    /// Adds an event to a tile. Inserts the tile at that position if `is_new`.
    pub(super) fn add_to_tile(&mut self, event: &Observation, tile: usize, is_new: bool) {
        with_partials!(self, |partials, limit| if is_new {
            partials.tiles.insert(tile, Accumulator::of(event));
        } else {
            partials.tiles[tile].add(event, limit);
        });
    }

    /// Removes the tiles of `leaving`, the first of a window, from the window; later
    /// tiles stay.
    pub(super) fn leave(&mut self, window: usize, leaving: Range<usize>) {
        with_partials!(self, |partials, limit| partials
            .leave(window, leaving, limit));
    }

    /// Rebuilds a window from the tiles from `first` on.
    pub(super) fn fold(&mut self, window: usize, first: usize) {
        with_partials!(self, |partials, limit| partials.fold(window, first, limit));
    }

    /// A copy that has a single tile as its only window.
    pub(super) fn of_tile(&self, tile: usize) -> Self {
        let mut part = self.clone();
        with_partials!(&mut part, |partials, _limit| {
            partials.windows = partials.tiles.drain(tile..=tile).collect();
            partials.tiles.clear();
        });
        part
    }

    /// Drops the first `tiles` tiles.
    pub(super) fn forget(&mut self, tiles: usize) {
        with_partials!(self, |partials, _limit| drop(partials.tiles.drain(..tiles)));
    }

    /// Replaces the windows by this many empty ones.
    pub(super) fn reset_windows(&mut self, windows: usize) {
        with_partials!(self, |partials, _limit| {
            partials.windows.clear();
            partials.windows.resize_with(windows, Default::default);
        });
    }
}

impl<P: Accumulator> Codec for Tiles<P> {
    fn put(&self, bytes: &mut Vec<u8>) {
        self.tiles.put(bytes);
        self.windows.put(bytes);
    }

    fn take(bytes: &mut &[u8]) -> Option<Self> {
        Some(Self {
            tiles: Codec::take(bytes)?,
            windows: Codec::take(bytes)?,
        })
    }
}

impl Codec for TiledStateKind {
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
            6 => Self::Distinct(Codec::take(bytes)?),
            7 => Self::Recent(Codec::take(bytes)?),
            _ => return None,
        })
    }
}

impl Codec for TiledState {
    fn put(&self, bytes: &mut Vec<u8>) {
        self.kind().put(bytes);
        with_partials!(self, |partials, _limit| partials.put(bytes));
    }

    fn take(bytes: &mut &[u8]) -> Option<Self> {
        let mut part = Self::new(TiledStateKind::take(bytes)?, 0, 0);
        with_partials!(&mut part, |partials, _limit| *partials =
            Codec::take(bytes)?);
        Some(part)
    }
}

impl<P: Accumulator> Tiles<P> {
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

/// The value of `function` over an argument of `argument` in a window, from the parts
/// that [`TiledStateKind::of`] names. A sum that its type cannot represent is null.
pub(super) fn value(
    function: Function,
    argument: Option<&DataType>,
    parts: &[TiledState],
    window: usize,
) -> Value {
    let scale = match argument {
        Some(DataType::Decimal128(_, scale)) => 10f64.powi(i32::from(*scale)),
        _ => 1.0,
    };
    let float = |value: Option<f64>| value.map_or(Value::Null, Value::Float);
    let fits = |digits: &i128| {
        Decimal128Type::is_valid_decimal_precision(*digits, DECIMAL128_MAX_PRECISION)
    };
    for part in parts {
        match (function, part) {
            (Function::Count, TiledState::Count(it)) => {
                return Value::Int(it.windows[window].0 as i64);
            }
            (Function::Sum, TiledState::Sum(it)) => {
                let sum = it.windows[window].get();
                let sum = match argument {
                    Some(DataType::Decimal128(..)) => sum.filter(fits).map(Value::Decimal),
                    _ => sum.and_then(|sum| sum.try_into().ok()).map(Value::Int),
                };
                return sum.unwrap_or_default();
            }
            (Function::Sum, TiledState::Moments(it)) if argument == Some(&DataType::Float64) => {
                return Value::Float(it.windows[window].sum);
            }
            (Function::Avg, TiledState::Moments(it)) if argument == Some(&DataType::Float64) => {
                let it = &it.windows[window];
                return float((it.count > 0).then(|| it.sum / it.count as f64));
            }
            (Function::Avg, TiledState::Sum(sum)) => {
                let counts = parts.iter().find_map(|part| match part {
                    TiledState::Count(counts) => Some(&counts.windows[window]),
                    _ => None,
                });
                let count = counts.map_or(0, |count| count.0);
                let sum = sum.windows[window].get().filter(|_| count > 0);
                return float(sum.map(|sum| sum as f64 / scale / count as f64));
            }
            (Function::Std, TiledState::Moments(it)) => {
                return float(it.windows[window].deviation().map(|it| it / scale));
            }
            (Function::Min, TiledState::Low(it)) => return it.windows[window].0.clone(),
            (Function::Max, TiledState::High(it)) => return it.windows[window].0.clone(),
            (Function::First, TiledState::First(it)) => {
                let first = it.windows[window].0.as_ref();
                return first.map_or(Value::Null, |first| first.value.clone());
            }
            (Function::Last, TiledState::Recent(1, it)) => {
                let last = it.windows[window].0.first();
                return last.map_or(Value::Null, |last| last.value.clone());
            }
            (Function::LastK { k }, TiledState::Recent(limit, it)) if *limit == k => {
                let recent = &it.windows[window].0;
                if recent.is_empty() {
                    return Value::Null;
                }
                return Value::List(recent.iter().map(|it| it.value.clone()).collect());
            }
            (Function::Distinct { exact_up_to }, TiledState::Distinct(limit, it))
                if *limit == exact_up_to =>
            {
                return Value::Int(it.windows[window].count());
            }
            _ => {}
        }
    }
    Value::Null
}
