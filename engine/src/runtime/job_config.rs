//! The configuration of a job.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{error_rate::ErrorRateLimit, replay::OldFiles};
use crate::{committer::DeliveryBounds, memory::MemoryLimit};

/// The configuration of a job.
#[derive(Debug, Clone)]
pub struct JobConfig {
    /// The pipeline's name.
    pub pipeline: String,
    /// The number of lanes.
    pub lanes: usize,
    /// The interval of commits.
    pub checkpoint_every: Duration,
    /// The capacity of each channel in bytes.
    pub queue_bytes: usize,
    /// The condition to stop.
    pub until: Until,
    /// Whether open windows close at the stop.
    pub end: End,
    /// Nodes and sources whose state may be dropped, by name.
    pub reset: BTreeSet<String>,
    /// Whether to keep published files whose rows are read again.
    pub old_files: OldFiles,
    /// The limits of undelivered output, by sink. Other sinks have the default.
    pub deliver: BTreeMap<String, DeliveryBounds>,
    /// The limit of bad rows.
    pub stop_when: Option<ErrorRateLimit>,
    /// The memory limit of the process.
    pub memory: Option<MemoryLimit>,
}

impl JobConfig {
    /// The share of the memory limit for each lane, in bytes.
    pub(super) fn memory_per_lane(&self) -> Option<usize> {
        let limit = self.memory.as_ref()?.bytes;
        Some(usize::try_from(limit).unwrap_or(usize::MAX) / self.lanes.max(1))
    }
}

/// When a job stops on its own. A job whose sources are all bounded always stops when they have
/// been read to their end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// At a command.
    Stopped,
    /// When every partition has reached its end once. If a source may get more rows in a later run
    /// ([`MayGrow`](crate::source::Growth::MayGrow)), [`JobConfig::end`] decides about open windows.
    CaughtUp,
}

/// Whether open windows close when a job stops before its sources end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// They stay in the state, and the next run continues with them.
    Keep,
    /// They close. Their later rows are late.
    Drain,
}
