//! The runtime: runs a graph on lanes and commits epochs.
//!
//! The graph is divided into *fragments* ([`fragment`]) at every edge that is not `Forward` and
//! before every sink. Each lane runs a copy of a fragment. Its operators are fused into a [`chain`]
//! of plain function calls. A task ([`lane`]) feeds the chain from byte-bounded [`channel`]s and
//! aligns barriers. One task reads each source ([`source_task`]). A lane has the chunks decoded ahead
//! ([`decoding`]) and processes the rows in order ([`source_stage`]). Each writing lane of a sink is one
//! task ([`sink_task`]). The [`job`] triggers barriers, collects the result of each task, checks that
//! the rows balance and writes the commit. The [`supervisor`] restarts it after a retryable error.
//!
//! Invariants. Lanes share nothing but gauges. Every queue is bounded in bytes. A barrier reaches a
//! chain only when all its inputs have delivered it, so a snapshot never contains a row of the next
//! epoch.

mod balance;
mod chain;
mod channel;
mod checkpoint;
mod decoded_chunk;
mod decoding;
mod deliveries;
mod error_rate;
mod fragment;
mod gauges;
mod job;
mod job_config;
mod job_context;
mod lane;
mod memory_controller;
mod message;
mod monitor;
mod profile_throttle;
mod replay;
mod restore;
mod sink_task;
mod source_stage;
mod source_task;
mod startup;
mod supervisor;
mod task_event;
mod topology;

#[cfg(test)]
mod tests;

pub use error_rate::ErrorRateLimit;
pub use gauges::Gauges;
pub use job::Outcome;
pub use job_config::{End, JobConfig, Until};
pub use replay::OldFiles;
pub use restore::fingerprints;
pub use supervisor::{Control, IfLive, Presence, Supervised, supervise};
