//! Watermarks: the progress of event time. Pure: no clock, no I/O.

mod generator;
mod tracker;

pub use generator::{PartitionWatermark, Segment};
pub use tracker::WatermarkTracker;
