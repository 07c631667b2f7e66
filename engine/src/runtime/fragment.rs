//! Cutting a graph into fragments: what is fused, and where the channels are.

use crate::{
    Error, Result,
    element::EdgeId,
    graph::{Graph, NodeId, NodeKind, Partitioning, validate},
};

/// Nodes that run fused in one chain a lane, or one sink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fragment {
    /// The nodes, every edge between them pointing forward.
    pub(super) nodes: Vec<NodeId>,
    /// On how many lanes it runs.
    pub(super) lanes: usize,
    /// The edges that come in by channels.
    pub(super) inputs: Vec<EdgeId>,
    /// The edges that go out by channels.
    pub(super) outputs: Vec<EdgeId>,
}

/// Cuts `graph` for `lanes` lanes. Fragments come in an order in which channels
/// point forward; a sink is a fragment of its own.
pub(super) fn cut(graph: &Graph, lanes: usize) -> Result<Vec<Fragment>> {
    let order = validate(graph)?;
    let mut of_node: Vec<usize> = graph.ids().map(|id| id.0).collect();
    for edge in graph
        .edges
        .iter()
        .filter(|edge| is_fused(graph, edge.to, &edge.partitioning))
    {
        let (from, to) = (of_node[edge.from.0], of_node[edge.to.0]);
        of_node
            .iter_mut()
            .filter(|fragment| **fragment == to)
            .for_each(|fragment| *fragment = from);
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
        if is_fused(graph, edge.to, &edge.partitioning) {
            continue;
        }
        if from == to {
            let (from, to) = (&graph.node(edge.from).name, &graph.node(edge.to).name);
            return Err(Error::internal(format!(
                "`{from}` and `{to}` are joined by an exchange and by a fused path"
            )));
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

/// A sink that is fed lane by lane runs on as many lanes as feed it.
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

/// Whether an edge is a function call: `Forward`, and not into a sink, because
/// writing is async and encoding belongs off the lane.
fn is_fused(graph: &Graph, to: NodeId, partitioning: &Partitioning) -> bool {
    *partitioning == Partitioning::Forward && !matches!(graph.node(to).kind, NodeKind::Sink(_))
}
