//! Whole pipelines, from the text of their file to the rows of their sinks.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod case;
mod corrected;
mod cut;
mod duckdb;
mod files;
mod funnels;
mod guards;
mod joins;
mod late;
mod metrics;
mod oracle;
mod ordered;
mod poison;
mod process;
mod rig;
mod seeds;
mod sizes;
mod sums;
mod tags;
mod times;
mod trouble;
mod updating;
