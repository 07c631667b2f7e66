//! The division of event time into windows, and of windows into panes.

use std::{fmt, time::Duration};

use chrono_tz::Tz;
use humantime::format_duration;
use tagflow_engine::time::micros;

use super::{
    calendar::{self, CalendarUnit},
    span::Span,
};

/// The division of event time into windows.
///
/// A *pane* is a span of event time whose rows belong to the same windows. Rows are aggregated once
/// for each pane, and windows consist of panes (Li et al., "No pane, no gain", 2005).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Windows {
    /// Consecutive windows: each is a pane.
    Tumble(Period),
    /// A window of `size` begins at every multiple of `slide`. The width of panes is the greatest
    /// common divisor of both.
    Hop {
        /// The distance between the starts of two windows.
        slide: Duration,
        /// The width of each window; at least `slide`.
        size: Duration,
    },
    /// Windows from the start of each `within`, each wider by `step` than the one before. The width
    /// of panes is `step`; the last pane of a period may be shorter.
    Cumulate {
        /// The difference in width between a window and the one before.
        step: Duration,
        /// The period of the windows.
        within: Period,
    },
    /// For each key, from its first row to `gap` after its last, if no two neighbours are more than
    /// `gap` apart. A row exactly `gap` after the last row still belongs to the session.
    Session {
        /// A key that is inactive for longer begins another session.
        gap: Duration,
    },
}

/// Consecutive spans of event time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Period {
    /// Of a fixed width, from multiples of the width since 1970-01-01T00:00:00Z.
    Fixed(Duration),
    /// Of the calendar in a time zone.
    Calendar(CalendarUnit, Tz),
}

/// The panes of a session have this part of its gap: sessions end at the end of a pane, so late by
/// at most this part.
const PANES_A_GAP: i64 = 8;

impl Period {
    fn containing(&self, time: i64) -> Option<Span> {
        match *self {
            Self::Fixed(size) => aligned(time, micros(size)),
            Self::Calendar(unit, zone) => calendar::containing(unit, zone, time),
        }
    }

    fn grain(&self) -> Duration {
        match *self {
            Self::Fixed(size) => size,
            // Zones differ from UTC by whole minutes nowadays.
            Self::Calendar(..) => Duration::from_mins(1),
        }
    }
}

