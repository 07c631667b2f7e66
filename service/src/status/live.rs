//! Queries the process that owns a pipeline.

use std::time::Duration;

use reqwest::{Response, Url};
use tagflow_engine::{
    Clock as _, EventTime, SystemClock,
    commit::{Checkpoint, Kind, ProcessId, Reason, Record, Sign},
    status::JobStatus,
};

use crate::http::PROCESS_HEADER;

/// A process on this network answers within this time or not at all.
const PATIENCE: Duration = Duration::from_secs(3);

/// A heartbeat older than this means a dead process. The clocks of two machines may differ a
/// little.
const PATIENCE_WITH_CLOCKS: Duration = Duration::from_secs(15);

/// Whether a pipeline's owner answers.
pub enum Live {
    /// It answers with this status.
    Running(Box<JobStatus>),
    /// It does not answer, for this reason.
    Silent(Silence),
}

/// Why a pipeline's owner does not answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Silence {
    /// Its last commit was that of a stop.
    Stopped,
    /// Its process ended with this error.
    Failed(String),
    /// Its process has ended without a stop, or sends no heartbeat.
    Dead,
    /// Its process is unreachable from here. It runs according to its heartbeats, or it is an older
    /// build without heartbeats.
    Unreachable(String),
}

impl Live {
    /// Queries the owner of `pipeline`, which `record` names and whose last heartbeat is `sign`.
    pub async fn of(pipeline: &str, record: &Record, sign: Option<&Sign>) -> Self {
        if let Some(status) = ask(pipeline, record).await {
            return Self::Running(Box::new(status));
        }
        let reason = record
            .checkpoint
            .as_ref()
            .map(|last: &Checkpoint| last.reason);
        if record.kind == Kind::Commit && reason == Some(Reason::Stop) {
            return Self::Silent(Silence::Stopped);
        }
        Self::Silent(match sign {
            Some(sign) => silence(record, sign, SystemClock.now()),
            None if record.owner.admin.is_some() => Silence::Dead,
            None => Silence::Unreachable(format!(
                "process {} on `{}` was started with `--admin off` and gives no sign of life: it \
                 has ended, or is of an older build",
                record.owner.pid, record.owner.host
            )),
        })
    }
}

/// The state of an owner that does not answer, from its last heartbeat. A commit counts as a
/// heartbeat.
fn silence(record: &Record, sign: &Sign, now: EventTime) -> Silence {
    let at = sign.at.max(record.at);
    let age = now.since(at);
    if sign.process.has_ended(&ProcessId::current()) || age >= PATIENCE_WITH_CLOCKS {
        return Silence::Dead;
    }
    let owner = &record.owner;
    let why = match &owner.admin {
        Some(_) => "not reachable from here",
        None => "started with `--admin off`",
    };
    Silence::Unreachable(format!(
        "running on `{}` (process {}), {why}; last sign of life {} s ago",
        owner.host,
        owner.pid,
        age.as_secs()
    ))
}

/// The status of the owner.
async fn ask(pipeline: &str, record: &Record) -> Option<JobStatus> {
    let answer = ask_owner(record, &["status"], &[]).await?;
    let status: JobStatus = answer.error_for_status().ok()?.json().await.ok()?;
    (status.pipeline == pipeline).then_some(status)
}

/// The answer of a pipeline's owner at a path, if the answering process is the owner.
pub async fn ask_owner(
    record: &Record,
    path: &[&str],
    parameters: &[(&str, String)],
) -> Option<Response> {
    let address = record.owner.admin.as_deref()?;
    let client = reqwest::Client::builder()
        .no_proxy()
        .timeout(PATIENCE)
        .build()
        .ok()?;
    let mut url = Url::parse(&format!("http://{address}")).ok()?;
    url.path_segments_mut().ok()?.pop_if_empty().extend(path);
    url.query_pairs_mut().extend_pairs(parameters);
    let answer = client.get(url).send().await.ok()?;
    let process = answer.headers().get(PROCESS_HEADER)?.to_str().ok()?;
    (process == record.owner.pid.to_string()).then_some(answer)
}
