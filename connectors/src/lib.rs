//! Tagflow's connectors: formats, and where rows come from and go to.

pub mod files;
pub mod format;
pub mod generator;
pub mod kafka;
pub mod storage;
#[cfg(test)]
mod testing;
