//! Asks the process that owns a pipeline.

use std::time::Duration;

use reqwest::{Response, Url};
use tagflow_engine::{
    commit::{Checkpoint, Kind, Reason, Record},
    status::JobStatus,
};

use crate::admin::PROCESS_HEADER;

/// A process on this network answers within this time or not at all.
const PATIENCE: Duration = Duration::from_secs(3);

/// Whether a pipeline's owner answers.
pub(crate) enum Live {
    /// It does, and says this.
    Running(Box<JobStatus>),
    /// It does not, for this reason.
    Silent(Silence),
}

/// Why nobody answers for a pipeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Silence {
    /// Its last commit was the one of a stop.
    Stopped,
    /// Its process should answer and does not.
    Dead,
    /// Its process, if it still runs, cannot be asked.
    Unreachable(String),
}

impl Live {
    /// Asks the owner of `pipeline`, which `record` names.
    pub(crate) async fn of(pipeline: &str, record: &Record) -> Self {
        if let Some(status) = ask(pipeline, record).await {
            return Self::Running(Box::new(status));
        }
        let reason = record
            .checkpoint
            .as_ref()
            .map(|last: &Checkpoint| last.reason);
        Self::Silent(match (record.kind, reason, &record.owner.admin) {
            (Kind::Commit, Some(Reason::Stop), _) => Silence::Stopped,
            (_, _, Some(_)) => Silence::Dead,
            (_, _, None) => Silence::Unreachable(format!(
                "process {} on `{}` was started with `--admin off`: whether it still runs shows \
                 in its commits alone",
                record.owner.pid, record.owner.host
            )),
        })
    }
}

/// The status of the owner.
async fn ask(pipeline: &str, record: &Record) -> Option<JobStatus> {
    let answer = ask_owner(record, &["status"], &[]).await?;
    let status: JobStatus = answer.error_for_status().ok()?.json().await.ok()?;
    (status.pipeline == pipeline).then_some(status)
}

/// What the owner of a pipeline answers at a path, if it is that very process that
/// answers.
pub(crate) async fn ask_owner(
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
