//! Tags against a naive reference, which keeps all events and computes each tag at any time from
//! its definition.
//!
//! - [`event`]: random events and their arrival; [`definitions`]: random tags and segments;
//! - [`driver`]: operators on some lanes, with the store of their state;
//! - [`reference`]: the meaning of tags, [`history`]: their changes over time, [`model`]: the
//!   events that count when some are late;
//! - [`differential`]: the operator equals the reference, and rule 12;
//! - [`golden`]: rows and bytes are those of an earlier build;
//! - the others: cases that random ones do not reach.

mod boundaries;
mod definitions;
mod differential;
mod driver;
mod event;
mod evolution;
mod golden;
mod history;
mod model;
mod reference;
mod size;
