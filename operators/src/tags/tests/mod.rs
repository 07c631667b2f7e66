//! Tags against a naive reference: keep all events, and find each tag at any time
//! by its definition.
//!
//! - [`event`]: random events and how they arrive; [`definitions`]: random tags and
//!   segments;
//! - [`driver`]: operators on some lanes, with the store of their state;
//! - [`reference`]: what tags mean, [`history`]: what becomes of them over time,
//!   [`model`]: which events count when some are late;
//! - [`differential`]: the operator equals the reference, and rule 12;
//! - the others: what random cases do not reach.

mod boundaries;
mod definitions;
mod differential;
mod driver;
mod event;
mod evolution;
mod history;
mod model;
mod reference;
mod size;
