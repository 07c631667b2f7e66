//! `tagflow explain`.

use tagflow_pipelines::{Pipeline, explain, launch::lanes};

use crate::{cli::Explain, exit::Exit, output};

pub(crate) fn execute(args: Explain) -> anyhow::Result<Exit> {
    let Pipeline { spec, lowered } =
        Pipeline::open(&args.pipeline.file, &args.pipeline.load_options())?;
    let text = if args.dot {
        explain::dot(&spec.name, &lowered)
    } else if args.lowered {
        explain::lowered(&lowered)
    } else {
        explain::text(&spec.name, &lowered, lanes(&spec, None))
    };
    output::print(&text)?;
    Ok(Exit::Success)
}
