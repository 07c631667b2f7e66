//! The commit log: every input row takes effect exactly once.
//!
//! A *task* is the unit of commits. Its log is a folder of numbered records on an object store,
//! each written with put-if-absent. The protocol needs only this guarantee of the store, and S0
//! checks it. A process that takes the task over writes a *claim* into the next slot. The former
//! owner would need that slot, so it can never commit again. Each epoch is one *commit*: the next
//! positions, the current state, the output of the sinks and the counts of rows, all or none. The
//! protocol relies on no clock, lease or lock.
//!
//! Comments cite the steps of a process:
//!
//! | step | action |
//! | --- | --- |
//! | S0 | Probe the store for put-if-absent, reads after writes and listings. |
//! | S1 | Read the last record, and check that plan, state and tables fit it. Claim nothing. |
//! | S2 | List the log and read its last record. |
//! | S3 | Put the claim, which names the last commit, into the next slot. |
//! | S4 | List again: the claim owns the log only if no later record exists. |
//! | S5 | Deliver the commits of earlier owners, collect, and delete orphans. |
//! | S6 | Restore the state, and read from the positions of the checkpoint. |
//! | S7 | Stage the output and store the state parts of an epoch. |
//! | S8 | Put the commit into the next slot: the epoch takes effect. |
//! | S9 | Deliver the output: each [committer](crate::committer) makes it visible. |
//! | S10 | Report the positions to the sources. Advisory. |
//! | S11 | Collect old delivered commits and their state. |
//!
//! A process runs S0 to S6 once, and S7 to S11 for each epoch.
//!
//! ```text
//! <state>/<pipeline>/plan/<hash>.json                the plan of a run; immutable
//! <state>/<pipeline>/log/<task>/<seq:020>.json       claims and commits
//! <state>/<pipeline>/state/<task>/<claim>/<uuid>     state parts; immutable
//! <state>/<pipeline>/alive/<task>/<claim>              a sign of life; only a hint
//! <state>/<pipeline>/published/<task>/<seq:020>      a stop is delivered everywhere
//! ```
//!
//! [`files`](crate::files) lists the objects of a table. Two logs of the same name that write to one
//! table never touch each other's files: their identities ([`LogId`]) differ.
//!
//! The decisions ([`decide`]) are pure functions of observations, and a thin driver does the I/O. A
//! model checker runs the same functions through every order of crashes, late writes and
//! take-overs.

mod attempt;
pub mod audit;
mod claim;
pub mod decide;
mod delivery;
mod driver;
mod gc;
mod identity;
mod outbox;
mod owner;
pub(crate) mod paths;
mod presence;
mod probe;
mod reader;
mod record;
mod retained;
mod slot;
mod state;
pub(crate) mod store;

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

pub use attempt::Attempt;
pub use delivery::Delivery;
pub use driver::{
    CommitLog, CommitRequest, Committed, LogConfig, Ownership, Plan, Recovered, Unclaimed,
};
pub use identity::LogId;
pub use outbox::Committers;
pub use owner::Owner;
pub use presence::{BEAT_EVERY, Heartbeat, PATIENCE, ProcessId, Sign, read_sign};
pub use reader::{pipelines, read_last, read_state};
pub use record::{ByPartition, Checkpoint, Kind, Reason, Record, StateRef, VERSION, counts};
