//! The status of each pipeline: from its process if it answers, otherwise from the last record of
//! its commit log.

mod live;
mod row;

pub use live::{Live, Silence, ask_owner};
pub use row::{Commit, Moment, Process, Row};

use tagflow_engine::{
    Result,
    commit::{Record, Sign},
};

use crate::state_folder::StateFolder;

/// All pipelines of the folder, or the requested one.
///
/// # Errors
/// Those of the state folder; `Config` if the requested pipeline has not run.
pub async fn rows(state: &StateFolder, only: Option<&str>) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for pipeline in state.pipelines().await? {
        if only.is_some_and(|only| only != pipeline) {
            continue;
        }
        if let Some(record) = state.last(&pipeline).await? {
            let sign = state.sign(&pipeline, &record).await?;
            rows.push(row(state, pipeline, &record, sign).await);
        }
    }
    if let (Some(only), []) = (only, rows.as_slice()) {
        return Err(state.has_not_run(only).await);
    }
    Ok(rows)
}

async fn row(state: &StateFolder, pipeline: String, record: &Record, sign: Option<Sign>) -> Row {
    match Live::of(&pipeline, record, sign.as_ref()).await {
        Live::Running(status) => Row::of_live(&status, record),
        Live::Silent(Silence::Stopped) => Row::of_record(pipeline, record, Silence::Stopped),
        Live::Silent(why) => {
            let failure = state.failure(&pipeline, &record.owner).await;
            let why = failure.map_or(why, Silence::Failed);
            Row::of_record(pipeline, record, why)
        }
    }
}
