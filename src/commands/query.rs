//! `tagflow query`.

use tagflow_pipelines::{
    LoadOptions,
    inspect::StateFolder,
    load,
    query::{Answer, Tables, tables_of},
};

use crate::{
    cli::{AnswerFormat, Query},
    exit::Exit,
    output,
};

pub(crate) async fn execute(args: Query) -> anyhow::Result<Exit> {
    let tables = match &args.file {
        Some(file) => {
            let spec = load(file, &LoadOptions::default())?;
            let state = StateFolder::open(&spec.checkpoint.url)?;
            tables_of(&state, Some(&spec.name)).await?
        }
        None => tables_of(&StateFolder::open(&args.state.state)?, None).await?,
    };
    let answer = Tables::new(tables).ask(&args.sql).await?;
    output::print(&render(&answer, args.format)?)?;
    Ok(Exit::Success)
}

fn render(answer: &Answer, format: AnswerFormat) -> tagflow_engine::Result<String> {
    match format {
        AnswerFormat::Table => answer.table(),
        AnswerFormat::Csv => answer.csv(),
        AnswerFormat::Json => answer.json(),
    }
}
