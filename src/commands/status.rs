//! `tagflow status`.

use std::time::Duration;

use tagflow_engine::{
    Clock as _, SystemClock,
    commit::{Record, Sign},
};
use tagflow_pipelines::state_folder::StateFolder;

use crate::{
    cli::Status,
    exit::Exit,
    output,
    status::{Live, Row, Silence, table},
    terminal::Stream,
};

/// The refresh interval of `--watch`.
const EVERY: Duration = Duration::from_secs(2);

/// Moves to the top of the screen and clears it.
const CLEAR: &str = "\x1b[H\x1b[2J";

pub(crate) async fn execute(args: Status) -> anyhow::Result<Exit> {
    let state = StateFolder::open(&args.state.state)?;
    loop {
        let rows = look(&state, args.pipeline.as_deref()).await?;
        let text = if args.json {
            format!("{}\n", serde_json::to_string_pretty(&rows)?)
        } else if rows.is_empty() {
            format!(
                "no pipeline has run with its state in `{}`\n",
                args.state.state
            )
        } else {
            table(&rows, SystemClock.now(), Stream::Out.width())
        };
        if !args.watch {
            output::print(&text)?;
            return Ok(Exit::Success);
        }
        let clear = if args.json || Stream::Out.width().is_none() {
            ""
        } else {
            CLEAR
        };
        output::print(&format!("{clear}{text}"))?;
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            _ = tokio::signal::ctrl_c() => return Ok(Exit::Success),
        }
    }
}

/// All pipelines of the folder, or the requested one.
async fn look(state: &StateFolder, only: Option<&str>) -> anyhow::Result<Vec<Row>> {
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
        return Err(state.has_not_run(only).await.into());
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
