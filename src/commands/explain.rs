//! `tagflow explain`.

use tagflow_pipelines::{Pipeline, explain};

use crate::{cli::Explain, exit::Exit, output};

pub(crate) fn execute(args: Explain) -> anyhow::Result<Exit> {
    let pipeline = Pipeline::open(&args.pipeline.file, &args.pipeline.load_options())?;
    let text = if args.dot {
        explain::dot(&pipeline)
    } else {
        explain::text(&pipeline)
    };
    output::print(&text)?;
    Ok(Exit::Success)
}
