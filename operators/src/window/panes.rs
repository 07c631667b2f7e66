//! The panes of a lane, and the windows that consist of panes.

use std::{collections::BTreeMap, sync::Arc};

use arrow::{
    array::{ArrayRef, AsArray, TimestampMicrosecondArray},
    datatypes::TimestampMicrosecondType,
    record_batch::RecordBatch,
};
use tagflow_engine::{
    EventTime, Result,
    state::{KeyHasher, Restore, Snapshot, StatePart},
};

use super::{
    pane::Pane,
    span::Span,
    spec::Aggregation,
    table::{Results, Table},
    windows::Windows,
};
use crate::portions::{Portions, portions_of};

/// A run of 2^level panes that begins with a multiple of 2^level, counted from an origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Run {
    origin: i64,
    level: u32,
    number: i64,
}

/// The panes of a lane.
///
/// A window with many panes consists of runs whose merged groups are kept. Overlapping windows
/// share runs: a window of n panes merges at most 2 log n runs, and each pane takes part in log n
/// merges (a segment tree; see Tangwongsan et al., "General incremental sliding-window
/// aggregation", 2015).
#[derive(Default)]
pub(super) struct Panes {
    by_start: BTreeMap<i64, Pane>,
    /// The merged groups of runs; of a single pane only if it has several parts. A run is forgotten
    /// when a pane in the run changes.
    runs: BTreeMap<Run, RecordBatch>,
    /// The highest level of the runs.
    highest: u32,
    /// Stored parts of panes that were dropped since the last snapshot.
    removed: Vec<String>,
}

impl Panes {
    /// The pane `span`, for a change.
    pub(super) fn change(&mut self, windows: &Windows, span: Span) -> &mut Pane {
        self.forget_runs(windows, span);
        self.by_start
            .entry(span.start)
            .or_insert_with(|| Pane::new(span))
    }

    /// The first window that contains a pane and ends after `after`.
    pub(super) fn next_window(&self, windows: &Windows, after: EventTime) -> Option<Span> {
        windows.next_after(after.as_micros(), |start| {
            let (_, pane) = self.by_start.range(start..).next()?;
            Some(pane.span)
        })
    }

    /// The windows that end after `after` and have rows that no earlier window has, in the order of
    /// their ends.
    pub(super) fn leading(&self, windows: &Windows, after: EventTime) -> Vec<Span> {
        let panes = self.by_start.values().rev();
        let mut leading: Vec<Span> = panes
            .map(|pane| windows.first_window(pane.span))
            .take_while(|window| window.end > after.as_micros())
            .collect();
        leading.dedup();
        leading.reverse();
        leading
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.by_start.is_empty()
    }

    /// The latest pane.
    pub(super) fn last(&self) -> Option<Span> {
        self.by_start.last_key_value().map(|(_, pane)| pane.span)
    }

    /// The groups of `window` in parts. Several parts may contain the same group.
    pub(super) fn window(
        &mut self,
        aggregation: &Aggregation,
        hasher: &KeyHasher,
        window: Span,
    ) -> Result<Vec<RecordBatch>> {
        let windows = &aggregation.spec.windows;
        if !windows.share_panes() {
            let pane = self.by_start.get_mut(&window.start);
            return pane.map_or(Ok(Vec::new()), |pane| pane.states(aggregation));
        }
        let mut parts = Vec::new();
        let (mut number, end, origin) = windows.numbers(window);
        while number < end {
            // The longest run that begins here and does not pass the end.
            let level = number.trailing_zeros().min((end - number).ilog2());
            let run = Run {
                origin,
                level,
                number: number >> level,
            };
            parts.extend(self.run(aggregation, hasher, run)?);
            number += 1 << level;
        }
        Ok(parts)
    }

    /// Divides all panes by key: each portion contains the panes of some keys only.
    pub(super) fn cut(
        &mut self,
        aggregation: &Aggregation,
        hasher: &KeyHasher,
    ) -> Result<CutPanes> {
        self.runs.clear();
        let mut states = Vec::with_capacity(self.by_start.len());
        for pane in self.by_start.values_mut() {
            states.push((pane.span, pane.states(aggregation)?));
        }
        let all: Vec<RecordBatch> = states.iter().flat_map(|(_, it)| it).cloned().collect();
        let count = portions_of(&all, aggregation.portion_bytes);
        let cut = |(span, states)| {
            let portions = Portions::new(states, count, hasher, &aggregation.hash_columns())?;
            Ok((span, portions))
        };
        let panes = states.into_iter().map(cut).collect::<Result<_>>()?;
        Ok(CutPanes(panes))
    }

    /// Bytes in memory of the panes, without those of their runs.
    pub(super) fn pane_bytes(&self) -> usize {
        self.by_start.values().map(Pane::bytes).sum()
    }

    /// Bytes in memory of the pane at `start`.
    pub(super) fn bytes_of(&self, start: i64) -> usize {
        self.by_start.get(&start).map_or(0, Pane::bytes)
    }

    /// Removes a window that is a single pane. Returns its groups with their results.
    pub(super) fn take(&mut self, aggregation: &Aggregation, window: Span) -> Result<Results> {
        match self.by_start.remove(&window.start) {
            Some(pane) => pane.close(aggregation, &mut self.removed),
            None => Table::new(aggregation)?.into_results(aggregation),
        }
    }

    /// Drops the panes that are closed at `watermark`.
    pub(super) fn retire(&mut self, aggregation: &Aggregation, watermark: EventTime) {
        while let Some(first) = self.by_start.first_entry()
            && aggregation.closes(first.get().span) <= watermark
        {
            let mut pane = first.remove();
            self.forget_runs(&aggregation.spec.windows, pane.span);
            self.removed.extend(pane.take_names());
        }
    }

