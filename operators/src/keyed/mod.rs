//! Steps that process the rows of a key in the order of their event time: de-duplication, sessions,
//! and the rate of a key's events.
//!
//! ```text
//! rows ⇄ by key ⇄ held until the watermark ▷ judged in order ▷ rows
//!                                                            ▷ late rows
//! ```
//!
//! A row is buffered until the watermark has passed it, because only then have all rows before it
//! arrived. The output therefore depends neither on the order of arrival within the delay, nor on
//! chunks, lanes and restarts. A row behind the watermark is judged on arrival, by the stored
//! state.

mod dedupe;
mod keyed_rows;
mod late;
mod rate;
mod rule;
mod sessions;
mod size;
mod slices;
mod sorted_buffer;
mod sorted_process;
mod spec;
mod stages;
mod stored;
mod table;
mod timeline;

pub(crate) use keyed_rows::Keyed;
pub(crate) use late::rows as late_rows;
pub(crate) use sorted_buffer::SortedBuffer;
pub(crate) use timeline::{RowRef, Timeline};

pub use spec::{Ordered, OrderedSpec, Rule};

#[cfg(test)]
mod tests;
