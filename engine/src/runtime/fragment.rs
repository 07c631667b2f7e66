//! Divides a graph into fragments: fused nodes, with channels between them.

use crate::{
    Error, Result,
    element::EdgeId,
    graph::{Graph, NodeId, NodeKind, Partitioning, validate},
};

/// Nodes that run fused in one chain on each lane, or one sink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fragment {
    /// The nodes, with every edge between them pointing forward.
    pub(super) nodes: Vec<NodeId>,
    /// The number of lanes that run it.
    pub(super) lanes: usize,
    /// The edges that enter by channels.
    pub(super) inputs: Vec<EdgeId>,
    /// The edges that leave by channels.
    pub(super) outputs: Vec<EdgeId>,
}

/// Divides `graph` for `lanes` lanes. Channels point forward in the order of the fragments. A sink
/// is a fragment of its own.
pub(super) fn cut(graph: &Graph, lanes: usize) -> Result<Vec<Fragment>> {
    let order = validate(graph)?;
    let mut of_node: Vec<usize> = graph.ids().map(|id| id.0).collect();
    for edge in graph
        .edges
        .iter()
        .filter(|edge| can_fuse(graph, edge.to, &edge.partitioning))
    {
        let (from, to) = (of_node[edge.from.0], of_node[edge.to.0]);
        let fused: Vec<usize> = of_node
            .iter()
            .map(|fragment| if *fragment == to { from } else { *fragment })
            .collect();
        if !has_circle(graph, &fused) {
            of_node = fused;
        }
    }

    let mut fragments: Vec<(usize, Fragment)> = Vec::new();
    for id in order {
        let label = of_node[id.0];
        match fragments.iter_mut().find(|(other, _)| *other == label) {
            Some((_, fragment)) => fragment.nodes.push(id),
            None => fragments.push((
                label,
                Fragment {
                    nodes: vec![id],
                    lanes,
                    inputs: Vec::new(),
                    outputs: Vec::new(),
                },
            )),
        }
    }
    for (index, edge) in graph.edges.iter().enumerate() {
        let (from, to) = (of_node[edge.from.0], of_node[edge.to.0]);
        if from == to {
            continue;
        }
        for (label, fragment) in &mut fragments {
            if *label == from {
                fragment.outputs.push(EdgeId(index));
            } else if *label == to {
                fragment.inputs.push(EdgeId(index));
                if edge.partitioning == Partitioning::Gather {
                    fragment.lanes = 1;
                }
            }
        }
    }
    sort(
        graph,
        fragments
            .into_iter()
            .map(|(_, fragment)| fragment)
            .collect(),
    )
}

/// Orders fragments so that channels point forward.
fn sort(graph: &Graph, mut rest: Vec<Fragment>) -> Result<Vec<Fragment>> {
    let mut sorted: Vec<Fragment> = Vec::with_capacity(rest.len());
    while !rest.is_empty() {
        let fed = |fragment: &Fragment| {
            fragment.inputs.iter().all(|edge| {
                let from = graph.edges[edge.0].from;
                sorted.iter().any(|before| before.nodes.contains(&from))
            })
        };
        let Some(next) = rest.iter().position(fed) else {
            return Err(Error::internal("the fragments feed each other in a circle"));
        };
        let mut fragment = rest.remove(next);
        fragment.lanes = match fragment.lanes {
            1 => 1,
            lanes => forwarded_lanes(graph, &fragment, &sorted).unwrap_or(lanes),
        };
        sorted.push(fragment);
    }
    Ok(sorted)
}

/// The number of lanes of a sink with a `Forward` input: as many as its upstream has.
fn forwarded_lanes(graph: &Graph, fragment: &Fragment, before: &[Fragment]) -> Option<usize> {
    let forwarded = fragment
        .inputs
        .iter()
        .filter(|edge| graph.edges[edge.0].partitioning == Partitioning::Forward);
    let lanes = forwarded.filter_map(|edge| {
        before
            .iter()
            .find(|before| before.outputs.contains(edge))
            .map(|before| before.lanes)
    });
    lanes.max()
}

/// Whether fragments would form a cycle: rows that part and meet again, some after an
/// exchange.
fn has_circle(graph: &Graph, of_node: &[usize]) -> bool {
    let mut rest: Vec<(usize, usize)> = Vec::new();
    for edge in &graph.edges {
        let (from, to) = (of_node[edge.from.0], of_node[edge.to.0]);
        let is_call = from == to && can_fuse(graph, edge.to, &edge.partitioning);
        if !is_call {
            rest.push((from, to));
        }
    }
    // Without a cycle there is always a fragment that no remaining fragment feeds.
    while !rest.is_empty() {
        let edges = rest.len();
        let fed: Vec<usize> = rest.iter().map(|(_, to)| *to).collect();
        rest.retain(|(from, _)| fed.contains(from));
        if rest.len() == edges {
            return true;
        }
    }
    false
}

/// Whether an edge can be a function call. It must be `Forward`, and not enter a sink: writes are
/// async, and lanes should not encode.
fn can_fuse(graph: &Graph, to: NodeId, partitioning: &Partitioning) -> bool {
    *partitioning == Partitioning::Forward && !matches!(graph.node(to).kind, NodeKind::Sink(_))
}
