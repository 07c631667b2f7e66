//! Tagflow's connectors.