impl Windows {
    /// Checks the widths.
    ///
    /// # Errors
    /// The reason why they are invalid, for a user.
    pub fn check(&self) -> Result<(), &'static str> {
        let positive = |width: Duration| {
            let width = micros(width);
            if width <= 0 || width == i64::MAX {
                return Err("a window is at least a microsecond and less than 292,000 years wide");
            }
            Ok(())
        };
        match *self {
            Self::Tumble(Period::Fixed(size)) => positive(size),
            Self::Tumble(Period::Calendar(..)) => Ok(()),
            Self::Hop { slide, size } => {
                positive(slide)?;
                positive(size)?;
                if size < slide {
                    return Err("windows that slide by more than their size leave rows out");
                }
                Ok(())
            }
            Self::Cumulate { step, within } => {
                positive(step)?;
                if let Period::Fixed(size) = within {
                    positive(size)?;
                    if micros(size) % micros(step) != 0 {
                        return Err("the steps of a cumulative window must fill it");
                    }
                }
                Ok(())
            }
            Self::Session { gap } => positive(gap),
        }
    }

    /// A width whose multiples contain every event at a watermark of these windows, at that time or
    /// soon after.
    pub fn grain(&self) -> Duration {
        match self {
            Self::Tumble(period) => period.grain(),
            Self::Hop { slide, size } => greatest_common(*slide, *size),
            Self::Cumulate { step, within } => greatest_common(*step, within.grain()),
            Self::Session { gap } => Duration::from_micros(session_pane(*gap).unsigned_abs()),
        }
    }

    /// Whether a window has more than one pane.
    pub(super) fn share_panes(&self) -> bool {
        !matches!(self, Self::Tumble(_))
    }

    /// The pane of `time`, which for tumbling windows is its window; `None` if the end of the pane
    /// or of its windows overflows 64 bits of microseconds.
    pub fn pane(&self, time: i64) -> Option<Span> {
        let pane = match *self {
            Self::Tumble(period) => period.containing(time)?,
            Self::Hop { slide, size } => aligned(time, micros(greatest_common(slide, size)))?,
            Self::Cumulate { step, within } => {
                let period = within.containing(time)?;
                let step = micros(step);
                let start = time - (time - period.start).rem_euclid(step);
                let end = start.saturating_add(step).min(period.end);
                Span { start, end }
            }
            Self::Session { gap } => aligned(time, session_pane(gap))?,
        };
        self.checked_last_end(pane).map(|_| pane)
    }

    /// The end of a pane's first window: its content must be complete then.
    pub(super) fn first_end(&self, pane: Span) -> i64 {
        match *self {
            Self::Hop { slide, size } => {
                let (slide, size) = (micros(slide), micros(size));
                ((pane.start - size).div_euclid(slide) + 1) * slide + size
            }
            _ => pane.end,
        }
    }

    /// The first window of a pane: the pane's rows are in it, and in no earlier window.
    pub(super) fn first_window(&self, pane: Span) -> Span {
        let end = self.first_end(pane);
        let start = match *self {
            Self::Hop { size, .. } => end - micros(size),
            Self::Cumulate { within, .. } => within
                .containing(pane.start)
                .map_or(pane.start, |period| period.start),
            Self::Tumble(_) | Self::Session { .. } => pane.start,
        };
        Span { start, end }
    }

    /// The end of a pane's last window: no row of the pane counts from then on. For a session: no
    /// session that begins in the pane ends before.
    pub(super) fn last_end(&self, pane: Span) -> i64 {
        self.checked_last_end(pane).unwrap_or(i64::MAX)
    }

    fn checked_last_end(&self, pane: Span) -> Option<i64> {
        match *self {
            Self::Tumble(_) => Some(pane.end),
            Self::Hop { slide, size } => {
                let slide = micros(slide);
                // Its first window must also begin within bounds.
                pane.start.checked_sub(micros(size))?.checked_sub(slide)?;
                (pane.start.div_euclid(slide) * slide).checked_add(micros(size))
            }
            Self::Cumulate { within, .. } => Some(within.containing(pane.start)?.end),
            Self::Session { gap } => pane
                .end
                .checked_add(micros(gap))
                .map(|_| pane.start.saturating_add(micros(gap))),
        }
    }

    /// The first window that contains a pane and ends after `after`. `pane_from` returns the first
    /// pane that starts at or after a time.
    pub(super) fn next_after(
        &self,
        after: i64,
        pane_from: impl Fn(i64) -> Option<Span>,
    ) -> Option<Span> {
        match *self {
            Self::Tumble(_) | Self::Session { .. } => {
                let open = self.pane(after).map_or(i64::MIN, |pane| pane.start);
                pane_from(open)
            }
            Self::Hop { slide, size } => {
                let (slide, size) = (micros(slide), micros(size));
                let ending_after = |time: i64| {
                    let start = time.checked_sub(size)?.div_euclid(slide) * slide + slide;
                    Some(Span {
                        start,
                        end: start.checked_add(size)?,
                    })
                };
                let next = ending_after(after);
                let pane = pane_from(next.map_or(i64::MIN, |window| window.start))?;
                match next {
                    Some(window) if pane.start < window.end => Some(window),
                    _ => ending_after(pane.start),
                }
            }
            Self::Cumulate { within, .. } => {
                let open = self.pane(after);
                let period = open.and_then(|pane| within.containing(pane.start));
                let pane = pane_from(period.map_or(i64::MIN, |period| period.start))?;
                let last = match open {
                    Some(open) if pane.start < open.end => open,
                    _ => pane,
                };
                let start = within.containing(last.start)?.start;
                Some(Span {
                    start,
                    end: last.end,
                })
            }
        }
    }

    /// The number of the first pane of `window`, the number after its last pane, and the origin
    /// from which they count.
    pub(super) fn numbers(&self, window: Span) -> (i64, i64, i64) {
        match *self {
            Self::Hop { slide, size } => {
                let width = micros(greatest_common(slide, size));
                (window.start / width, window.end / width, 0)
            }
            Self::Cumulate { step, .. } => {
                let step = micros(step);
                (
                    0,
                    (window.end - window.start + step - 1) / step,
                    window.start,
                )
            }
            Self::Tumble(_) | Self::Session { .. } => (0, 1, window.start),
        }
    }

    /// The number of `pane`, and the origin from which it counts.
    pub(super) fn number(&self, pane: Span) -> (i64, i64) {
        match *self {
            Self::Cumulate { within, step } => {
                let origin = within
                    .containing(pane.start)
                    .map_or(pane.start, |it| it.start);
                ((pane.start - origin) / micros(step), origin)
            }
            Self::Hop { .. } => (pane.start / self.pane_width(), 0),
            Self::Tumble(_) | Self::Session { .. } => (0, pane.start),
        }
    }

    /// The width of all panes except the last one of a period.
    pub(super) fn pane_width(&self) -> i64 {
        match *self {
            Self::Hop { slide, size } => micros(greatest_common(slide, size)),
            Self::Cumulate { step, .. } => micros(step),
            Self::Session { gap } => session_pane(gap),
            Self::Tumble(_) => i64::MAX,
        }
    }
}

impl fmt::Display for Windows {
    /// `tumble 1m`, `hop 1h every 1m`, `cumulate day in Asia/Shanghai every 10m`, `session 30m`:
    /// complete, because fingerprints contain it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tumble(period) => write!(f, "tumble {period}"),
            Self::Hop { slide, size } => write!(
                f,
                "hop {} every {}",
                format_duration(*size),
                format_duration(*slide)
            ),
            Self::Cumulate { step, within } => {
                write!(f, "cumulate {within} every {}", format_duration(*step))
            }
            Self::Session { gap } => write!(f, "session {}", format_duration(*gap)),
        }
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(size) => write!(f, "{}", format_duration(*size)),
            Self::Calendar(CalendarUnit::Day, zone) => write!(f, "day in {zone}"),
            Self::Calendar(CalendarUnit::Week(starts), zone) => {
                write!(f, "week from {starts} in {zone}")
            }
            Self::Calendar(CalendarUnit::Month, zone) => write!(f, "month in {zone}"),
        }
    }
}

fn session_pane(gap: Duration) -> i64 {
    (micros(gap) / PANES_A_GAP).max(1)
}

fn aligned(time: i64, width: i64) -> Option<Span> {
    let start = time.checked_sub(time.rem_euclid(width))?;
    let end = start.checked_add(width)?;
    Some(Span { start, end })
}

fn greatest_common(a: Duration, b: Duration) -> Duration {
    let (mut a, mut b) = (micros(a), micros(b));
    while b != 0 {
        (a, b) = (b, a % b);
    }
    Duration::from_micros(a.unsigned_abs())
}

#[cfg(test)]
mod tests;
