//! One pipeline at one moment.

use serde::{Serialize, Serializer};
use tagflow_engine::{
    EventTime,
    commit::{Owner, Record},
    ledger::Counts,
    status::{JobState, JobStatus},
};

use super::live::Silence;

/// One pipeline at one moment, as `status` shows it; its JSON is part of the interface.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// Its name.
    pub pipeline: String,
    /// `starting`, `running`, `waiting`, `stopping`, `stopped`, `failed`,
    /// `dead` or `unreachable`.
    pub state: String,
    /// The reason why it waits, failed or is unreachable.
    pub message: Option<String>,
    /// Rows per second.
    pub rows_in_per_s: Option<f64>,
    /// Rows to the end of all partitions.
    pub lag_rows: Option<u64>,
    /// How far the watermark is behind the current time.
    pub delay_s: Option<f64>,
    /// The event-time watermark, RFC 3339.
    pub watermark: Option<Moment>,
    /// The outcomes of the rows, up to the last commit.
    pub totals: Counts,
    /// The last commit.
    pub commit: Option<Commit>,
    /// Bytes of state.
    pub state_bytes: u64,
    /// The process that runs it, or ran it last.
    pub owner: Process,
}

/// A time that is written as RFC 3339.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment(pub EventTime);

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// The last commit.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Commit {
    /// Its number.
    pub seq: u64,
    /// When it was decided, RFC 3339.
    pub at: Moment,
}

/// A process.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Process {
    /// Its machine.
    pub host: String,
    /// Its id there.
    pub pid: u32,
    /// The address of its admin endpoint.
    pub admin: Option<String>,
}

impl From<&Owner> for Process {
    fn from(owner: &Owner) -> Self {
        Self {
            host: owner.host.clone(),
            pid: owner.pid,
            admin: owner.admin.clone(),
        }
    }
}

/// Why a process may be gone that has left no reason. A crash inside a library (the Kafka
/// client) leaves none.
fn of_dead(owner: &Owner) -> String {
    format!(
        "process {} on `{}` ended without a stop: it was killed, ran out of memory, or crashed in \
         a library; run it again, and it goes on after the last commit",
        owner.pid, owner.host
    )
}

impl Row {
    /// The row of a job whose process answers.
    pub fn of_live(status: &JobStatus, record: &Record) -> Self {
        let last = record.checkpoint.as_ref();
        let commit = match (&status.commit, last) {
            (Some(commit), _) => Some(Commit {
                seq: commit.seq,
                at: Moment(commit.at),
            }),
            (None, Some(last)) => Some(Commit {
                seq: last.seq,
                at: Moment(last.at),
            }),
            (None, None) => None,
        };
        let flows = matches!(status.state, JobState::Running | JobState::Stopping);
        let behind = |watermark: EventTime| status.at.since(watermark).as_secs_f64();
        Self {
            pipeline: status.pipeline.clone(),
            state: status.state.to_string(),
            message: status.message.clone(),
            rows_in_per_s: flows.then_some(status.rows_in_per_s),
            lag_rows: status.lag(),
            delay_s: status.watermark.map(behind),
            watermark: status.watermark.map(Moment),
            totals: status.totals,
            commit,
            state_bytes: status.state_bytes(),
            owner: (&record.owner).into(),
        }
    }

    /// The row of a pipeline whose owner does not answer.
    pub fn of_record(pipeline: String, record: &Record, silence: Silence) -> Self {
        let last = record.checkpoint.as_ref();
        let (state, message) = match silence {
            Silence::Stopped => ("stopped", None),
            Silence::Failed(why) => ("failed", Some(why)),
            Silence::Dead => ("dead", Some(of_dead(&record.owner))),
            Silence::Unreachable(why) => ("unreachable", Some(why)),
        };
        let watermarks = last.map(|last| last.watermarks.values().flat_map(|of| of.values()));
        Self {
            pipeline,
            state: state.into(),
            message,
            rows_in_per_s: None,
            lag_rows: None,
            delay_s: None,
            watermark: watermarks.and_then(|all| all.min().copied().map(Moment)),
            totals: last.map(|last| last.totals).unwrap_or_default(),
            commit: last.map(|last| Commit {
                seq: last.seq,
                at: Moment(last.at),
            }),
            state_bytes: last.map_or(0, |last| last.state.iter().map(|part| part.bytes).sum()),
            owner: (&record.owner).into(),
        }
    }
}
