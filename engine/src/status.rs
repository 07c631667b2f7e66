//! What a running job says of itself.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use crate::{EventTime, ledger::Counts};

/// A job at one moment; what `status` and the admin endpoint show.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobStatus {
    /// The pipeline's name.
    pub pipeline: String,
    /// Where it is in its life.
    pub state: JobState,
    /// What it waits for or failed with, in the user's words.
    pub message: Option<String>,
    /// When this process started the job.
    pub started_at: EventTime,
    /// When this was said.
    pub at: EventTime,
    /// Bytes read since the start of this process.
    pub bytes_in: u64,
    /// Rows read since the start of this process, committed or not.
    pub rows_in: u64,
    /// Rows handed to sinks since the start of this process.
    pub rows_out: u64,
    /// Input rows a second, over the last few seconds.
    pub rows_in_per_s: f64,
    /// The event-time watermark of the whole job.
    pub watermark: Option<EventTime>,
    /// What became of the rows since the pipeline's first commit, summed over
    /// all places where rows end, up to the last commit.
    pub totals: Counts,
    /// The partitions, by `source:partition`.
    pub partitions: BTreeMap<String, PartitionStatus>,
    /// The nodes, by name, lanes added up.
    pub nodes: BTreeMap<String, NodeStatus>,
    /// The last commit.
    pub commit: Option<CommitStatus>,
    /// What the process takes of the memory that it may take, where there is a
    /// limit.
    #[serde(default)]
    pub memory: Option<MemoryStatus>,
}

impl JobStatus {
    /// A job that has not begun.
    pub fn starting(pipeline: impl Into<String>, now: EventTime) -> Self {
        Self {
            pipeline: pipeline.into(),
            state: JobState::Starting,
            message: None,
            started_at: now,
            at: now,
            bytes_in: 0,
            rows_in: 0,
            rows_out: 0,
            rows_in_per_s: 0.0,
            watermark: None,
            totals: Counts::default(),
            partitions: BTreeMap::new(),
            nodes: BTreeMap::new(),
            commit: None,
            memory: None,
        }
    }

    /// Rows between what was read and the end of all partitions; `None` where
    /// no source can tell.
    pub fn lag(&self) -> Option<u64> {
        self.partitions
            .values()
            .map(|partition| partition.lag)
            .sum()
    }

    /// Bytes of operator state.
    pub fn state_bytes(&self) -> u64 {
        self.nodes.values().map(|node| node.state_bytes).sum()
    }
}

/// Where a job is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Claiming the log, loading state, publishing what was left.
    Starting,
    /// Rows flow.
    Running,
    /// A source cannot be reached, memory is short, or the job waits to start
    /// again after an error; `message` says which.
    Waiting,
    /// Draining towards the last commit.
    Stopping,
    /// Stopped after a last commit.
    Stopped,
    /// Stopped by an error, which `message` says.
    Failed,
}

impl fmt::Display for JobState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
        })
    }
}

/// The memory of the process at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryStatus {
    /// Bytes that it takes.
    pub used_bytes: u64,
    /// Bytes that it may take.
    pub limit_bytes: u64,
    /// Whether nothing is read because memory is short.
    pub paused: bool,
}

/// One source partition at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionStatus {
    /// The next offset to read.
    pub offset: i64,
    /// Rows to its end, where the source can tell.
    pub lag: Option<u64>,
    /// Its watermark.
    pub watermark: Option<EventTime>,
    /// Whether it is left out of the watermark for being idle.
    pub idle: bool,
    /// Whether it is bounded and read to its end.
    pub finished: bool,
    /// Rows read since the start of this process.
    pub rows: u64,
    /// Bytes read since the start of this process.
    pub bytes: u64,
    /// Of them, dead letters.
    pub dead_letters: u64,
}

/// One node at one moment, its lanes added up.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Rows taken in since the start of this process.
    pub rows_in: u64,
    /// Rows emitted since the start of this process.
    pub rows_out: u64,
    /// Rows that came late since the start of this process.
    pub late: u64,
    /// Rows that found nothing in a table since the start of this process.
    #[serde(default)]
    pub missed: u64,
    /// Bytes of state in memory.
    pub state_bytes: u64,
    /// Bytes waiting in the queues before it.
    pub queue_bytes: u64,
    /// The share of time that its lanes were busy, 0 to 1 a lane; nodes that
    /// are fused into one chain share one figure, to which a source adds the time
    /// that decoding took.
    pub busy: f64,
}

/// A commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitStatus {
    /// Its number in the log.
    pub seq: u64,
    /// When it was decided.
    pub at: EventTime,
    /// Milliseconds from barrier to decision.
    pub took_ms: u64,
    /// Files that it published.
    pub files: u64,
    /// Bytes of those files.
    pub file_bytes: u64,
    /// Bytes of state that it wrote.
    pub state_written_bytes: u64,
    /// Bytes of all state that it names.
    pub state_bytes: u64,
}
