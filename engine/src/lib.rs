//! Tagflow's streaming runtime.
//!
//! A [`graph::Graph`] of sources, operators and sinks runs on a number of *lanes*. Every edge
//! carries one enum, [`element::Element`]: a batch, a watermark, a barrier or the end. Barriers
//! divide the stream into epochs. The [`commit`] log turns each epoch into one record on object
//! storage, so every input row takes effect exactly once.
//!
//! The runtime does not depend on SQL, Kafka, marketing or YAML.

mod blocking;
pub mod clock;
pub mod commit;
pub mod committer;
pub mod element;
pub mod error;
pub mod files;
pub mod graph;
pub mod ids;
pub mod ledger;
pub mod memory;
pub mod operator;
pub mod runtime;
pub mod side_input;
#[cfg(test)]
mod simulation;
pub mod sink;
pub mod source;
pub mod state;
pub mod state_query;
pub mod status;
pub mod store_error;
pub mod testing;
pub mod time;
pub mod watermark;

pub use blocking::{Priority, blocking};
pub use clock::{Clock, SystemClock, Uptime};
pub use element::{Batch, Element, Epoch, Origin, Port, Watermark};
pub use error::{Error, ErrorKind, Result};
pub use ids::{Ids, RandomIds};
pub use time::EventTime;
