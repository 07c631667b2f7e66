//! Tagflow's connectors: formats, sources and sinks.

pub mod blackhole;
pub mod console;
pub mod dead_letter;
pub mod files;
pub mod format;
pub mod generator;
pub mod kafka;
pub mod parquet;
pub mod storage;

#[cfg(test)]
mod sink_conformance;
#[cfg(test)]
mod testing;
