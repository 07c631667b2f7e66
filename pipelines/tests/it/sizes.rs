//! The state size that a plan estimates is the memory that the state uses.

use std::{collections::BTreeMap, fmt::Write, sync::Arc};

use arrow::{
    array::{Int64Array, RecordBatch},
    datatypes::{DataType, Field, Schema},
};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use tagflow_engine::{
    Batch, EventTime, Port,
    graph::{Graph, NodeId, NodeKind, OFFSET_COLUMN, SourceNode, WithOffsets, validate},
    operator::{LaneContext, Operator, Output, emit_all},
    source::{EncodedRows, PartitionId, Rows},
};
use tagflow_pipelines::{
    LoadOptions, load_str,
    lower::{self, Load, LowerOptions},
};

const MINUTE_US: i64 = 60_000_000;

#[test]
fn a_day_by_the_minute() {
    let query = "queries: {q: \"SELECT hop(ts, INTERVAL '1 minute', INTERVAL '24 hours') AS w, k, \
                 count(*) AS n, sum(n) AS s FROM a GROUP BY 1, 2\"}";
    check(query, "q", 24 * 60 + 10, 300, 1_000);
}

#[test]
fn seven_days_of_a_join() {
    let query = "queries: {q: \"SELECT a.k, b.n, b.ts FROM a JOIN b ON a.k = b.k AND b.ts \
                 BETWEEN a.ts AND a.ts + INTERVAL '7 days'\"}";
    check(query, "q", 8 * 24 * 60, 10, 1_000_000);
}

#[test]
fn a_day_of_ids() {
    let query = "steps: {d: {from: a, dedupe: {key: [k], within: 24h}}}\n\
                 queries: {q: SELECT k FROM d}";
    check(query, "d.dedupe", 36 * 60, 200, 10_000_000);
}

#[test]
fn totals_of_keys() {
    let query = "queries: {q: {sql: \"SELECT k, count(*) AS n FROM a GROUP BY 1\", ttl: 7d}}";
    check(query, "q", 120, 500, 20_000);
}

#[test]
fn sessions_that_may_be_corrected() {
    let query = "queries: {q: {allowed_lateness: 6h, sql: \"SELECT session(ts, INTERVAL '10 \
                 minutes') AS w, k, count(*) AS n, sum(n) AS s FROM a GROUP BY 1, 2\"}}";
    check(query, "q", 10 * 60, 200, 10_000);
}

/// At the sizes of real deployments: these tests take minutes and gigabytes, in a release
/// build.
mod large {
    use super::check;

    #[test]
    #[ignore = "takes minutes and a gigabyte"]
    fn a_day_by_the_minute_of_100_000_keys() {
        let query = "queries: {q: \"SELECT hop(ts, INTERVAL '1 minute', INTERVAL '24 hours') AS \
                     w, k, count(*) AS n, sum(n) AS s FROM a GROUP BY 1, 2\"}";
        check(query, "q", 24 * 60 + 10, 3_000, 100_000);
    }

    #[test]
    #[ignore = "takes minutes and a gigabyte"]
    fn seven_days_of_a_join_of_millions() {
        let query = "queries: {q: \"SELECT a.k, b.n, b.ts FROM a JOIN b ON a.k = b.k AND b.ts \
                     BETWEEN a.ts AND a.ts + INTERVAL '7 days'\"}";
        check(query, "q", 8 * 24 * 60, 1_000, 100_000_000);
    }

    #[test]
    #[ignore = "takes minutes and two gigabytes"]
    fn a_day_of_50_million_ids() {
        let query = "steps: {d: {from: a, dedupe: {key: [k], within: 24h}}}\n\
                     queries: {q: SELECT k FROM d}";
        check(query, "d.dedupe", 36 * 60, 34_722, 1_000_000_000_000);
    }
}

