//! Tests of the whole: the real binary, as a user starts it.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod bad_pipelines;
mod bad_rows;
mod borders;
mod broker;
mod kill;
mod lake;
mod pipeline_tests;
mod preview;
mod process;
mod replace;
mod rows;
mod run;
mod snapshot;
mod status;
mod store;
mod storm;
mod tags;
mod takeover;
