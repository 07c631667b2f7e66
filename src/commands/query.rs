//! `tagflow query`.

use std::{
    io::{IsTerminal as _, Read as _},
    path::{Path, PathBuf},
};

use tagflow_engine::Error;
use tagflow_pipelines::{LoadOptions, load};
use tagflow_service::{
    query::{Answer, PipelineTable, Tables, statements, tables_of},
    state_folder::StateFolder,
};

use crate::{
    cli::{AnswerFormat, Query},
    exit::{self, Exit, Rerun},
    human, output,
    prompt::{self, Asked},
    terminal::Stream,
};

pub(crate) async fn execute(args: Query) -> anyhow::Result<Exit> {
    let (file, sql) = file_and_sql(args.file, &args.sql)?;
    let (state, only) = match &file {
        Some(file) => {
            let spec = load(file, &LoadOptions::default())?;
            let state = StateFolder::open(&spec.checkpoint.url)?;
            (state, Some(spec.name.value().clone()))
        }
        None => (StateFolder::open(&args.state.state)?, None),
    };
    let session = Session {
        state,
        only,
        format: args.format,
    };
    let sql = match (sql, &args.from) {
        (Some(sql), _) if sql.trim().is_empty() => {
            let message = "the query is empty; for example: tagflow query \"show tables\"";
            return Err(Error::config(message).into());
        }
        (Some(sql), _) => sql,
        (None, Some(file)) if file != Path::new("-") => {
            std::fs::read_to_string(file).map_err(|error| {
                Error::config(format!("cannot read `{}`", file.display())).with_source(error)
            })?
        }
        (None, None) if std::io::stdin().is_terminal() => return session.converse().await,
        (None, _) => standard_input()?,
    };
    let sql = match prompt::meaning(&sql) {
        Asked::Sql(sql) => sql,
        Asked::Nothing | Asked::End => return Ok(Exit::Success),
    };
    for statement in statements(&sql)? {
        session.answer(&statement).await?;
    }
    Ok(Exit::Success)
}

/// The pipeline file and the SQL of a command line: the file may stand before the SQL.
fn file_and_sql(
    file: Option<PathBuf>,
    words: &[String],
) -> Result<(Option<PathBuf>, Option<String>), Error> {
    let is_file = |word: &str| [".yaml", ".yml"].iter().any(|end| word.ends_with(end));
    match words {
        [] => Ok((file, None)),
        [first] if file.is_none() && is_file(first) => Ok((Some(first.into()), None)),
        [sql] => Ok((file, Some(sql.clone()))),
        [first, sql] if file.is_none() && is_file(first) => {
            Ok((Some(first.into()), Some(sql.clone())))
        }
        _ => Err(Error::config(
            "the query is one argument: write it between quotes, as in tagflow query \"select \
             count(*) from late\"",
        )),
    }
}

fn standard_input() -> anyhow::Result<String> {
    let mut text = String::new();
    std::io::stdin()
        .read_to_string(&mut text)
        .map_err(|error| Error::config("cannot read SQL from standard input").with_source(error))?;
    Ok(text)
}

/// The queryable tables, and the format of answers.
struct Session {
    state: StateFolder,
    /// Only the tables of this pipeline.
    only: Option<String>,
    format: AnswerFormat,
}

impl Session {
    /// The current tables.
    async fn tables(&self) -> anyhow::Result<Tables> {
        let tables = tables_of(&self.state, self.only.as_deref()).await?;
        Ok(Tables::new(tables))
    }

    /// Prints the answer to one statement.
    async fn answer(&self, sql: &str) -> anyhow::Result<()> {
        let mut tables = self.tables().await?;
        let answer = tables.ask(sql).await?;
        output::print(&self.render(&answer)?)?;
        if self.format == AnswerFormat::Table {
            for table in tables.without_files(sql).await? {
                eprintln!("hint: {}", self.why_empty(table).await);
            }
        }
        Ok(())
    }

    fn render(&self, answer: &Answer) -> tagflow_engine::Result<String> {
        match self.format {
            AnswerFormat::Table => answer.table(Stream::Out.width()),
            AnswerFormat::Csv => answer.csv(),
            AnswerFormat::Json => answer.json(),
        }
    }

    /// The reason why a table has no file.
    async fn why_empty(&self, table: &PipelineTable) -> String {
        let PipelineTable { pipeline, table } = table;
        let last = self.state.last(pipeline).await.ok().flatten();
        let read = last.and_then(|record| Some(record.checkpoint?.totals.rows_in));
        match read {
            None => format!(
                "`{}` has no file yet: `{pipeline}` has not committed since it first started",
                table.name
            ),
            Some(0) => format!(
                "`{}` has no file yet: `{pipeline}` has read no row",
                table.name
            ),
            Some(rows) => format!(
                "`{}` has no file yet, though `{pipeline}` has read {} rows. A row shows at the \
                 first commit after `files.max_open` of its sink; the row of a window only \
                 exists once the watermark has passed the window's end (`tagflow status`)",
                table.name,
                human::count(rows)
            ),
        }
    }

    /// Answers statements from a prompt, until the user leaves it.
    async fn converse(&self) -> anyhow::Result<Exit> {
        let names = self.tables().await?.names();
        prompt::greet();
        let mut prompt = prompt::Prompt::open(names)?;
        loop {
            let asked = tokio::task::block_in_place(|| prompt.ask())?;
            let sql = match asked {
                Asked::Nothing => continue,
                Asked::End => return Ok(Exit::Success),
                Asked::Sql(sql) => sql,
            };
            let answered = async {
                for statement in statements(&sql)? {
                    self.answer(&statement).await?;
                }
                anyhow::Ok(())
            };
            tokio::select! {
                answered = answered => {
                    if let Err(error) = answered {
                        exit::report(&error, Rerun::Harmless);
                    }
                }
                _ = tokio::signal::ctrl_c() => eprintln!("cancelled"),
            }
        }
    }
}
