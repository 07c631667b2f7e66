//! Tagflow's connectors.

pub mod blackhole;
pub mod console;
pub mod dead_letter;
pub mod parquet;

#[cfg(test)]
mod sink_conformance;
