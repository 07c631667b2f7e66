//! Runs the `tests:` of a pipeline file.
//!
//! A [`bench`] is the pipeline as it would run, but for three things: rows come
//! out of an [`inbox`] in place of Kafka or files, sinks are [`collector`]s, and
//! time stands still unless a step moves it. Decoders, operators, the runtime
//! and the commit log, which lies in memory, are those of a real run.
//!
//! Nothing waits for time to pass: a step is over when all that was sent has
//! come through a barrier, so results do not depend on how fast the machine is.

mod bench;
mod case;
mod collector;
mod encode;
mod inbox;
mod known;
mod report;
mod table;
#[cfg(test)]
mod tests;

pub use case::{Failure, TestResult, run};
pub use report::{github, human, json};

pub(crate) use case::COUNTERS;
pub(crate) use table::Expected;
