//! How much memory the panes of an aggregation will take.

use std::time::Duration;

use super::{Aggregation, CalendarUnit, Period, Windows};
use crate::size::{Load, SLACK, StateSize};

/// What the hash table of a group takes beside its columns.
const GROUP_BYTES: f64 = 24.0;

/// What a key of [`super::totals::Totals`] takes beside its columns: where its state
/// is, and when it may be forgotten.
const PLACE_BYTES: f64 = 100.0;

/// What an open session takes that has had a preview.
const PREVIEW_BYTES: f64 = 160.0;

impl Aggregation {
    /// What the final stage will hold.
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
            // Panes that are read stay columns, and with them the runs of panes that
            // are shared by windows: of each length half as many.
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
            // Groups that are written to.
            (None, Windows::Tumble(period)) => {
                let size = width(*period);
                let windows = 1.0 + waits / size;
                let entries = windows * load.distinct(load.rate * size);
                (entries, entries * (row + GROUP_BYTES))
            }
            (None, Windows::Session { gap }) => {
                let gap = seconds(*gap);
                let open = load.distinct(load.rate * (gap + load.delay_s));
                // Those that have come out: a row ends one where the next of its key is
                // more than the gap later.
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

/// How wide a period is, in seconds; a month is of 30 days.
fn width(period: Period) -> f64 {
    let days = match period {
        Period::Fixed(size) => return size.as_secs_f64(),
        Period::Calendar(CalendarUnit::Day, _) => 1.0,
        Period::Calendar(CalendarUnit::Week(_), _) => 7.0,
        Period::Calendar(CalendarUnit::Month, _) => 30.0,
    };
    days * 24.0 * 3_600.0
}
