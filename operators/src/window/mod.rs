//! Windowed aggregates, in two phases.
//!
//! ```text
//! rows ▷ partial ⇄ states, by key ⇄ finalize ▷ one row a window and key
//!                ⇄ stragglers    ⇄          ▷ late rows
//! ```
//!
//! Windows are put together of panes ([`Windows`]). The *partial* stage groups
//! the rows of one lane by pane and key before the exchange, and keeps nothing
//! over a barrier. The *final* stage merges what it sends, holds the panes of
//! the open windows, and closes windows as the watermark passes; for session
//! windows it is another one, which joins panes key by key, and a third adds
//! panes up where there is no window. Only the final stage judges whether a row is
//! late: rows that may be late go to it as they are.

mod aggregate;
mod assigner;
mod changes;
mod emission;
mod finalize;
mod late;
mod pane;
mod panes;
mod partial;
mod session;
mod size;
mod spec;
mod stored;
mod table;
mod totals;
mod updating;
mod watermark;
mod windows;
mod zone;

pub use aggregate::{Aggregate, check};
pub use emission::{CHANGED_AT, Emission, IS_FINAL, IS_RETRACTED, OP, REVISION};
pub use spec::{Aggregation, AggregationSpec, Key, window_type};
pub(crate) use watermark::StoredWatermark;
pub use windows::{Period, Span, Windows};
pub use zone::{CalendarUnit, TZ_VARIANTS, Tz, Weekday, misaligned};

#[cfg(test)]
mod tests;
