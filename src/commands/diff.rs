//! `tagflow diff`.

use std::{fmt::Write as _, path::Path};

use tagflow_pipelines::{LoadOptions, Pipeline};
use tagflow_service::{
    diff::{Version, compare, human, resets},
    state_folder::StateFolder,
};

use crate::{cli::Diff, exit::Exit, output};

pub(crate) async fn execute(args: Diff) -> anyhow::Result<Exit> {
    let options = LoadOptions {
        set: args.set,
        ..LoadOptions::default()
    };
    let open = |file: &Path| Pipeline::open(file, &options);
    let file = args.new.as_ref().unwrap_or(&args.old);
    let pipeline = open(file)?;
    let old = if args.new.is_some() {
        Version::of(&open(&args.old)?)?
    } else {
        let url = &pipeline.spec.checkpoint.url;
        let last = Version::last(&StateFolder::open(url)?, &pipeline.spec.name).await?;
        let Some(last) = last else {
            let (name, url) = (pipeline.spec.name.value(), &**url);
            output::print(&format!(
                "`{name}` has not committed in {url}: all begins anew\n"
            ))?;
            return Ok(Exit::Success);
        };
        last
    };
    let new = Version::of(&pipeline)?;
    if old.name() != new.name() {
        output::print(&format!(
            "`{}` is another pipeline than `{}`, with a commit log of its own: all begins anew\n",
            new.name(),
            old.name()
        ))?;
        return Ok(Exit::Success);
    }
    let mut text = human(&compare(&old, &new));
    let resets = resets(&old, &new);
    if !resets.is_empty() {
        let is_read_again = resets.iter().any(|name| new.reads(name));
        let mut flags: Vec<_> = resets
            .iter()
            .map(|name| format!(" --reset {name}"))
            .collect();
        flags.extend(is_read_again.then(|| " --replace-tables".to_owned()));
        let (file, resets) = (file.display(), flags.concat());
        let _ = writeln!(text, "to go on with it: tagflow run {file}{resets}");
    }
    output::print(&text)?;
    Ok(Exit::Success)
}
