//! Steps that look at the rows of a key in the order of their event time:
//! de-duplication, sessions, and the rate of a key's events.
//!
//! ```text
//! rows ⇄ by key ⇄ held until the watermark ▷ judged in order ▷ rows
//!                                                            ▷ late rows
//! ```
//!
//! A row waits until the watermark has passed it, because only then are all rows
//! before it there. So what comes out depends neither on the order of arrival
//! within the delay, nor on chunks, lanes and restarts. A row behind the watermark
//! is judged when it comes, by what is still known.

mod dedupe;
mod held;
mod judge;
mod late;
mod rate;
mod sequencer;
mod sessions;
mod size;
mod slices;
mod spec;
mod stored;
mod table;
mod timeline;

pub(crate) use held::{Held, Keyed};
pub(crate) use late::rows as late_rows;
pub(crate) use timeline::{Timeline, Turn};

pub use spec::{Ordered, OrderedSpec, Rule};

#[cfg(test)]
mod tests;
