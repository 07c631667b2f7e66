//! Runs the `tests:` of a pipeline file.
//!
//! A [`harness`] is the pipeline with three replacements: rows arrive from an [`inbox`] instead of
//! Kafka or files, sinks are [`collector`]s, and only steps advance time. Decoders, operators, the
//! runtime and the commit log (in memory) are those of a real run.
//!
//! No test waits for real time: a step is over when all sent rows have passed a barrier, so results
//! do not depend on the machine's speed.

mod case;
mod collector;
mod encode;
mod harness;
mod inbox;
mod known;
mod pulse;
mod report;
mod table;
#[cfg(test)]
mod tests;

pub use case::{Failure, TestResult, run};
pub use report::{github, human, human_with, json};
