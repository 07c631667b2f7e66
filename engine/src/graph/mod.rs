//! The graph of a job: sources, operators and sinks, and how rows get from one
//! to the next.

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
    /// What operators look up beside the stream.
    pub side_inputs: Vec<Arc<dyn SideInput>>,
}

/// A node with its stable name: the id of its state and of its metrics.
pub struct Node {
    /// Unique in the graph; the name in the pipeline file, with a suffix where
    /// one name lowers to several nodes (`campaign_minute.partial`).
    pub name: Arc<str>,
    /// One line for `explain`: what it does, in the user's terms.
    pub label: String,
    /// What it is.
    pub kind: NodeKind,
}

/// What a node is.
pub enum NodeKind {
    /// Reads, decodes, stamps watermarks. Rows leave by [`Port::MAIN`], dead
    /// letters by [`Port::ASIDE`].
    Source(SourceNode),
    /// Transforms.
    Operator(OperatorNode),
    /// Writes. Its inputs may come from several nodes.
    Sink(Arc<dyn SinkFactory>),
}

/// A source with everything that turns its bytes into timed rows.
pub struct SourceNode {
    /// Where the bytes come from.
    pub source: Arc<dyn Source>,
    /// Makes its decoders.
    pub decoder: DecoderFactory,
    /// Makes the dead letters of one lane.
    pub dead_letters: Arc<dyn Fn() -> Result<Box<dyn DeadLetters>> + Send + Sync>,
    /// How event time is read and judged.
    pub time: TimePolicy,
}

/// Makes a decoder; each is used by one task at a time.
pub type DecoderFactory = Arc<dyn Fn() -> Result<Box<dyn Decoder>> + Send + Sync>;

/// How a source's event time is read and judged.
#[derive(Debug, Clone)]
pub struct TimePolicy {
    /// The column of the decoded batch with the event time, a non-null
    /// `Timestamp(Microsecond, "UTC")`.
    pub column: usize,
    /// How far events may come out of order: the watermark trails by this.
    pub delay: Duration,
    /// How long a partition must have been at its end to count as idle.
    pub idle_after: Duration,
    /// What becomes of the watermark of a partition that is idle.
    pub when_idle: WhenIdle,
    /// Rows further ahead of their reference time are dead letters.
    pub max_future: Duration,
    /// Rows before this are dead letters.
    pub earliest: EventTime,
    /// A partition this far ahead of the slowest one is paused.
    pub max_drift: Option<Duration>,
    /// Windows open and close only at multiples of this since the epoch: the
    /// watermark need not be exact in between.
    pub granularity: Duration,
    /// What to do with a row that cannot be read.
    pub on_error: OnError,
    /// Whether to append the column [`OFFSET_COLUMN`].
    pub offsets: WithOffsets,
}

/// What becomes of the watermark of a partition that is idle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenIdle {
    /// It stands still, and holds up no other.
    Hold,
    /// It follows the clock, [`TimePolicy::delay`] behind: windows close and time
    /// passes for what is known of keys. A row that comes after all, with an event
    /// time from before that, may be late.
    Clock,
}

/// The hidden column with a row's offset in its partition (`Int64`).
pub const OFFSET_COLUMN: &str = "_offset";

/// Whether decoded batches carry [`OFFSET_COLUMN`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WithOffsets {
    /// As the last column.
    Yes,
    /// Nothing downstream names rows.
    No,
}

/// What to do with a row that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnError {
    /// Set it aside as a dead letter and go on.
    DeadLetter,
    /// Stop the job.
    Fail,
}

/// An operator with what its state depends on.
pub struct OperatorNode {
    /// Makes the operator of one lane.
    pub factory: OperatorFactory,
    /// A fingerprint of whatever determines the meaning of its state; stored
    /// state with another one is refused. `None` for a stateless operator.
    pub fingerprint: Option<String>,
}

/// A connection of an output with an input.
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

/// Which lane of the receiver a row goes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Partitioning {
    /// The sender's own: a function call, no channel (a channel before a sink, and
    /// where some of the rows go by an exchange and meet the others again).
    Forward,
    /// The owner of the key in these columns.
    Hash(Vec<usize>),
    /// Lane 0: the receiver runs on one lane only.
    Gather,
    /// Every lane has every row; for derived rows, which nobody accounts for.
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