    /// Adds the changes since the last snapshot to `snapshot`.
    pub(super) fn snapshot(
        &mut self,
        aggregation: &Aggregation,
        hasher: &KeyHasher,
        snapshot: &mut Snapshot,
    ) -> Result<()> {
        snapshot.removed.append(&mut self.removed);
        let mut panes = self.by_start.values_mut();
        panes.try_for_each(|pane| pane.snapshot(aggregation, hasher, snapshot))
    }

    /// Restores a stored part of a pane.
    pub(super) fn restore(
        &mut self,
        aggregation: &Aggregation,
        part: StatePart,
        lanes: Restore,
    ) -> Result<()> {
        let part = aggregation.restored(part, lanes)?;
        let starts = part
            .states
            .column(0)
            .as_primitive::<TimestampMicrosecondType>();
        let Some(&start) = starts.values().first() else {
            // All its rows belong to other lanes.
            return Ok(());
        };
        let span = aggregation.pane(start)?;
        let pane = self.by_start.entry(start);
        let pane = pane.or_insert_with(|| Pane::new(span));
        pane.restore(part);
        Ok(())
    }

    /// The states of all panes.
    pub(super) fn states(&mut self, aggregation: &Aggregation) -> Result<Vec<RecordBatch>> {
        let mut states = Vec::new();
        for pane in self.by_start.values_mut() {
            states.extend(pane.states(aggregation)?);
        }
        Ok(states)
    }

    /// Drops the panes that end at or before `through`, and returns their states.
    pub(super) fn seal(
        &mut self,
        aggregation: &Aggregation,
        through: i64,
    ) -> Result<Vec<RecordBatch>> {
        let mut states = Vec::new();
        while let Some(first) = self.by_start.first_entry()
            && first.get().span.end <= through
        {
            let mut pane = first.remove();
            states.extend(pane.states(aggregation)?);
            self.removed.extend(pane.take_names());
        }
        Ok(states)
    }

    /// Bytes in memory, an estimate.
    pub(super) fn bytes(&self) -> usize {
        let runs = self.runs.values().map(RecordBatch::get_array_memory_size);
        self.pane_bytes() + runs.sum::<usize>()
    }

    /// The merged groups of a run; `None` if it has no pane.
    fn run(
        &mut self,
        aggregation: &Aggregation,
        hasher: &KeyHasher,
        run: Run,
    ) -> Result<Option<RecordBatch>> {
        let width = aggregation.spec.windows.pane_width();
        let first = match run.number << run.level {
            0 => run.origin,
            number => run.origin + number * width,
        };
        if run.level == 0 {
            let Some(pane) = self.by_start.get_mut(&first) else {
                return Ok(None);
            };
            let mut parts = pane.states(aggregation)?;
            if parts.len() == 1 {
                return Ok(parts.pop());
            }
            if let Some(known) = self.runs.get(&run) {
                return Ok(Some(known.clone()));
            }
            return self.merge(aggregation, hasher, run, first, parts);
        }
        let end = first + (width << run.level);
        if self.by_start.range(first..end).next().is_none() {
            return Ok(None);
        }
        if let Some(known) = self.runs.get(&run) {
            return Ok(Some(known.clone()));
        }
        let mut parts = Vec::with_capacity(2);
        for half in [0, 1] {
            let half = Run {
                level: run.level - 1,
                number: 2 * run.number + half,
                ..run
            };
            parts.extend(self.run(aggregation, hasher, half)?);
        }
        if parts.len() == 1 {
            return Ok(parts.pop());
        }
        self.merge(aggregation, hasher, run, first, parts)
    }

    fn merge(
        &mut self,
        aggregation: &Aggregation,
        hasher: &KeyHasher,
        run: Run,
        start: i64,
        parts: Vec<RecordBatch>,
    ) -> Result<Option<RecordBatch>> {
        let states = aggregation.merged(hasher, start, parts)?;
        self.highest = self.highest.max(run.level);
        self.runs.insert(run, states.clone());
        Ok(Some(states))
    }

    fn forget_runs(&mut self, windows: &Windows, pane: Span) {
        if self.runs.is_empty() {
            return;
        }
        let (number, origin) = windows.number(pane);
        for level in 0..=self.highest {
            self.runs.remove(&Run {
                origin,
                level,
                number: number >> level,
            });
        }
    }
}

/// Panes that are divided by key into the same number of portions.
pub(super) struct CutPanes(Vec<(Span, Portions)>);

impl CutPanes {
    /// The panes of the next portion.
    pub(super) fn next(&mut self) -> Result<Option<Panes>> {
        let mut panes = Panes::default();
        for (span, portions) in &mut self.0 {
            let Some(states) = portions.next()? else {
                return Ok(None);
            };
            if states.is_empty() {
                continue;
            }
            let mut pane = Pane::new(*span);
            for states in states {
                pane.push(states);
            }
            panes.by_start.insert(span.start, pane);
        }
        Ok((!self.0.is_empty()).then_some(panes))
    }
}

/// The columns of `states` or stragglers, which all belong to the pane that starts at `start`.
pub(super) fn starting(start: i64, states: &RecordBatch) -> Vec<ArrayRef> {
    let starts = TimestampMicrosecondArray::from_value(start, states.num_rows());
    let mut columns = states.columns().to_vec();
    columns[0] = Arc::new(starts.with_timezone("UTC"));
    columns
}
