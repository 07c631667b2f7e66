//! End-to-end tests: the real binary, as a user starts it.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod audit;
mod bad_pipelines;
mod bad_rows;
mod borders;
mod broker;
mod change;
mod circles;
mod clusters;
mod folder;
mod hive;
mod kill;
mod lake;
mod memory;
mod outage;
mod ownership;
mod pages;
mod pipeline_tests;
mod poison;
mod preview;
mod process;
mod query;
mod reference;
mod replace;
mod replacing;
mod rows;
mod run;
mod s3;
mod secrets;
mod snapshot;
mod soak;
mod status;
mod store;
mod storm;
mod tags;
mod takeover;
