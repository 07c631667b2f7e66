//! Test doubles for the engine and its connectors and operators: time and names under the control
//! of tests, simple sources and sinks, and a store that fails on demand.

mod clock;
pub mod committer;
mod ids;
mod lines;
mod script;
pub mod store;

pub use clock::{InstantClock, ManualClock, VirtualClock};
pub use ids::SeededIds;
pub use lines::LinesSink;
#[cfg(test)]
pub(crate) use script::encode;
pub use script::{Bounded, Script, ScriptDecoder, ScriptedSource, parse, script_schema};
