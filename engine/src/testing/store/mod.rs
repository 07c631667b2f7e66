//! An object store that fails on demand.

mod conformance;
mod fault;
mod faulty;
mod upload;

pub use conformance::conformance;
pub use fault::{Fault, Moment, Operation};
pub use faulty::{Copies, FaultyStore};
