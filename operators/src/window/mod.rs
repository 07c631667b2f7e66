//! Windowed aggregates, in two phases.
//!
//! ```text
//! rows ▷ partial ⇄ states, by key ⇄ finalize ▷ one row a window and key
//!                ⇄ stragglers    ⇄          ▷ late rows
//! ```
//!
//! Windows consist of panes ([`Windows`]). The *partial* stage groups the rows of a lane by pane
//! and key before the exchange, and keeps nothing over a barrier. The *final* stage merges the
//! states, holds the panes of the open windows, and closes windows as the watermark passes. Session
//! windows have another final stage, which joins panes key by key. Aggregates without a window have
//! a third one, which adds panes up. Only the final stage decides whether a row is late: rows that
//! may be late reach it unaggregated.

mod aggregate;
mod assigner;
mod calendar;
mod changes;
mod closing;
mod columns;
mod emission;
mod finalize;
mod late;
mod merging;
mod pane;
mod panes;
mod partial;
mod session;
mod size;
mod span;
mod spec;
mod stages;
mod stored;
mod table;
mod totals;
mod updating;
mod windows;

pub use aggregate::{Aggregate, check};
pub use calendar::{CalendarUnit, TZ_VARIANTS, Tz, Weekday, misaligned};
pub use columns::window_type;
pub use emission::{CHANGED_AT, Emission, IS_FINAL, IS_RETRACTED, OP, REVISION};
pub use span::Span;
pub use spec::{Aggregation, AggregationSpec, Key};
pub use windows::{Period, Windows};

#[cfg(test)]
mod tests;
