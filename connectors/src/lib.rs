//! Tagflow's connectors: formats, sources and sinks.

pub mod blackhole;
pub mod component;
pub mod console;
pub mod dead_letter;
pub mod files;
pub mod format;
pub mod generator;
pub mod kafka;
mod list;
pub mod parquet;
pub mod storage;

pub use list::{SinkConfig, SourceConfig};

#[cfg(test)]
mod sink_conformance;
#[cfg(test)]
mod testing;
