//! `tagflow schema`.

use tagflow_pipelines::json_schema::json_schema;

use crate::{exit::Exit, output};

pub(crate) fn execute() -> anyhow::Result<Exit> {
    output::print(&json_schema())?;
    Ok(Exit::Success)
}
