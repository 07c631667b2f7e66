//! Doubles for tests: time that tests control, sources and sinks that are
//! simple enough to be checked by eye.

mod clock;
mod lines;
mod script;

pub use clock::VirtualClock;
pub use lines::LinesSink;
pub use script::{Bounded, Script, ScriptDecoder, ScriptedSource, parse, script_schema};
