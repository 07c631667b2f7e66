//! Events of one condition and argument over time: sparse tiles, shared by all
//! windows and aggregates.
//!
//! ```text
//! tiles   ▓ ▓     ▓  ▓▓      ▓        only those with events, in order
//! 30 days [                        ]  leaves tile by tile at its end (the tail is
//! 7 days                 [         ]  rounded); enters event by event (the head is
//!                                     exact)
//! ```
//!
//! These are the sawtooth windows of Chronon. A tile leaves a window together with its
//! last instant; a window of one-microsecond tiles is exact.

use std::collections::VecDeque;

use arrow::datatypes::DataType;
use smallvec::SmallVec;
use tagflow_engine::{Error, Result};

use super::{
    accumulator::Observation,
    components::Components,
    read::Read,
    tiled_state::{self, TiledState, TiledStateKind},
};
use crate::tags::{
    codec::{Codec, put_length, put_number, take_length, take_number},
    event::{Event, Timing},
    kinds::stateful::{Outcome, StatePlan, Tile},
    value::Value,
};

/// The compiled definition of a series; times are in microseconds.
#[derive(Debug, Clone)]
pub(crate) struct RollingPlan {
    /// The column with the condition.
    pub(super) filter: Option<usize>,
    /// The column with the argument.
    pub(super) argument: Option<usize>,
    pub(super) argument_type: Option<DataType>,
    /// The width of a tile; none if the lifetime is the only window.
    pub(super) tile: Option<i64>,
    /// The windows, in ascending order; for the lifetime, a single meaningless one.
    pub(super) windows: Vec<i64>,
    /// The aggregates.
    pub(super) parts: Vec<TiledStateKind>,
}

/// The state of a series.
#[derive(Debug, Clone)]
pub(crate) struct RollingAggregate {
    /// The number of each tile: its start divided by the width.
    tiles: VecDeque<i64>,
    parts: SmallVec<[TiledState; 1]>,
    /// The time of the newest event.
    newest: Option<i64>,
}

impl Codec for RollingAggregate {
    fn put(&self, bytes: &mut Vec<u8>) {
        put_length(bytes, self.tiles.len());
        let mut before = 0;
        for tile in &self.tiles {
            put_number(bytes, tile.wrapping_sub(before).cast_unsigned());
            before = *tile;
        }
        self.parts.put(bytes);
        self.newest.put(bytes);
    }

    fn take(bytes: &mut &[u8]) -> Option<Self> {
        let length = take_length(bytes)?;
        let mut tiles = VecDeque::with_capacity(length.min(bytes.len()));
        let mut tile = 0_i64;
        for _ in 0..length {
            tile = tile.wrapping_add(take_number(bytes)?.cast_signed());
            tiles.push_back(tile);
        }
        Some(Self {
            tiles,
            parts: Codec::take(bytes)?,
            newest: Codec::take(bytes)?,
        })
    }
}

impl StatePlan for RollingPlan {
    type State = RollingAggregate;
    type Input = Observation;

    /// Tags over the same events and tiles share a state.
    fn share(&mut self, other: &Self) -> bool {
        let events = |plan: &Self| (plan.filter, plan.argument, plan.tile);
        if events(self) != events(other) {
            return false;
        }
        for part in &other.parts {
            if !self.parts.contains(part) {
                self.parts.push(*part);
            }
        }
        for window in &other.windows {
            if !self.windows.contains(window) {
                self.windows.push(*window);
            }
        }
        true
    }

    /// Sorts the windows and aggregates.
    fn complete(&mut self, node: &str) -> Result<()> {
        self.windows.sort_unstable();
        self.parts.sort_unstable();
        if let Some(tile) = self.tile
            && (tile <= 0 || self.windows.iter().any(|window| *window < tile))
        {
            return Err(Error::config(format!(
                "a window of `{node}` is below its tile"
            )));
        }
        Ok(())
    }

    fn locate(&self, read: &mut Read) {
        let windows = &self.windows;
        read.window = windows.partition_point(|window| *window < read.window_us);
    }

    fn components(&self) -> Components {
        Components {
            windows: self.windows.clone(),
            parts: self.parts.clone(),
        }
    }

    fn covers_us(&self, read: Option<&Read>) -> Option<i64> {
        read.map(|read| read.window_us)
            .filter(|window| *window < i64::MAX)
    }

    fn new_state(&self) -> RollingAggregate {
        RollingAggregate::new(self)
    }

    fn adapt(&self, state: RollingAggregate, clock: i64) -> RollingAggregate {
        state.adapted(self, clock)
    }

    fn input(&self, event: &Event<'_>) -> Option<Observation> {
        if !event.passes(self.filter) {
            return None;
        }
        let value = self.argument.map(|column| event.value(column));
        let is_null = value.as_ref().is_some_and(Value::is_null);
        (!is_null).then(|| Observation {
            time: event.time,
            tiebreak: event.tiebreak,
            value: value.unwrap_or_default(),
        })
    }

    fn add(
        &self,
        state: &mut RollingAggregate,
        event: Observation,
        _: Timing,
        clock: i64,
    ) -> Outcome {
        state.add(self, &event, clock);
        Outcome::New
    }

    fn value(&self, state: &RollingAggregate, read: Option<&Read>, _: i64) -> Value {
        read.map_or(Value::Null, |read| {
            self.value_of(read, &state.parts, read.window)
        })
    }

