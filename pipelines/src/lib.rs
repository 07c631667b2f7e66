//! Tagflow's pipelines.
