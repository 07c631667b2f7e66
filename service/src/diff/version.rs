//! A pipeline at one time: from its file, or from its last run.

use std::collections::{BTreeMap, BTreeSet};

use tagflow_engine::{
    Result,
    graph::{Graph, NodeId, NodeKind},
    runtime::fingerprints,
};

use crate::state_folder::StateFolder;
use tagflow_pipelines::{
    Pipeline,
    plan::{StoredPlan, StoredTable},
};

/// The parts of a pipeline that a change can affect.
pub struct Version {
    pub(super) plan: StoredPlan,
    /// The fingerprint of each node's state.
    pub(super) fingerprints: BTreeMap<String, String>,
    /// The sources, which have positions.
    pub(super) sources: BTreeSet<String>,
    /// The stateful nodes that rows of each source reach; empty if only the last run is known.
    pub(super) below: BTreeMap<String, BTreeSet<String>>,
    /// The sources that feed each sink that replaces rows of its table; empty if only the last run
    /// is known.
    pub(super) feeding: BTreeMap<String, BTreeSet<String>>,
    /// The stateful nodes; `None` if any node may have state.
    state: Option<BTreeSet<String>>,
}

impl Version {
    /// The version of a file.
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
            below: below(&lowered.graph),
            feeding: feeding(&lowered.graph),
            state: None,
        })
    }

    /// The version of the last run, with its state in `folder`; `None` if it never committed.
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
            below: BTreeMap::new(),
            feeding: BTreeMap::new(),
            state: Some(state.collect()),
        }))
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.plan.pipeline["name"].as_str().unwrap_or_default()
    }

    /// Whether it reads `source`.
    pub fn reads(&self, source: &str) -> bool {
        self.sources.contains(source)
    }

    pub(super) fn table(&self, name: &str) -> Option<&StoredTable> {
        self.plan.tables.iter().find(|table| table.name == name)
    }

    /// The nodes with the state of a query, step or block of metrics. Their names begin with its
    /// name. Partial aggregates before an exchange are no state yet.
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
        // Only these blocks of the file; tables are finished at a stop.
        let blocks =
            ["steps", "queries", "metrics"].map(|block| self.plan.pipeline[block].as_object());
        let mut relations = blocks.into_iter().flatten().flat_map(|block| block.keys());
        relations.any(|relation| self.nodes_of(relation).any(|found| found == node))
    }
}

/// The sources that feed each sink that replaces rows of its table.
fn feeding(graph: &Graph) -> BTreeMap<String, BTreeSet<String>> {
    let mut feeding: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for source in sources(graph) {
        for id in downstream(graph, source) {
            if let NodeKind::Sink(sink) = &graph.node(id).kind
                && sink.replaces()
            {
                let sources = feeding.entry(graph.node(id).name.to_string()).or_default();
                sources.insert(graph.node(source).name.to_string());
            }
        }
    }
    feeding
}

fn sources(graph: &Graph) -> impl Iterator<Item = NodeId> {
    let is_source = |id: &NodeId| matches!(graph.node(*id).kind, NodeKind::Source(_));
    graph.ids().filter(is_source)
}

/// The nodes that rows of a source reach.
fn downstream(graph: &Graph, source: NodeId) -> BTreeSet<NodeId> {
    let (mut found, mut next) = (BTreeSet::new(), vec![source]);
    while let Some(id) = next.pop() {
        let to = graph.outputs(id).map(|edge| edge.to);
        next.extend(to.filter(|to| found.insert(*to)));
    }
    found
}

/// The stateful nodes that rows of each source reach.
fn below(graph: &Graph) -> BTreeMap<String, BTreeSet<String>> {
    let stateful = fingerprints(graph);
    let reached = |source: NodeId| {
        let found = downstream(graph, source);
        let names = found.into_iter().map(|id| graph.node(id).name.to_string());
        let names = names.filter(|name| stateful.contains_key(name)).collect();
        (graph.node(source).name.to_string(), names)
    };
    sources(graph).map(reached).collect()
}

/// The node that has the state of all tags.
pub(super) const TAGS: &str = "tags";
