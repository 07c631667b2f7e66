//! The runtime: runs a graph on lanes and commits epochs.
//!
//! The graph is cut into *fragments* ([`fragment`]) at every edge that is not
//! `Forward` and before every sink. A fragment runs once a lane: its operators
//! are fused into a [`chain`] of plain function calls, and a task ([`lane`])
//! feeds the chain from byte-bounded [`channel`]s, aligning barriers. Sources
//! are read by one task each ([`reader`]); a lane has their chunks decoded ahead
//! ([`decoding`]) and takes the rows in order ([`head`]); sinks are one task a writing lane ([`writer`]). The [`job`] triggers
//! barriers, collects what everyone hands over, checks that the rows balance
//! and writes the commit; the [`supervisor`] starts it again after a failure
//! that may pass.
//!
//! Invariants. Nothing is shared between lanes but gauges. Every queue is
//! bounded in bytes. A barrier reaches a chain only when all its inputs have
//! delivered it, so a snapshot never holds a row of the next epoch.

mod balance;
mod chain;
mod channel;
mod checkpoint;
mod decoding;
mod fragment;
mod gauges;
mod head;
mod job;
mod lane;
mod monitor;
mod pace;
mod pressure;
mod reader;
mod report;
mod restore;
mod supervisor;
mod tolerance;
mod topology;
mod writer;

#[cfg(test)]
mod tests;

pub use gauges::Gauges;
pub use job::{End, JobConfig, Outcome, Until};
pub use restore::fingerprints;
pub use supervisor::{Control, Supervised, supervise};
pub use tolerance::StopWhen;