    fn tiles(&self, state: &RollingAggregate, read: Option<&Read>, clock: i64) -> Vec<Tile> {
        let Some(read) = read else { return Vec::new() };
        let tiles = state.tiles_of(self, read.window, clock);
        let tiles = tiles.map(|(start, end, parts)| Tile {
            start,
            end,
            value: self.value_of(read, &parts, 0),
        });
        tiles.collect()
    }

    fn newest(&self, state: &RollingAggregate) -> Option<i64> {
        state.newest
    }

    /// When the next tile leaves a window.
    fn next(&self, state: &RollingAggregate, clock: i64) -> Option<i64> {
        let windows = 0..self.windows.len();
        windows
            .filter_map(|window| state.next_of(self, window, clock))
            .min()
    }

    fn expires_at(&self, state: &RollingAggregate, read: Option<&Read>, clock: i64) -> Option<i64> {
        state.next_of(self, read?.window, clock)
    }

    fn advance(&self, state: &mut RollingAggregate, clock: i64, to: i64) {
        state.advance(self, clock, to);
    }
}

impl RollingPlan {
    /// The value in a window of `parts`.
    fn value_of(&self, read: &Read, parts: &[TiledState], window: usize) -> Value {
        tiled_state::value(read.function, self.argument_type.as_ref(), parts, window)
    }
}

impl RollingAggregate {
    /// A series without events.
    fn new(plan: &RollingPlan) -> Self {
        let parts = plan.parts.iter();
        Self {
            tiles: VecDeque::new(),
            parts: parts
                .map(|part| TiledState::new(*part, 0, plan.windows.len()))
                .collect(),
            newest: None,
        }
    }

    /// Converts the series to another plan with the same fingerprint: known parts and
    /// windows stay, others begin empty. `clock` is the time up to which tiles have left.
    fn adapted(mut self, plan: &RollingPlan, clock: i64) -> Self {
        let parts = plan.parts.iter().map(|kind| {
            let known = self.parts.iter().find(|part| part.kind() == *kind);
            let fresh = || TiledState::new(*kind, self.tiles.len(), plan.windows.len());
            known.cloned().unwrap_or_else(fresh)
        });
        self.parts = parts.collect();
        if let Some(width) = plan.tile {
            for part in &mut self.parts {
                part.reset_windows(plan.windows.len());
            }
            for (window, length) in plan.windows.iter().enumerate() {
                let first = self.first_within(width, *length, clock);
                for part in &mut self.parts {
                    part.fold(window, first);
                }
            }
        }
        self
    }

    /// Adds an event that is not after `clock`.
    fn add(&mut self, plan: &RollingPlan, event: &Observation, clock: i64) {
        self.newest = self.newest.max(Some(event.time));
        let Some(width) = plan.tile else {
            for part in &mut self.parts {
                part.add(event, 0);
            }
            return;
        };
        let tile = event.time.div_euclid(width);
        let end = end_of(tile, width);
        let has_left = |window: &i64| end.saturating_add(*window) <= clock;
        let first = plan.windows.partition_point(has_left);
        if first == plan.windows.len() {
            return;
        }
        let (place, is_new) = match self.tiles.binary_search(&tile) {
            Ok(place) => (place, false),
            Err(place) => (place, true),
        };
        if is_new {
            self.tiles.insert(place, tile);
        }
        for part in &mut self.parts {
            part.add(event, first);
            part.add_to_tile(event, place, is_new);
        }
    }

    /// When the next tile leaves this window, after `clock`.
    fn next_of(&self, plan: &RollingPlan, window: usize, clock: i64) -> Option<i64> {
        let (width, window) = (plan.tile?, plan.windows[window]);
        let tile = self.tiles.get(self.first_within(width, window, clock))?;
        Some(end_of(*tile, width).saturating_add(window))
    }

    /// The start and the end of each tile that is in a window as of `clock`, with the
    /// tile's parts as those of a window.
    fn tiles_of(
        &self,
        plan: &RollingPlan,
        window: usize,
        clock: i64,
    ) -> impl Iterator<Item = (i64, i64, Vec<TiledState>)> {
        let width = plan.tile.unwrap_or(i64::MAX);
        let first = self.first_within(width, plan.windows[window], clock);
        (first..self.tiles.len()).map(move |place| {
            let end = end_of(self.tiles[place], width).saturating_add(1);
            let parts = self.parts.iter().map(|part| part.of_tile(place));
            (end.saturating_sub(width), end, parts.collect())
        })
    }

    /// Removes tiles that leave a window after `clock`, up to and including `to`.
    fn advance(&mut self, plan: &RollingPlan, clock: i64, to: i64) {
        let Some(width) = plan.tile else { return };
        let mut gone = self.tiles.len();
        for (window, length) in plan.windows.iter().enumerate() {
            let first = self.first_within(width, *length, clock);
            let stay = self.first_within(width, *length, to);
            gone = gone.min(stay);
            if first < stay {
                for part in &mut self.parts {
                    part.leave(window, first..stay);
                }
            }
        }
        self.tiles.drain(..gone);
        for part in &mut self.parts {
            part.forget(gone);
        }
    }

    /// The first tile that is in a window as of `clock`.
    fn first_within(&self, width: i64, window: i64, clock: i64) -> usize {
        self.tiles
            .partition_point(|tile| end_of(*tile, width).saturating_add(window) <= clock)
    }
}

/// The last instant of a tile.
fn end_of(tile: i64, width: i64) -> i64 {
    tile.saturating_add(1)
        .saturating_mul(width)
        .saturating_sub(1)
}