/// Runs `query` for this many minutes, each with `rows` rows of `keys` keys from each of
/// two sources. Compares the memory of its node with the plan's estimate.
#[track_caller]
fn check(query: &str, node: &str, minutes: i64, rows: u64, keys: u64) {
    let file = format!(
        "name: sized
sources:
  a: &source
    files: {{url: /nowhere/*.ndjson}}
    format: {{json: {{}}}}
    columns: {{k: int64, n: int64, ts: timestamp(ms)}}
    time: {{event_time: ts, delay: 0s}}
  b: *source
{query}
sinks:
  out: {{from: q, console: {{}}}}
"
    );
    let spec = load_str("p.yaml", &file, &LoadOptions::default()).unwrap();
    let lowered = lower::lower(&spec, &LowerOptions::default()).unwrap();
    let mut lane = Lane::new(&lowered.graph);
    for minute in 0..minutes {
        lane.minute(minute, rows, keys);
    }
    let took = lane.state_bytes(node) as f64;

    let said = lowered.sizes[node](&Load {
        keys: keys as f64,
        rate: rows as f64 / 60.0,
        delay_s: 0.0,
        text_bytes: 16.0,
    });
    let ratio = said.bytes / took;
    let resident = resident_mib();
    println!("{node}: said {said:?}, took {took}: {ratio:.2}; the process {resident} MiB");
    assert!(
        (0.7..=1.3).contains(&ratio),
        "{node}: {said:?}, took {took}"
    );
}

/// The anonymous memory of the process.
fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("RssAnon:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    kib.unwrap_or_default() >> 10
}

/// A graph on one lane, run minute by minute.
struct Lane<'a> {
    graph: &'a Graph,
    order: Vec<NodeId>,
    operators: BTreeMap<usize, Box<dyn Operator>>,
}

impl<'a> Lane<'a> {
    fn new(graph: &'a Graph) -> Self {
        let operator = |id: NodeId| {
            let NodeKind::Operator(operator) = &graph.node(id).kind else {
                return None;
            };
            let context = LaneContext {
                node: Arc::clone(&graph.node(id).name),
                lane: 0,
                lanes: 1,
                memory_bytes: None,
            };
            Some((id.0, (operator.factory)(&context).unwrap()))
        };
        Self {
            graph,
            order: validate(graph).unwrap(),
            operators: graph.ids().filter_map(operator).collect(),
        }
    }

    fn minute(&mut self, minute: i64, rows: u64, keys: u64) {
        let mut waiting: BTreeMap<usize, Vec<(Port, Batch)>> = BTreeMap::new();
        for id in &self.order {
            let node = self.graph.node(*id);
            let batches = waiting.remove(&id.0).unwrap_or_default();
            let mut out = Output::default();
            match &node.kind {
                NodeKind::Source(source) => {
                    let partition = Arc::new(PartitionId::new(&*node.name, "0"));
                    let records = records(source, minute, rows, keys);
                    out.emit(Batch::of_partition(records, partition));
                }
                NodeKind::Operator(_) => {
                    let operator = self.operators.get_mut(&id.0).unwrap();
                    for (port, batch) in batches {
                        operator.on_batch(port, batch, &mut out).unwrap();
                    }
                    let watermark = EventTime::from_micros((minute + 1) * MINUTE_US);
                    operator.on_watermark(watermark, &mut out).unwrap();
                    emit_all(operator.as_mut(), &mut out).unwrap();
                    // Occasionally, like a commit.
                    if minute % 10 == 9 {
                        operator.flush(&mut out).unwrap();
                        emit_all(operator.as_mut(), &mut out).unwrap();
                        operator.snapshot().unwrap();
                    }
                }
                NodeKind::Sink(_) => {}
            }
            for (port, batch) in out.take() {
                for edge in self.graph.outputs(*id).filter(|edge| edge.output == port) {
                    let queue = waiting.entry(edge.to.0).or_default();
                    queue.push((edge.input, batch.clone()));
                }
            }
        }
    }

    fn state_bytes(&self, node: &str) -> usize {
        let mut ids = self.graph.ids();
        let id = ids.find(|id| *self.graph.node(*id).name == *node).unwrap();
        self.operators[&id.0].state_bytes()
    }
}

/// The rows of a minute, as the source decodes them.
fn records(source: &SourceNode, minute: i64, rows: u64, keys: u64) -> RecordBatch {
    let first = minute as u64 * rows;
    let mut encoded = EncodedRows::default();
    let mut text = String::new();
    let mut random = SmallRng::seed_from_u64(first);
    for row in first..first + rows {
        let key = random.random_range(0..keys);
        let time = minute * 60_000 + (row - first) as i64 * 60_000 / rows as i64;
        let start = text.len() as u32;
        write!(text, "{{\"k\":{key},\"n\":{row},\"ts\":{time}}}").unwrap();
        encoded.spans.push((start, text.len() as u32));
        encoded.offsets.push(row as i64);
    }
    encoded.data = text.into();
    let offsets = Int64Array::from(encoded.offsets.clone());
    let mut decoder = (source.decoder)().unwrap();
    let records = decoder.decode(&Rows::Encoded(encoded)).unwrap().records;
    if source.time.offsets == WithOffsets::No {
        return records;
    }
    let mut columns = records.columns().to_vec();
    columns.push(Arc::new(offsets));
    let mut fields = records.schema().fields().to_vec();
    fields.push(Arc::new(Field::new(OFFSET_COLUMN, DataType::Int64, false)));
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}
