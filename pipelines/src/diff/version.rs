//! A pipeline at one time: as a file says it, or as it last ran.

use std::collections::{BTreeMap, BTreeSet};

use tagflow_engine::{Result, runtime::fingerprints};

use super::tags::TAGS;
use crate::{
    Pipeline,
    inspect::StateFolder,
    plan::{StoredPlan, StoredTable},
};

/// A pipeline, as far as a change of it matters.
pub struct Version {
    pub(super) plan: StoredPlan,
    /// What determines the meaning of the state of each node.
    pub(super) fingerprints: BTreeMap<String, String>,
    /// What is read, and so has positions.
    pub(super) sources: BTreeSet<String>,
    /// The nodes that have state; any may, if that is not known.
    state: Option<BTreeSet<String>>,
}

impl Version {
    /// As a file says it.
    ///
    /// # Errors
    /// `Internal` where it cannot be written as a plan.
    pub fn of(pipeline: &Pipeline) -> Result<Self> {
        let Pipeline { spec, lowered } = pipeline;
        let sources = spec.sources.names().map(ToString::to_string);
        Ok(Self {
            plan: StoredPlan::of(pipeline)?,
            fingerprints: fingerprints(&lowered.graph),
            sources: sources.collect(),
            state: None,
        })
    }

    /// As it last ran, with its state in `folder`; none if it never committed.
    ///
    /// # Errors
    /// `Data` where its log is damaged; `External` where the store fails.
    pub async fn last(folder: &StateFolder, pipeline: &str) -> Result<Option<Self>> {
        let Some(record) = folder.last(pipeline).await? else {
            return Ok(None);
        };
        let plan = folder.plan(pipeline, &record.plan_hash).await?;
        let (Some(plan), Some(checkpoint)) = (plan, record.checkpoint) else {
            return Ok(None);
        };
        let state = checkpoint.state.into_iter().map(|part| part.node);
        let sources = checkpoint.positions.keys();
        Ok(Some(Self {
            plan,
            fingerprints: checkpoint.fingerprints,
            sources: sources.map(ToString::to_string).collect(),
            state: Some(state.collect()),
        }))
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.plan.pipeline["name"].as_str().unwrap_or_default()
    }

    pub(super) fn table(&self, name: &str) -> Option<&StoredTable> {
        self.plan.tables.iter().find(|table| table.name == name)
    }

    /// The nodes with the state of a query, step or block of metrics, whose names begin with its
    /// own; what is aggregated before an exchange is no state yet.
    pub(super) fn nodes_of(&self, relation: &str) -> impl Iterator<Item = &String> {
        let mut nodes: Vec<_> = self.fingerprints.keys().collect();
        nodes
            .retain(|node| node.split('.').next() == Some(relation) && !node.ends_with(".partial"));
        nodes.into_iter()
    }

    pub(super) fn holds_state(&self, node: &str) -> bool {
        if let Some(state) = &self.state {
            return state.contains(node);
        }
        if node == TAGS {
            return true;
        }
        // Of what a file says, these; tables are finished at a stop.
        let blocks =
            ["steps", "queries", "metrics"].map(|block| self.plan.pipeline[block].as_object());
        let mut relations = blocks.into_iter().flatten().flat_map(|block| block.keys());
        relations.any(|relation| self.nodes_of(relation).any(|found| found == node))
    }
}
