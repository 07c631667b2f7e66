//! The graph of a job: sources, operators, sinks, and the edges between them.

mod validate;

use std::{sync::Arc, time::Duration};

use crate::{
    EventTime, Port, Result,
    operator::OperatorFactory,
    side_input::SideInput,
    sink::SinkFactory,
    source::{DeadLetters, Decoder, Source},
};

pub use validate::validate;

/// A node's place in [`Graph::nodes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub usize);

/// A dataflow graph without cycles.
#[derive(Default)]
pub struct Graph {
    /// The nodes.
    pub nodes: Vec<Node>,
    /// The edges, in no particular order.
    pub edges: Vec<Edge>,
    /// Tables that operators read in addition to the stream.
    pub side_inputs: Vec<Arc<dyn SideInput>>,
}

/// A node with its stable name: the id of its state and of its metrics.
pub struct Node {
    /// Unique in the graph: the name in the pipeline file, with a suffix where
    /// one name lowers to several nodes (`campaign_minute.partial`).
    pub name: Arc<str>,
    /// One line for `explain`, in the user's terms.
    pub label: String,
    /// Source, operator or sink.
    pub kind: NodeKind,
}

/// The kind of a node, with its implementation.
pub enum NodeKind {
    /// Reads, decodes, assigns watermarks. Rows leave through [`Port::MAIN`], dead
    /// letters through [`Port::SIDE`].
    Source(SourceNode),
    /// Transforms.
    Operator(OperatorNode),
    /// Writes. Its inputs may come from several nodes.
    Sink(Arc<dyn SinkFactory>),
}

/// A source, with its decoders and its settings of event time.
pub struct SourceNode {
    /// The reader of encoded rows.
    pub source: Arc<dyn Source>,
    /// Creates the decoders.
    pub decoder: DecoderFactory,
    /// Creates the writer of dead letters of one lane.
    pub dead_letters: Arc<dyn Fn() -> Result<Box<dyn DeadLetters>> + Send + Sync>,
    /// How event time is read and checked.
    pub time: TimePolicy,
}

/// Creates a decoder, which one task uses at a time.
pub type DecoderFactory = Arc<dyn Fn() -> Result<Box<dyn Decoder>> + Send + Sync>;

/// How the event time of a source is read and checked.
#[derive(Debug, Clone)]
pub struct TimePolicy {
    /// The column of the decoded batch with the event time, a non-null
    /// `Timestamp(Microsecond, "UTC")`.
    pub column: usize,
    /// How far out of order events may be: the watermark trails the highest event time by this.
    pub delay: Duration,
    /// A partition is idle after this time at its end.
    pub idle_after: Duration,
    /// How the watermark of an idle partition behaves.
    pub when_idle: WhenIdle,
    /// Rows further ahead of their reference time are dead letters (rule 3).
    pub max_future: Duration,
    /// Rows before this are dead letters.
    pub earliest: EventTime,
    /// A partition that is this far ahead of the slowest one is paused.
    pub max_drift: Option<Duration>,
    /// Windows open and close only at multiples of this since 1970, so the
    /// watermark may be rounded to them.
    pub granularity: Duration,
    /// How to handle a row that cannot be read.
    pub on_error: OnError,
    /// Whether to append the column [`OFFSET_COLUMN`].
    pub offsets: WithOffsets,
}

/// How the watermark of an idle partition behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenIdle {
    /// It stays, and delays no other partition.
    Hold,
    /// It follows the clock, [`TimePolicy::delay`] behind: windows close and tags
    /// expire without new rows. A row that arrives afterwards with an earlier event
    /// time may be late.
    Clock,
}

/// The hidden column with a row's offset in its partition (`Int64`).
pub const OFFSET_COLUMN: &str = "_offset";

/// Whether decoded batches carry [`OFFSET_COLUMN`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WithOffsets {
    /// As the last column.
    Yes,
    /// No downstream node needs offsets.
    No,
}

/// How to handle a row that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnError {
    /// Write it to the dead letters and continue.
    DeadLetter,
    /// Stop the job.
    Fail,
}

/// An operator, with the fingerprint of its state.
pub struct OperatorNode {
    /// Creates the operator of one lane.
    pub factory: OperatorFactory,
    /// A hash of everything that determines the meaning of the state. Stored
    /// state with another fingerprint is refused. `None` for a stateless operator.
    pub fingerprint: Option<String>,
}

/// A connection from an output to an input.
#[derive(Debug, Clone)]
pub struct Edge {
    /// The node that emits.
    pub from: NodeId,
    /// Its output.
    pub output: Port,
    /// The node that receives.
    pub to: NodeId,
    /// Its input.
    pub input: Port,
    /// Which lane receives.
    pub partitioning: Partitioning,
}

/// The lane of the receiver that gets a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Partitioning {
    /// The lane of the sender: a function call without a channel. There is a channel
    /// before a sink, and where rows of an exchange join the same node.
    Forward,
    /// The owner of the key in these columns.
    Hash(Vec<usize>),
    /// Lane 0. The receiver runs on one lane only.
    Gather,
    /// Every lane gets every row. For derived rows, which the ledger does not count.
    Broadcast,
}

impl Graph {
    /// Adds a node.
    pub fn add(
        &mut self,
        name: impl Into<Arc<str>>,
        label: impl Into<String>,
        kind: NodeKind,
    ) -> NodeId {
        self.nodes.push(Node {
            name: name.into(),
            label: label.into(),
            kind,
        });
        NodeId(self.nodes.len() - 1)
    }

    /// Connects `from`'s `output` with `to`'s `input`.
    pub fn connect(
        &mut self,
        from: (NodeId, Port),
        to: (NodeId, Port),
        partitioning: Partitioning,
    ) {
        self.edges.push(Edge {
            from: from.0,
            output: from.1,
            to: to.0,
            input: to.1,
            partitioning,
        });
    }

    /// The node `id`.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0]
    }

    /// Every node's id.
    pub fn ids(&self) -> impl Iterator<Item = NodeId> + use<> {
        (0..self.nodes.len()).map(NodeId)
    }

    /// The edges into `id`.
    pub fn inputs(&self, id: NodeId) -> impl Iterator<Item = &Edge> {
        self.edges.iter().filter(move |edge| edge.to == id)
    }

    /// The edges out of `id`.
    pub fn outputs(&self, id: NodeId) -> impl Iterator<Item = &Edge> {
        self.edges.iter().filter(move |edge| edge.from == id)
    }
}
