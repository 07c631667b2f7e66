//! The process that runs a task.

use serde::{Deserialize, Serialize};

use crate::EventTime;

/// A process that runs a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Owner {
    /// Its machine.
    pub host: String,
    /// Its process id there.
    pub pid: u32,
    /// `host:port` of its admin endpoint, where it serves one.
    pub admin: Option<String>,
    /// When it started.
    pub started_at: EventTime,
}
