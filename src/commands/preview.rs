//! `tagflow preview`.

use std::sync::Arc;

use tagflow_engine::SystemClock;
use tagflow_pipelines::Pipeline;
use tagflow_service::preview::{Preview, PreviewEnd, preview};

use crate::{cli, exit::Exit, output, terminal::Stream};

pub(crate) async fn execute(args: cli::Preview) -> anyhow::Result<Exit> {
    let pipeline = Pipeline::open(&args.pipeline.file, &args.pipeline.load_options())?;
    let clock = Arc::new(SystemClock);
    let (most, patience) = (args.rows, args.patience.into());
    let Preview { rows, end, status } =
        Box::pin(preview(&pipeline.spec, &args.node, most, patience, clock)).await?;
    output::print(&rows.table(Stream::Out.width())?)?;
    if let PreviewEnd::TimeIsUp(in_time) = end {
        let after = humantime::format_duration(patience);
        let open = rows.num_rows() - in_time;
        let said = match (in_time, open) {
            (0, 0) => "no row has come; `--for` waits longer".to_owned(),
            (_, 0) => "no more rows have come".to_owned(),
            (0, _) => "no window has closed yet; these are still open".to_owned(),
            _ => format!("the last {open} rows are of windows that are still open"),
        };
        eprintln!("after {after}: {said}");
    }
    let bad: u64 = status.partitions.values().map(|it| it.dead_letters).sum();
    if bad > 0 {
        eprintln!("{bad} rows could not be read; `run` would set them aside as dead letters");
    }
    Ok(Exit::Success)
}
