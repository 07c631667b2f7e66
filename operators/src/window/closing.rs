//! Emits windows a part at a time.

use std::collections::VecDeque;

use tagflow_engine::{EventTime, Result, state::KeyHasher};

use super::{
    panes::{CutPanes, Panes},
    span::Span,
    spec::Aggregation,
    table::Results,
};
use crate::portions::Portions;

/// Up to this number of due windows are emitted one after the other, and share merged runs
/// of panes. More windows over large panes are emitted for one portion of the keys after
/// the other.
const FEW_WINDOWS: usize = 8;

/// Which rows of a window are emitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keys {
    All,
    Corrected,
    Fresh,
}

/// A window that is due to be emitted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Due {
    pub(super) window: Span,
    pub(super) keys: Keys,
    pub(super) revision: i64,
}

/// The windows that are due together.
#[derive(Debug, Clone)]
pub(super) enum DueWindows {
    /// Those that end after the first time and not after the second. They close.
    Closing(EventTime, EventTime),
    /// These, in their order.
    Corrections(VecDeque<Due>),
    /// These, in their order.
    Previews(VecDeque<Due>),
}

impl DueWindows {
    /// Takes the next window. For windows that close it is one that has rows in `panes`.
    fn pop(&mut self, aggregation: &Aggregation, panes: &Panes) -> Option<Due> {
        match self {
            Self::Closing(after, through) => {
                let window = panes.next_window(&aggregation.spec.windows, *after)?;
                if window.end > through.as_micros() {
                    return None;
                }
                *after = EventTime::from_micros(window.end);
                Some(Due {
                    window,
                    keys: Keys::All,
                    revision: 0,
                })
            }
            Self::Corrections(windows) | Self::Previews(windows) => windows.pop_front(),
        }
    }

    fn are_few(&self, aggregation: &Aggregation, panes: &Panes) -> bool {
        match self {
            Self::Closing(..) => {
                let mut rest = self.clone();
                (0..=FEW_WINDOWS).any(|_| rest.pop(aggregation, panes).is_none())
            }
            Self::Corrections(windows) | Self::Previews(windows) => windows.len() <= FEW_WINDOWS,
        }
    }
}

/// The output of some windows, part by part.
pub(super) struct Sweep {
    pub(super) due: DueWindows,
    order: Order,
}

enum Order {
    /// One window after the other, each cut by key.
    ByWindow(Option<(Due, Portions)>),
    /// One portion of the keys after the other: its panes, and the windows that it has yet
    /// to emit.
    ByKey(CutPanes, Option<(Panes, DueWindows)>),
}

/// Some groups of a window.
pub(super) struct Part {
    pub(super) due: Due,
    pub(super) results: Results,
}

impl Sweep {
    pub(super) fn new(
        due: DueWindows,
        aggregation: &Aggregation,
        hasher: &KeyHasher,
        panes: &mut Panes,
    ) -> Result<Self> {
        let is_small = panes.pane_bytes() <= aggregation.portion_bytes;
        let order = if is_small || due.are_few(aggregation, panes) {
            Order::ByWindow(None)
        } else {
            Order::ByKey(panes.cut(aggregation, hasher)?, None)
        };
        Ok(Self { due, order })
    }

    /// The next part; none when all windows are emitted.
    pub(super) fn next(
        &mut self,
        aggregation: &Aggregation,
        hasher: &KeyHasher,
        panes: &mut Panes,
    ) -> Result<Option<Part>> {
        match &mut self.order {
            Order::ByWindow(window) => loop {
                if let Some((due, portions)) = window {
                    if let Some(parts) = portions.next_filled()? {
                        let table = aggregation.table(due.window.start, &parts)?;
                        let results = table.into_results(aggregation)?;
                        return Ok(Some(Part { due: *due, results }));
                    }
                    *window = None;
                }
                let Some(due) = self.due.pop(aggregation, panes) else {
                    return Ok(None);
                };
                if is_last(aggregation, due)
                    && panes.bytes_of(due.window.start) <= aggregation.portion_bytes
                {
                    let results = panes.take(aggregation, due.window)?;
                    return Ok(Some(Part { due, results }));
                }
                let parts = panes.window(aggregation, hasher, due.window)?;
                *window = Some((due, aggregation.portions(hasher, parts)?));
            },
            Order::ByKey(cut, portion) => loop {
                if let Some((panes, rest)) = portion {
                    if let Some(due) = rest.pop(aggregation, panes) {
                        let parts = panes.window(aggregation, hasher, due.window)?;
                        if parts.is_empty() {
                            continue;
                        }
                        let table = aggregation.table(due.window.start, &parts)?;
                        let results = table.into_results(aggregation)?;
                        return Ok(Some(Part { due, results }));
                    }
                    *portion = None;
                }
                let Some(panes) = cut.next()? else {
                    return Ok(None);
                };
                *portion = Some((panes, self.due.clone()));
            },
        }
    }
}

/// Whether the panes of a window are not needed after it.
fn is_last(aggregation: &Aggregation, due: Due) -> bool {
    let is_one_pane = !aggregation.spec.windows.share_panes();
    is_one_pane && aggregation.spec.emission.lateness.is_zero() && due.revision == 0
}
