//! `tagflow tables`.

use tagflow_engine::Error;
use tagflow_pipelines::{LoadOptions, Pipeline};
use tagflow_service::describe;

use crate::{
    cli::{Tables, TablesCommand},
    exit::Exit,
    output,
};

pub(crate) fn execute(args: Tables) -> anyhow::Result<Exit> {
    let TablesCommand::Describe(args) = args.command;
    let table = args.table.as_deref();
    let text = match &args.file {
        None => describe::dictionary(table),
        Some(file) => {
            let options = LoadOptions {
                set: args.set,
                ..LoadOptions::default()
            };
            describe::of(&Pipeline::open(file, &options)?, table)
        }
    };
    output::print(&text.map_err(Error::config)?)?;
    Ok(Exit::Success)
}
