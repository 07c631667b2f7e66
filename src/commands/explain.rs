//! `tagflow explain`.

use std::fmt::Write as _;

use tagflow_pipelines::{
    Pipeline, Spec, explain,
    lower::{Load, Lowered},
};
use tagflow_service::start::lanes;

use crate::{cli::Explain, exit::Exit, human, output};

pub(crate) fn execute(args: Explain) -> anyhow::Result<Exit> {
    let Pipeline { spec, lowered } =
        Pipeline::open(&args.pipeline.file, &args.pipeline.load_options())?;
    let text = if args.dot {
        explain::dot(&spec.name, &lowered)
    } else if args.lowered {
        explain::lowered(&lowered)
    } else if args.sizes {
        sizes(&args, &spec, &lowered)
    } else {
        explain::text(&spec.name, &lowered, lanes(&spec, None))
    };
    output::print(&text)?;
    Ok(Exit::Success)
}

/// The size of each node's state.
fn sizes(args: &Explain, spec: &Spec, lowered: &Lowered) -> String {
    let sources = spec.sources.iter();
    let delays = sources.map(|(_, source)| source.time.delay.as_secs_f64());
    let load = Load {
        keys: args.keys as f64,
        rate: args.rate as f64,
        delay_s: delays.fold(0.0, f64::max),
        text_bytes: args.text_bytes as f64,
    };
    let (keys, rate) = (human::count(args.keys), human::count(args.rate));
    let mut text = format!("{keys} keys, {rate} rows a second into each node\n");
    let nodes = lowered.sizes.iter();
    let nodes: Vec<_> = nodes.map(|(node, size)| (node, size(&load))).collect();
    let width = nodes.iter().map(|(node, _)| node.len()).max().unwrap_or(0);
    for (node, size) in &nodes {
        let (entries, bytes) = (size.entries.round() as u64, size.bytes.round() as u64);
        let (entries, bytes) = (human::count(entries), human::bytes(bytes));
        let _ = writeln!(text, "{node:<width$}  {bytes:>9}  {entries} {}", size.unit);
    }
    let all: f64 = nodes.iter().map(|(_, size)| size.bytes).sum();
    let _ = writeln!(
        text,
        "{:<width$}  {:>9}",
        "",
        human::bytes(all.round() as u64)
    );
    text
}
