//! Queries the tables that pipelines have written, and any other Parquet, with DataFusion.
//!
//! The plan beside the commit log maps a sink's name to its table. The content of a table is the
//! content of its folder, so an answer sees every published commit and nothing that is only staged.

mod answer;
mod grid;
mod hive;
mod quoted;
mod session;
mod statements;
#[cfg(test)]
mod tests;

use std::path::Path;

use tagflow_engine::Result;

use crate::state_folder::StateFolder;
use tagflow_pipelines::plan::{StoredPlan, StoredTable};

pub use answer::Answer;
pub use session::Tables;
pub use statements::{is_complete, statements};

/// A table of a pipeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PipelineTable {
    /// The pipeline.
    pub pipeline: String,
    /// The table.
    pub table: StoredTable,
}

/// The tables of all pipelines in a state folder, as of their last runs.
///
/// # Errors
/// `Data` where a log or a plan is damaged; `External` where the store fails.
pub async fn tables_of(state: &StateFolder, only: Option<&str>) -> Result<Vec<PipelineTable>> {
    let mut found = Vec::new();
    for pipeline in state.pipelines().await? {
        if only.is_some_and(|only| only != pipeline) {
            continue;
        }
        let Some(record) = state.last(&pipeline).await? else {
            continue;
        };
        let Some(StoredPlan { tables, .. }) = state.plan(&pipeline, &record.plan_hash).await?
        else {
            continue;
        };
        found.extend(tables.into_iter().map(|table| PipelineTable {
            pipeline: pipeline.clone(),
            table,
        }));
    }
    Ok(found)
}

/// Whether `text` in FROM is a location of files rather than a table's name.
fn is_place(text: &str) -> bool {
    text.contains('/')
        || Path::new(text)
            .extension()
            .is_some_and(|it| it == "parquet")
}
