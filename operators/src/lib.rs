//! Tagflow's operators.
