//! What tests of the engine, and of what plugs into it, are made of.

pub mod store;
