//! Runs a lowered graph on one lane, all input at once.

use std::{collections::BTreeMap, sync::Arc};

use arrow::{
    array::{ArrayRef, Int64Array, RecordBatch},
    datatypes::{DataType, Field, Schema},
    util::pretty::pretty_format_batches,
};
use tagflow_engine::{
    Batch, Port,
    graph::{NodeKind, OFFSET_COLUMN, SourceNode, WithOffsets, validate},
    operator::{LaneContext, Output, emit_all},
    source::{EncodedRows, PartitionId, Rows},
};

use super::Lowered;

/// The rows of each sink for `input` (NDJSON by source), sorted, as a table; `-` for null.
pub(super) fn run(lowered: &Lowered, input: &[(&str, &str)]) -> BTreeMap<String, String> {
    let graph = &lowered.graph;
    let mut waiting: BTreeMap<usize, Vec<(Port, Batch)>> = BTreeMap::new();
    let mut results = BTreeMap::new();
    let mut order = validate(graph).unwrap();
    // The first input is read first, whatever order edges leave open.
    order.sort_by_key(|id| matches!(graph.node(*id).kind, NodeKind::Sink(_)));
    for id in order {
        let node = graph.node(id);
        let batches = waiting.remove(&id.0).unwrap_or_default();
        let emitted = match &node.kind {
            NodeKind::Source(source) => {
                let lines = input.iter().find(|(name, _)| *name == &*node.name);
                lines.map_or_else(Vec::new, |(name, lines)| {
                    vec![(Port::MAIN, decode(source, name, lines))]
                })
            }
            NodeKind::Operator(operator) => {
                let context = LaneContext {
                    node: Arc::clone(&node.name),
                    lane: 0,
                    lanes: 1,
                    memory_bytes: None,
                };
                let mut operator = (operator.factory)(&context).unwrap();
                let mut out = Output::default();
                for (port, batch) in batches {
                    operator.on_batch(port, batch, &mut out).unwrap();
                }
                operator.on_end(&mut out).unwrap();
                emit_all(operator.as_mut(), &mut out).unwrap();
                out.take()
            }
            NodeKind::Sink(_) => {
                let batches: Vec<RecordBatch> = batches
                    .into_iter()
                    .map(|(_, batch)| batch.records)
                    .collect();
                if !batches.is_empty() {
                    results.insert(node.name.to_string(), table(&batches));
                }
                continue;
            }
        };
        for (port, batch) in emitted {
            for edge in graph.outputs(id).filter(|edge| edge.output == port) {
                let queue = waiting.entry(edge.to.0).or_default();
                queue.push((edge.input, batch.clone()));
            }
        }
    }
    results
}

fn decode(source: &SourceNode, name: &str, lines: &str) -> Batch {
    let mut rows = EncodedRows {
        data: lines.to_owned().into(),
        ..EncodedRows::default()
    };
    let mut start = 0;
    for (offset, line) in lines.split_terminator('\n').enumerate() {
        let end = start + line.len() as u32;
        rows.spans.push((start, end));
        rows.offsets.push(offset as i64);
        start = end + 1;
    }
    let offsets: ArrayRef = Arc::new(Int64Array::from(rows.offsets.clone()));
    let decoded = (source.decoder)()
        .unwrap()
        .decode(&Rows::Encoded(rows))
        .unwrap();
    assert_eq!(decoded.rejected, Vec::new());
    let mut columns = decoded.records.columns().to_vec();
    let mut fields = decoded.records.schema().fields().to_vec();
    if source.time.offsets == WithOffsets::Yes {
        columns.push(offsets);
        fields.push(Arc::new(Field::new(OFFSET_COLUMN, DataType::Int64, false)));
    }
    let records = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
    Batch::of_partition(records, Arc::new(PartitionId::new(name, "0")))
}

/// A table with its rows sorted, as text.
fn table(batches: &[RecordBatch]) -> String {
    let text = pretty_format_batches(batches).unwrap().to_string();
    let mut lines: Vec<&str> = text.lines().filter(|line| line.starts_with('|')).collect();
    if let Some(rows) = lines.get_mut(1..) {
        rows.sort_unstable();
    }
    let cells = |line: &str| {
        let cells = line.trim_matches('|').split('|').map(str::trim);
        let shown = cells.map(|cell| if cell.is_empty() { "-" } else { cell });
        shown.collect::<Vec<_>>().join(" ")
    };
    lines.into_iter().map(cells).collect::<Vec<_>>().join("\n")
}
