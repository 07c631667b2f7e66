//! The status of a running job.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use crate::{EventTime, ledger::Counts};

/// A job at one moment, for `status` and the admin endpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobStatus {
    /// The pipeline's name.
    pub pipeline: String,
    /// The state of its life cycle.
    pub state: JobState,
    /// The cause of waiting or failure, in words for the user.
    pub message: Option<String>,
    /// When this process started the job.
    pub started_at: EventTime,
    /// The time of this status.
    pub at: EventTime,
    /// Bytes read since the start of this process.
    pub bytes_in: u64,
    /// Rows read since the start of this process, committed or not.
    pub rows_in: u64,
    /// Rows written to sinks since the start of this process.
    pub rows_out: u64,
    /// Input rows a second, over the last few seconds.
    pub rows_in_per_s: f64,
    /// The event-time watermark of the whole job.
    pub watermark: Option<EventTime>,
    /// The outcomes of the rows since the pipeline's first commit up to the last one, summed over
    /// all nodes where rows end.
    pub totals: Counts,
    /// The partitions, by `source:partition`.
    pub partitions: BTreeMap<String, PartitionStatus>,
    /// The nodes, by name, summed over lanes.
    pub nodes: BTreeMap<String, NodeStatus>,
    /// The last commit.
    pub commit: Option<CommitStatus>,
    /// The sinks that deliver the output of commits, by name.
    #[serde(default)]
    pub sinks: BTreeMap<String, SinkStatus>,
    /// The memory of the process, if it has a limit.
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
            sinks: BTreeMap::new(),
            memory: None,
        }
    }

    /// Rows between the positions and the ends of all partitions; `None` if no source knows them.
    pub fn lag(&self) -> Option<u64> {
        self.partitions
            .values()
            .map(|partition| partition.lag)
            .sum()
    }

    /// Dead letters since the start of this process: rows that could not be decoded, and rows on
    /// which an expression failed.
    pub fn dead_letters(&self) -> u64 {
        let unread = self.partitions.values().map(|it| it.dead_letters);
        let failed = self.nodes.values().map(|it| it.dead_letters);
        unread.chain(failed).sum()
    }

    /// Bytes of operator state.
    pub fn state_bytes(&self) -> u64 {
        self.nodes.values().map(|node| node.state_bytes).sum()
    }
}

/// The life cycle of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// The job claims the log, loads state and publishes files of the last commit.
    Starting,
    /// Rows flow.
    Running,
    /// A source cannot be reached, memory is short, or the job will restart after an error.
    /// `message` states the reason.
    Waiting,
    /// The job processes the last rows before the last commit.
    Stopping,
    /// Stopped after a last commit.
    Stopped,
    /// Stopped by an error, which `message` contains.
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
    /// Bytes in use.
    pub used_bytes: u64,
    /// The limit in bytes.
    pub limit_bytes: u64,
    /// Whether sources are paused because memory is short.
    pub paused: bool,
}

/// One source partition at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionStatus {
    /// The next offset to read.
    pub offset: i64,
    /// Rows to its end, if the source knows them.
    pub lag: Option<u64>,
    /// Its watermark.
    pub watermark: Option<EventTime>,
    /// Whether its watermark does not count because it is idle.
    pub idle: bool,
    /// Whether it is bounded and read to its end.
    pub finished: bool,
    /// Rows read since the start of this process.
    pub rows: u64,
    /// Bytes read since the start of this process.
    pub bytes: u64,
    /// Dead letters among the rows read since the start of this process.
    pub dead_letters: u64,
}

/// One node at one moment, summed over lanes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Rows received since the start of this process.
    pub rows_in: u64,
    /// Rows emitted since the start of this process.
    pub rows_out: u64,
    /// Late rows since the start of this process.
    pub late: u64,
    /// Rows on which an expression of the node failed since the start of this process.
    #[serde(default)]
    pub dead_letters: u64,
    /// Rows without a match in a lookup table since the start of this process.
    #[serde(default)]
    pub missed: u64,
    /// Bytes of state in memory.
    pub state_bytes: u64,
    /// Bytes in its input queues.
    pub queue_bytes: u64,
    /// The share of time that its lanes were busy, 0 to 1 for each lane. The nodes of a chain share
    /// one value. The value of a source includes the time for decoding.
    pub busy: f64,
}

/// A commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitStatus {
    /// Its number in the log.
    pub seq: u64,
    /// The time of the decision.
    pub at: EventTime,
    /// Milliseconds from barrier to decision.
    pub took_ms: u64,
    /// Files that it published.
    pub files: u64,
    /// Their total size in bytes.
    pub file_bytes: u64,
    /// Bytes of state that it wrote.
    pub state_written_bytes: u64,
    /// Bytes of all state that it refers to.
    pub state_bytes: u64,
}

/// The delivery of a sink's output.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SinkStatus {
    /// The name of its target, without secrets.
    pub target: String,
    /// Its target has the output of every commit up to this one.
    pub delivered_seq: u64,
    /// The number of commits whose output is not delivered.
    pub pending_commits: u64,
    /// The rows of these commits.
    pub pending_rows: u64,
    /// The bytes that are staged for these commits.
    pub pending_bytes: u64,
    /// The time of the first of these commits.
    pub pending_since: Option<EventTime>,
    /// Failed attempts to deliver since the start of this process.
    pub failures: u64,
    /// The error of the last attempt, if it failed.
    pub last_error: Option<String>,
}
