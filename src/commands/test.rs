//! `tagflow test`.

use serde_json::Value;
use tagflow_pipelines::{Diagnostics, LoadOptions, Pipeline};
use tagflow_service::test::{self, TestResult};

use crate::{
    cli::{ProblemFormat, Test},
    exit::Exit,
    output, pipeline_files,
    terminal::{Stream, Tone},
};

pub(crate) async fn execute(args: Test) -> anyhow::Result<Exit> {
    // Each test blocks a thread to its end, so it must not share one with other tasks.
    tokio::task::spawn_blocking(|| run(args)).await?
}

fn run(args: Test) -> anyhow::Result<Exit> {
    let options = LoadOptions {
        set: args.set,
        ..LoadOptions::default()
    };
    let mut results = Vec::new();
    let mut invalid = Vec::new();
    for file in pipeline_files::find(&args.paths)? {
        match Pipeline::open(&file, &options) {
            Ok(pipeline) => results.extend(test::run(&pipeline, args.parallelism.into())?),
            Err(problems) => invalid.push(problems),
        }
    }
    for problems in &invalid {
        eprint!("{}", Stream::Err.problems(problems));
    }
    output::print(&match args.format {
        ProblemFormat::Human => test::human_with(&results, |has_passed, text| {
            let tone = if has_passed { Tone::Good } else { Tone::Bad };
            Stream::Out.paint(tone, text)
        }),
        ProblemFormat::Json => json(&results, &invalid)?,
        ProblemFormat::Github => {
            let problems: String = invalid.iter().map(Diagnostics::github).collect();
            problems + &test::github(&results)
        }
    })?;
    Ok(
        if invalid.is_empty() && results.iter().all(TestResult::has_passed) {
            Exit::Success
        } else {
            Exit::Usage
        },
    )
}

/// The results as JSON, and an object with `problems` for each invalid file.
fn json(results: &[TestResult], invalid: &[Diagnostics]) -> anyhow::Result<String> {
    let mut all: Vec<Value> = serde_json::from_str(&test::json(results))?;
    for problems in invalid {
        let found: Value = serde_json::from_str(&problems.json())?;
        all.push(serde_json::json!({
            "file": problems.file(),
            "test": null,
            "passed": false,
            "problems": found,
        }));
    }
    Ok(format!("{:#}\n", Value::Array(all)))
}
