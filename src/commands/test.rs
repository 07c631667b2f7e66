//! `tagflow test`.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use tagflow_engine::Error;
use tagflow_pipelines::{
    LoadOptions, Pipeline,
    testing::{self, TestResult},
};

use crate::{
    cli::{ProblemFormat, Test},
    exit::Exit,
    output,
};

pub(crate) async fn execute(args: Test) -> anyhow::Result<Exit> {
    // Each test drives its pipeline to the end: it is no task among others.
    tokio::task::spawn_blocking(|| run(args)).await?
}

fn run(args: Test) -> anyhow::Result<Exit> {
    let options = LoadOptions {
        set: args.set,
        ..LoadOptions::default()
    };
    let mut files = Vec::new();
    for path in &args.paths {
        find(path, &mut files).map_err(|error| {
            Error::config(format!("cannot read `{}`", path.display())).with_source(error)
        })?;
    }
    let mut results = Vec::new();
    let mut all_are_right = true;
    for file in files {
        match Pipeline::open(&file, &options) {
            Ok(pipeline) => results.extend(testing::run(&pipeline, args.parallelism.into())?),
            Err(problems) => {
                eprint!("{}", problems.human());
                all_are_right = false;
            }
        }
    }
    output::print(&match args.format {
        ProblemFormat::Human => testing::human(&results),
        ProblemFormat::Json => testing::json(&results),
        ProblemFormat::Github => testing::github(&results),
    })?;
    Ok(
        if all_are_right && results.iter().all(TestResult::has_passed) {
            Exit::Success
        } else {
            Exit::Usage
        },
    )
}

/// Adds the file at `path`, or the pipeline files below that folder, by name.
fn find(path: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    if !path.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    let mut entries: Vec<PathBuf> = fs::read_dir(path)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    entries.sort();
    for entry in entries {
        let is_yaml = entry
            .extension()
            .is_some_and(|extension| extension == "yaml" || extension == "yml");
        if entry.is_dir() || is_yaml {
            find(&entry, files)?;
        }
    }
    Ok(())
}
