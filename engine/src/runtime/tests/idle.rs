//! Lanes without partitions, and lanes of idle sources.

use std::sync::Arc;

use super::{Graph, NodeKind, Rig};
use crate::{
    Element, EventTime, Watermark,
    graph::{NodeId, SourceNode},
    runtime::{
        chain::{Chain, Frontier},
        fragment,
        message::Assignment,
        source_stage::SourceStage,
    },
    source::PartitionId,
};

/// The stage of one of four lanes of a source, with its chain.
fn lane(graph: &Graph) -> (SourceStage, Chain) {
    let fragments = fragment::cut(graph, 4).unwrap();
    let node = NodeId(0);
    let fragment = fragments.iter().find(|it| it.nodes.contains(&node));
    let NodeKind::Source(source) = &graph.node(node).kind else {
        panic!("the first node is the source");
    };
    let source: &SourceNode = source;
    let frontier = Arc::new(Frontier::new());
    let fragment = fragment.unwrap();
    let chain = Chain::new(
        graph,
        fragment,
        |_| Arc::default(),
        |_| None,
        |_| 0,
        frontier,
    );
    let stage = SourceStage::new(node, &graph.node(node).name, source).unwrap();
    (stage, chain)
}

fn watermarks(chain: &mut Chain) -> Vec<Watermark> {
    let watermark = |element| match element {
        Element::Watermark(_, watermark) => Some(watermark),
        _ => None,
    };
    let mut found: Vec<_> = chain.exits().into_iter().filter_map(watermark).collect();
    found.dedup();
    found
}

fn partition() -> Assignment {
    Assignment {
        id: Arc::new(PartitionId::new("events", "p0")),
        watermark: EventTime::from_micros(300),
        gauge: Arc::default(),
    }
}

/// An idle lane holds back the others of its source while these are active. A lane without
/// partitions never becomes active, so its hold would never end.
#[test]
fn regression_a_lane_without_partitions_is_absent_while_its_source_is_idle() {
    let graph = Rig::new().graph();
    let (mut stage, mut chain) = lane(&graph);
    stage.assign(Vec::new(), &mut chain).unwrap();
    assert_eq!(watermarks(&mut chain), [Watermark::Absent]);
    stage.set_asleep(true, &mut chain).unwrap();
    assert_eq!(watermarks(&mut chain), []);

    let (mut stage, mut chain) = lane(&graph);
    stage.assign(vec![partition()], &mut chain).unwrap();
    watermarks(&mut chain);
    stage.set_asleep(true, &mut chain).unwrap();
    assert_eq!(watermarks(&mut chain), [Watermark::Idle]);
    stage.finish("p0", &mut chain).unwrap();
    assert_eq!(watermarks(&mut chain), [Watermark::Absent]);
}
