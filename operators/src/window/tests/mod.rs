//! Windows against models: `DataFusion` in batch, and a naive model for lateness.

mod aggregates;
mod closing;
mod corrections;
mod differential;
mod driver;
mod evolution;
mod late;
mod oracle;
mod rows;
mod sessions;
mod size;
mod state;
mod sums;
mod totals;
