//! Explains a pipeline to people: as text, or as a Graphviz graph.

use std::fmt::Write;

use tagflow_engine::{
    Port,
    graph::{Edge, Graph, NodeId, NodeKind, Partitioning},
};

use crate::lower::Lowered;

/// The logical steps of each relation, then the nodes with their lanes, the edges, and the
/// dependencies of their state.
pub fn text(pipeline: &str, lowered: &Lowered, lanes: usize) -> String {
    let mut text = String::new();
    let end = if lowered.bounded {
        "ends"
    } else {
        "never ends"
    };
    let _ = writeln!(
        text,
        "{pipeline}: on {}; its input {end}",
        count(lanes, "lane")
    );
    relations(lowered, &mut text);
    nodes(&lowered.graph, lanes, &mut text);
    edges(&lowered.graph, &mut text);
    tables(lowered, &mut text);
    text
}

/// The SQL of each block of metrics, which could replace it under `queries`.
pub fn lowered(lowered: &Lowered) -> String {
    let mut text = String::new();
    for (name, sql) in &lowered.metrics {
        let _ = writeln!(text, "-- {name}\n{sql}\n");
    }
    text
}

/// The nodes and edges in Graphviz's language.
pub fn dot(pipeline: &str, lowered: &Lowered) -> String {
    let graph = &lowered.graph;
    let mut text = String::new();
    let _ = writeln!(text, "digraph {} {{", quoted(pipeline));
    let _ = writeln!(
        text,
        "  rankdir=LR; node [shape=box, fontname=\"sans-serif\"];"
    );
    for id in graph.ids() {
        let node = graph.node(id);
        let style = match &node.kind {
            NodeKind::Source(_) => "shape=cds",
            NodeKind::Operator(operator) if operator.fingerprint.is_some() => "shape=box3d",
            NodeKind::Operator(_) => "shape=box",
            NodeKind::Sink(_) => "shape=cylinder",
        };
        let label = format!("{}\n{}", node.name, node.label);
        let _ = writeln!(text, "  n{} [{style}, label={}];", id.0, quoted(&label));
    }
    for edge in &graph.edges {
        let style = match (&edge.partitioning, edge.output) {
            (_, Port::SIDE | Port::DEAD_LETTERS) => ", style=dashed",
            (Partitioning::Forward, _) => "",
            (Partitioning::Hash(_) | Partitioning::Gather | Partitioning::Broadcast, _) => {
                ", style=bold"
            }
        };
        let label = quoted(&how(graph, edge));
        let _ = writeln!(
            text,
            "  n{} -> n{} [label={label}{style}];",
            edge.from.0, edge.to.0
        );
    }
    text.push_str("}\n");
    text
}

fn relations(lowered: &Lowered, text: &mut String) {
    text.push_str("\nsteps and queries\n");
    for needs in &lowered.relations {
        let Some(stream) = &needs.stream else {
            continue;
        };
        let _ = writeln!(text, "  {}", needs.relation);
        for line in stream.to_string().lines() {
            let _ = writeln!(text, "    {line}");
        }
    }
}

fn nodes(graph: &Graph, lanes: usize, text: &mut String) {
    text.push_str("\nnodes\n");
    for id in graph.ids() {
        let node = graph.node(id);
        let (kind, state) = match &node.kind {
            NodeKind::Source(_) => ("source", None),
            NodeKind::Operator(operator) => ("operator", operator.fingerprint.as_ref()),
            NodeKind::Sink(_) => ("sink", None),
        };
        let lanes = if is_gathered(graph, id) { 1 } else { lanes };
        let _ = writeln!(text, "  {}  ({kind}, {})", node.name, count(lanes, "lane"));
        let _ = writeln!(text, "    {}", node.label);
        if let NodeKind::Source(source) = &node.kind {
            let time = &source.time;
            let delay = humantime::format_duration(time.delay);
            let grain = humantime::format_duration(time.granularity);
            let _ = writeln!(text, "    watermark: {delay} behind, in steps of {grain}");
        }
        if let Some(state) = state {
            let _ = writeln!(text, "    state: {state}");
        }
    }
}

fn edges(graph: &Graph, text: &mut String) {
    text.push_str("\nedges\n");
    for edge in &graph.edges {
        let output = match edge.output {
            Port::SIDE => " (aside)",
            Port::DEAD_LETTERS => " (dead letters)",
            _ => "",
        };
        let _ = writeln!(
            text,
            "  {}{output} -> {}: {}",
            graph.node(edge.from).name,
            graph.node(edge.to).name,
            how(graph, edge)
        );
    }
}

fn tables(lowered: &Lowered, text: &mut String) {
    text.push_str("\ntables\n");
    for table in &lowered.tables {
        let columns: Vec<String> = table
            .schema
            .fields()
            .iter()
            .map(|field| field.name().clone())
            .collect();
        let _ = writeln!(text, "  {}: {}", table.name, columns.join(", "));
    }
}

/// How rows pass an edge.
fn how(graph: &Graph, edge: &Edge) -> String {
    let into_sink = matches!(graph.node(edge.to).kind, NodeKind::Sink(_));
    match &edge.partitioning {
        Partitioning::Forward if into_sink => "a queue on the same lane".to_owned(),
        Partitioning::Forward => "the same lane".to_owned(),
        Partitioning::Hash(columns) => format!("by key ({})", count(columns.len(), "column")),
        Partitioning::Gather => "to lane 0".to_owned(),
        Partitioning::Broadcast => "to every lane".to_owned(),
    }
}

fn is_gathered(graph: &Graph, id: NodeId) -> bool {
    graph
        .inputs(id)
        .any(|edge| edge.partitioning == Partitioning::Gather)
}

fn count(number: usize, noun: &str) -> String {
    match number {
        1 => format!("1 {noun}"),
        _ => format!("{number} {noun}s"),
    }
}

/// A string in Graphviz's syntax.
fn quoted(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{}\"", escaped.replace('\n', "\\n"))
}
