//! Estimates the memory of an aggregation's panes.

use std::time::Duration;

use super::{Aggregation, CalendarUnit, Period, Windows};
use crate::size::{Load, SLACK, StateSize};

/// The memory of a group in the hash table, in addition to its columns.
const GROUP_BYTES: f64 = 24.0;

/// The memory of a key of [`super::totals::Totals`] in addition to its columns: the location of its
/// state, and its expiry.
const PLACE_BYTES: f64 = 100.0;

/// The memory of an open session with a preview.
const PREVIEW_BYTES: f64 = 160.0;

impl Aggregation {
    /// The estimated state of the final stage.
    pub fn size(&self, load: &Load) -> StateSize {
        let row = load.row_bytes(&self.partial) * SLACK;
        let seconds = |width: Duration| width.as_secs_f64();
        let spec = &self.spec;
        let waits = load.delay_s + seconds(spec.emission.lateness);
        let (entries, bytes) = match (spec.emission.ttl, &spec.windows) {
            (Some(ttl), _) => {
                let keys = load.distinct(load.rate * seconds(ttl));
                (keys, keys * (row + PLACE_BYTES))
            }
            // Read panes stay columns, and so do the runs of panes that windows share: for each
            // length half as many.
            (None, Windows::Hop { .. } | Windows::Cumulate { .. }) => {
                let size = match spec.windows {
                    Windows::Hop { size, .. } => seconds(size),
                    Windows::Cumulate { within, .. } => width(within),
                    _ => 0.0,
                };
                let pane = spec.windows.pane_width() as f64 / 1e6;
                let panes = ((size + waits) / pane).max(1.0);
                let levels = 0..=panes.log2() as i32;
                let held = levels.map(|level| {
                    let merged = f64::from(level).exp2();
                    panes / merged * load.distinct(load.rate * pane * merged)
                });
                let entries = panes * load.distinct(load.rate * pane);
                (entries, held.sum::<f64>() * row)
            }
            // Groups that receive rows.
            (None, Windows::Tumble(period)) => {
                let size = width(*period);
                let windows = 1.0 + waits / size;
                let entries = windows * load.distinct(load.rate * size);
                (entries, entries * (row + GROUP_BYTES))
            }
            (None, Windows::Session { gap }) => {
                let gap = seconds(*gap);
                let open = load.distinct(load.rate * (gap + load.delay_s));
                // Emitted sessions: a row ends a session if the next row of its key is more than
                // the gap later.
                let stay = match seconds(spec.emission.lateness) {
                    0.0 => 0.0,
                    lateness => lateness + 2.0 * gap,
                };
                let ended = load.rate * (-gap * load.rate / load.keys).exp();
                let entries = open + ended * stay;
                let shown = spec.emission.previews.map_or(0.0, |_| open * PREVIEW_BYTES);
                (entries, entries * row + shown)
            }
        };
        let unit = match spec.emission.ttl {
            Some(_) => "keys",
            None => "panes of a key",
        };
        StateSize {
            entries,
            unit,
            bytes,
        }
    }
}

/// The width of a period in seconds; a month has 30 days.
fn width(period: Period) -> f64 {
    let days = match period {
        Period::Fixed(size) => return size.as_secs_f64(),
        Period::Calendar(CalendarUnit::Day, _) => 1.0,
        Period::Calendar(CalendarUnit::Week(_), _) => 7.0,
        Period::Calendar(CalendarUnit::Month, _) => 30.0,
    };
    days * 24.0 * 3_600.0
}
