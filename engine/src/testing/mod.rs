//! What tests of the engine, and of what plugs into it, are made of: time and
//! names that tests control, sources and sinks that are simple enough to be checked by eye,
//! a store that fails on demand.

mod clock;
mod ids;
mod lines;
mod script;
pub mod store;

pub use clock::{ManualClock, VirtualClock};
pub use ids::SeededIds;
pub use lines::LinesSink;
pub use script::{Bounded, Script, ScriptDecoder, ScriptedSource, parse, script_schema};
