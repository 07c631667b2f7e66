//! Windows against models: `DataFusion` in batch, and a naive one for lateness.

mod aggregates;
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
mod totals;
