//! Aggregates of events, over their lifetime or a rolling window.
//!
//! Tags over the same events share a state: [`rolling`] stores them in sparse tiles, of which
//! [`tiled_state`] and [`accumulator`] are the content.

mod accumulator;
mod components;
mod definition;
mod function;
mod read;
mod rolling;
mod tiled_state;

pub use definition::Aggregate;
pub use function::{Function, Over};

pub(crate) use components::Components;
pub(crate) use read::Read;
pub(crate) use tiled_state::TiledStateKind;
