//! Tagflow's streaming runtime.
//!
//! A [`graph::Graph`] of sources, operators and sinks runs on a number of
//! *lanes*. What flows along every edge is one enum, [`element::Element`]: a
//! batch, a watermark, a barrier or the end. Barriers cut the stream into
//! epochs, and the [`commit`] log turns each epoch into one record on object
//! storage, so that every input row takes effect exactly once.
//!
//! The runtime knows nothing of SQL, Kafka, marketing or YAML.

mod blocking;
pub mod clock;
pub mod commit;
pub mod element;
pub mod error;
pub mod graph;
pub mod ids;
pub mod inquiry;
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
pub mod status;
pub mod store_error;
pub mod testing;
pub mod time;
pub mod watermark;

pub use blocking::{Urgency, blocking};
pub use clock::{Clock, SystemClock};
pub use element::{Batch, Element, Epoch, Origin, Port, Watermark};
pub use error::{Error, ErrorKind, Result};
pub use ids::{Ids, RandomIds};
pub use time::EventTime;
