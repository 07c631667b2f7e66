//! The commit log: every input row takes effect exactly once.
//!
//! What commits as one is a *task*. Its log is a folder of numbered records on
//! an object store, each written with put-if-absent, the one promise that is
//! needed of the store (opening checks it). A process that takes the task over
//! writes a *claim* into the next slot; from then on a former owner, whose next
//! slot that is, can never commit again. Each epoch is one *commit*: the
//! positions to go on from, the state in force, the files to publish and the
//! counts of rows, all or none. No clock, lease or lock is relied on.
//!
//! ```text
//! <state>/<pipeline>/plan/<hash>.json                what ran; immutable
//! <state>/<pipeline>/log/<task>/<seq:020>.json       claims and commits
//! <state>/<pipeline>/state/<task>/<claim>/<uuid>     state parts; immutable
//! <state>/<pipeline>/published/<task>/<seq:020>      a stop's files are all visible
//! <table>/_staging/<pipeline>/<task>/<claim>/<uuid>  finished files, not yet visible
//! <table>/<folder>/<task>-<seq>-<n>-<uuid8>.parquet  published after the commit
//! <table>/<folder>/<name>.parquet                    the same; a later commit may remove it
//! ```
//!
//! The decisions ([`decide`]) are pure functions of what was observed, and a
//! thin driver does the I/O. A model checker runs the same functions through
//! every order of crashes, late writes and take-overs.

pub mod audit;
mod claim;
pub mod decide;
mod driver;
mod file_set;
mod gc;
mod paths;
mod probe;
mod publish;
mod reader;
mod record;
mod slot;
mod state;
mod store;

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

pub use driver::{CommitLog, Committed, Cut, LogConfig, Plan, Recovered};
pub use file_set::{FileSet, FileSets};
pub use paths::STAGING;
pub use reader::{pipelines, read_last, read_state};
pub use record::{
    Attempt, ByPartition, Checkpoint, FileRef, Kind, Owner, Reason, Record, StateRef, TableTotals,
    VERSION, counts,
};
