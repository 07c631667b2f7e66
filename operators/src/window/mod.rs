//! Tumbling windows, aggregated in two phases.
//!
//! ```text
//! rows ▷ partial ⇄ states, by key ⇄ finalize ▷ one row a window and key
//!                ⇄ stragglers    ⇄          ▷ late rows
//! ```
//!
//! The *partial* stage groups the rows of one lane before the exchange and
//! keeps nothing over a barrier. The *final* stage merges what it sends, holds
//! the panes of the open windows, and closes them as the watermark passes.
//! Only the final stage judges whether a row is late: rows that may be late go
//! to it as they are.

mod aggregate;
mod assigner;
mod finalize;
mod late;
mod panes;
mod partial;
mod spec;
mod table;
mod watermark;

pub use aggregate::{Aggregate, check};
pub(crate) use late::json_objects;
pub use spec::{Key, Tumble, TumbleSpec, window_type};
pub(crate) use watermark::StoredWatermark;

#[cfg(test)]
mod tests;
