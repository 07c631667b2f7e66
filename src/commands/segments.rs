//! `tagflow segments`.

use tagflow_engine::Error;
use tagflow_pipelines::Pipeline;
use tagflow_service::profiles::known;

use crate::{
    cli::{Segments, SegmentsCommand},
    exit::Exit,
    human, output,
};

pub(crate) async fn execute(args: Segments) -> anyhow::Result<Exit> {
    let SegmentsCommand::Size(args) = args.command;
    let pipeline = Pipeline::open(&args.pipeline.file, &args.pipeline.load_options())?;
    let mut known = known(&pipeline).await?;
    let Some(size) = known.segment_size(&args.segment)? else {
        let names = pipeline.spec.segments.names();
        let names: Vec<String> = names.map(|name| format!("`{name}`")).collect();
        let message = format!(
            "there is no segment `{}` (have: {})",
            args.segment,
            names.join(", ")
        );
        return Err(Error::config(message).into());
    };
    output::print(&format!(
        "{} in `{}` as of {}\n",
        human::count(size as u64),
        args.segment,
        known.as_of()
    ))?;
    Ok(Exit::Success)
}
