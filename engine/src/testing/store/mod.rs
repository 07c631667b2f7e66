//! An object store that fails on demand.

mod conformance;
mod fault;
mod faulty;
mod operations;

pub use conformance::conformance;
pub use fault::{Fault, Moment, Operation};
pub use faulty::{Copies, FaultyStore};
