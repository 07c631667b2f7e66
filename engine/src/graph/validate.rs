//! The checks of a graph before it runs.

use std::collections::BTreeSet;

use super::{Graph, NodeId, NodeKind, Partitioning};
use crate::{Error, Result};

/// Checks that names are unique, edges fit their ends, nothing dangles and
/// there is no cycle; returns the nodes in an order in which every edge points
/// forward.
///
/// # Errors
/// `Internal`: a lowering that makes a bad graph is a defect.
pub fn validate(graph: &Graph) -> Result<Vec<NodeId>> {
    let mut names = BTreeSet::new();
    for node in &graph.nodes {
        if !names.insert(&node.name) {
            return Err(Error::internal(format!(
                "two nodes are named `{}`",
                node.name
            )));
        }
    }
    for id in graph.ids() {
        let node = graph.node(id);
        let (inputs, outputs) = (graph.inputs(id).count(), graph.outputs(id).count());
        let fault = match node.kind {
            NodeKind::Source(_) if inputs > 0 => "is a source with an input",
            NodeKind::Operator(_) if inputs == 0 => "is an operator without an input",
            NodeKind::Sink(_) if inputs == 0 => "is a sink without an input",
            NodeKind::Sink(_) if outputs > 0 => "is a sink with an output",
            _ => continue,
        };
        return Err(Error::internal(format!("`{}` {fault}", node.name)));
    }
    for id in graph.ids() {
        let gathered = graph
            .inputs(id)
            .filter(|edge| edge.partitioning == Partitioning::Gather)
            .count();
        if gathered > 0 && gathered < graph.inputs(id).count() {
            let name = &graph.node(id).name;
            return Err(Error::internal(format!(
                "`{name}` runs on one lane, but not all of its inputs are gathered"
            )));
        }
    }
    topological(graph)
}

fn topological(graph: &Graph) -> Result<Vec<NodeId>> {
    let mut waiting: Vec<usize> = graph.ids().map(|id| graph.inputs(id).count()).collect();
    let mut ready: Vec<NodeId> = graph.ids().filter(|id| waiting[id.0] == 0).collect();
    let mut order = Vec::with_capacity(graph.nodes.len());
    while let Some(id) = ready.pop() {
        order.push(id);
        for edge in graph.outputs(id) {
            waiting[edge.to.0] -= 1;
            if waiting[edge.to.0] == 0 {
                ready.push(edge.to);
            }
        }
    }
    if order.len() < graph.nodes.len() {
        return Err(Error::internal("the graph has a cycle"));
    }
    Ok(order)
}
