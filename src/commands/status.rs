//! `tagflow status`.

use std::time::Duration;

use tagflow_engine::{Clock as _, SystemClock};
use tagflow_service::{state_folder::StateFolder, status::rows};

use crate::{cli::Status, exit::Exit, output, status_table::table, terminal::Stream};

/// The refresh interval of `--watch`.
const EVERY: Duration = Duration::from_secs(2);

/// Moves to the top of the screen and clears it.
const CLEAR: &str = "\x1b[H\x1b[2J";

pub(crate) async fn execute(args: Status) -> anyhow::Result<Exit> {
    let state = StateFolder::open(&args.state.state)?;
    loop {
        let rows = rows(&state, args.pipeline.as_deref()).await?;
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
