//! Generated behaviour events: a seed always gives the same ones.
//!
//! Row `n` of partition `p` is a function of the configuration, so a reader can begin anywhere and
//! a test knows the content of the stream. The demo, the benchmarks and `produce` use the events;
//! [`GeneratorSource`] is a source of these events.
//!
//! ```
//! use tagflow_connectors::generator::{Events, GeneratorConfig};
//!
//! let config = GeneratorConfig::many(100);
//! let mut events = Events::new(config)?;
//! let event = events.next().expect("a hundred events");
//! assert!(event.payload.starts_with(br#"{"event_id":"#));
//! events.by_ref().for_each(drop);
//! assert_eq!(events.counts().rows(), 100);
//! # Ok::<(), tagflow_engine::Error>(())
//! ```

mod component;
mod config;
mod events;
mod model;
mod source;

pub use config::GeneratorConfig;
pub use events::{Event, EventCounts, Events};
pub use model::{COLUMNS, RowKind};
pub use source::GeneratorSource;

#[cfg(test)]
mod tests;
