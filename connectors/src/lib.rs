//! Tagflow's connectors.

pub mod kafka;
