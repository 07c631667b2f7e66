//! Random pipelines of the simulation's sources, operators and sinks.

use std::{sync::Arc, time::Duration};

use arrow::record_batch::RecordBatch;
use object_store::ObjectStore;
use rand::{Rng, rngs::SmallRng};

use super::{
    broker::SimSource,
    hold::{Hold, Sieve},
    lie::Lie,
    table::{Files, SimTable, Upload},
    tally::{Previews, Tally, lines},
};
use crate::{
    EventTime, Port, Result,
    graph::{
        Graph, NodeId, NodeKind, OnError, OperatorNode, Partitioning, SourceNode, TimePolicy,
        WhenIdle, WithOffsets,
    },
    operator::{Operator, OperatorFactory},
    source::{Chunk, DeadLetters, Rejected},
    testing::ScriptDecoder,
};

/// The disorder of rows in microseconds, unless they are late.
pub(super) const DELAY: i64 = 40;

/// The names of the sources that a pipeline may have.
pub(super) const SOURCES: [&str; 2] = ["clicks", "orders"];

/// A pipeline. All rows of each source are written to `raw`, and the bad ones to `dead`. The others
/// pass an optional sieve and an optional hold to a tally by key. Its results are written to
/// `counts`, and its late rows to `late`.
#[derive(Debug, Clone)]
pub(super) struct Pipeline {
    pub(super) sources: usize,
    pub(super) sieve: bool,
    pub(super) hold: bool,
    pub(super) previews: Previews,
    pub(super) raw: Files,
    pub(super) raw_edge: Partitioning,
    pub(super) counts: Files,
    pub(super) upload: Upload,
    pub(super) idle_after: Duration,
    pub(super) max_drift: Option<Duration>,
}

impl Pipeline {
    /// Draws a random pipeline.
    pub(super) fn draw(random: &mut SmallRng) -> Self {
        let rolling = |random: &mut SmallRng| match random.random_range(0..2) {
            0 => Files::EachCut,
            _ => Files::Rolling(random.random_range(1..60)),
        };
        let replacing = random.random_bool(0.4);
        Self {
            sources: random.random_range(1..=2),
            sieve: random.random_bool(0.3),
            hold: random.random_bool(0.4),
            previews: if replacing && random.random_bool(0.7) {
                Previews::Shown
            } else {
                Previews::None
            },
            raw: rolling(random),
            raw_edge: if random.random_bool(0.5) {
                Partitioning::Forward
            } else {
                Partitioning::Gather
            },
            counts: if replacing {
                Files::Replacing
            } else {
                rolling(random)
            },
            upload: if random.random_bool(0.3) {
                Upload::InParts
            } else {
                Upload::Whole
            },
            idle_after: if random.random_bool(0.2) {
                Duration::from_millis(300)
            } else {
                Duration::from_hours(1000)
            },
            max_drift: random
                .random_bool(0.2)
                .then(|| Duration::from_micros(random.random_range(50..500))),
        }
    }

    /// The graph for a process.
    pub(super) fn graph(
        &self,
        sources: Vec<SimSource>,
        store: &Arc<dyn ObjectStore>,
        lie: Option<Lie>,
    ) -> Graph {
        let mut graph = Graph::default();
        let previews = self.previews;
        let table = |name: &str, files: Files| -> NodeKind {
            let upload = match name {
                "raw" => self.upload,
                _ => Upload::Whole,
            };
            NodeKind::Sink(Arc::new(SimTable::new(
                name,
                Arc::clone(store),
                files,
                upload,
                lie,
            )))
        };
        let sources: Vec<NodeId> = sources
            .into_iter()
            .map(|source| graph.add(source.name, "", NodeKind::Source(self.source(source))))
            .collect();
        let raw = graph.add("raw", "", table("raw", self.raw));
        let dead = graph.add("dead", "", table("dead", Files::EachCut));
        let tally = graph.add(
            "tally",
            "",
            operator(Arc::new(move |_| Ok(Box::new(Tally::new(previews))))),
        );
        for source in sources {
            let name = Arc::clone(&graph.node(source).name);
            let out = |port| (source, port);
            graph.connect(out(Port::MAIN), (raw, Port::MAIN), self.raw_edge.clone());
            graph.connect(out(Port::SIDE), (dead, Port::MAIN), Partitioning::Gather);
            let mut last = source;
            if self.sieve {
                let sieve = graph.add(
                    format!("{name}.sieve"),
                    "",
                    operator(Arc::new(|_| Ok(Box::new(Sieve) as Box<dyn Operator>))),
                );
                let fused = Partitioning::Forward;
                graph.connect((last, Port::MAIN), (sieve, Port::MAIN), fused);
                last = sieve;
            }
            if self.hold {
                let hold = graph.add(
                    format!("{name}.hold"),
                    "",
                    operator(Arc::new(|_| Ok(Box::new(Hold::new()) as Box<dyn Operator>))),
                );
                let by_key = Partitioning::Hash(vec![1]);
                graph.connect((last, Port::MAIN), (hold, Port::MAIN), by_key);
                last = hold;
            }
            let by_key = Partitioning::Hash(vec![1]);
            graph.connect((last, Port::MAIN), (tally, Port::MAIN), by_key);
        }
        for (port, name, files) in [
            (Port::MAIN, "counts", self.counts),
            (Port::SIDE, "late", Files::EachCut),
        ] {
            let sink = graph.add(name, "", table(name, files));
            graph.connect((tally, port), (sink, Port::MAIN), Partitioning::Gather);
        }
        graph
    }

    fn source(&self, source: SimSource) -> SourceNode {
        SourceNode {
            source: Arc::new(source),
            decoder: Arc::new(|| Ok(Box::new(ScriptDecoder))),
            dead_letters: Arc::new(|| Ok(Box::new(Letters))),
            time: TimePolicy {
                column: 0,
                delay: Duration::from_micros(DELAY as u64),
                idle_after: self.idle_after,
                when_idle: WhenIdle::Hold,
                max_future: Duration::MAX,
                earliest: EventTime::MIN,
                max_drift: self.max_drift,
                granularity: Duration::from_micros(super::tally::WINDOW as u64),
                on_error: OnError::DeadLetter,
                offsets: WithOffsets::No,
            },
        }
    }
}

fn operator(factory: OperatorFactory) -> NodeKind {
    NodeKind::Operator(OperatorNode {
        factory,
        fingerprint: Some(String::new()),
    })
}

/// Dead letters as lines `source partition offset`.
struct Letters;

impl DeadLetters for Letters {
    fn batch(&mut self, source: &str, chunk: &Chunk, rejected: &[Rejected]) -> Result<RecordBatch> {
        let place = |letter: &Rejected| {
            let offset = chunk.rows.offset(letter.row as usize);
            format!("{source} {} {offset}", chunk.partition)
        };
        lines(rejected.iter().map(place).collect())
    }
}
