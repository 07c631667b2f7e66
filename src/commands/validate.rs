//! `tagflow validate`.

use serde_json::Value;
use tagflow_pipelines::{Diagnostics, LoadOptions, diagnose};

use crate::{
    cli::{ProblemFormat, Validate},
    exit::Exit,
    output, pipeline_files,
    terminal::{Stream, Tone},
};

pub(crate) fn execute(args: Validate) -> anyhow::Result<Exit> {
    let options = LoadOptions {
        set: args.set,
        ..LoadOptions::default()
    };
    let files = pipeline_files::find(&args.files)?;
    let found: Vec<_> = files.iter().map(|file| diagnose(file, &options)).collect();
    output::print(&render(&found, args.format)?)?;
    Ok(if found.iter().any(Diagnostics::has_errors) {
        Exit::Usage
    } else {
        Exit::Success
    })
}

fn render(found: &[Diagnostics], format: ProblemFormat) -> anyhow::Result<String> {
    Ok(match format {
        ProblemFormat::Human => found.iter().map(human).collect(),
        ProblemFormat::Github => found.iter().map(Diagnostics::github).collect(),
        ProblemFormat::Json => {
            let mut all = Vec::new();
            for problems in found {
                let of_file: Vec<Value> = serde_json::from_str(&problems.json())?;
                all.extend(of_file);
            }
            format!("{:#}\n", Value::Array(all))
        }
    })
}

fn human(problems: &Diagnostics) -> String {
    if problems.is_empty() {
        format!(
            "{}: {}\n",
            problems.file(),
            Stream::Out.paint(Tone::Good, "ok")
        )
    } else {
        Stream::Out.problems(problems)
    }
}
