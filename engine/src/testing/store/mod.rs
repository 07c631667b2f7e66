//! An object store that fails on demand.

mod fault;
mod faulty;
mod upload;

pub use fault::{Fault, Moment, Operation};
pub use faulty::{Copies, FaultyStore};
