//! Builds a job's tasks and the channels between them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures::future::try_join_all;
use tokio::{sync::mpsc, task::JoinSet};

use super::{
    chain::{Chain, Frontier},
    channel::{Receiver, Sender, bounded},
    checkpoint::CheckpointCoordinator,
    decoding::{Ahead, Decoding},
    deliveries::Deliveries,
    fragment::{self, Fragment},
    gauges::Gauges,
    job_config::{End, JobConfig, Until},
    job_context::JobContext,
    lane::{Downstream, Exit, Inputs, Lane, Upstream},
    memory_controller,
    message::Message,
    restore::{self, Placement, Restored},
    sink_task::SinkTask,
    source_stage::SourceStage,
    source_task::{SourceCommand, SourceTask},
    startup::{Claimed, Start},
    task_event::TaskEvents,
};
use crate::{
    Clock, Error, EventTime, Result,
    element::EdgeId,
    graph::{Graph, NodeId, NodeKind, Partitioning},
    operator::{LaneContext, Operator},
    side_input,
    sink::SinkContext,
    source::Positions,
    state_query::StateQuery,
};

/// Chunks that are decoded ahead may take one part in this many of a lane's memory.
const DECODED_PART: usize = 64;

/// How long tasks may take to end.
const TIME_TO_END: Duration = Duration::from_secs(2);

/// A job's running tasks.
pub(super) struct Topology {
    pub(super) tasks: JoinSet<Result<()>>,
    readers: Vec<(Arc<str>, mpsc::UnboundedSender<SourceCommand>)>,
    sources: BTreeSet<Arc<str>>,
    parts: usize,
}

impl Topology {
    /// The names of the sources.
    pub(super) fn sources(&self) -> &BTreeSet<Arc<str>> {
        &self.sources
    }

    /// The number of tasks that send a result at a barrier.
    pub(super) fn parts(&self) -> usize {
        self.parts
    }

    /// Sends a command to every reader.
    pub(super) fn order(&self, order: impl Fn() -> SourceCommand) {
        for (_, reader) in &self.readers {
            // A reader that has ended has an error that the job will see.
            let _ = reader.send(order());
        }
    }

    /// Ends all tasks, which removes their files on the local disk. Does not wait for a task that
    /// blocks on a socket.
    pub(super) async fn end(mut self, clock: &dyn Clock) {
        tokio::select! {
            biased;
            () = self.tasks.shutdown() => {}
            () = clock.sleep(TIME_TO_END) => {}
        }
    }

    /// Sends each reader the committed positions of its source.
    pub(super) fn committed(&self, positions: &BTreeMap<Arc<str>, Positions>) {
        for (source, reader) in &self.readers {
            if let Some(positions) = positions.get(source) {
                // As above.
                let _ = reader.send(SourceCommand::Committed(positions.clone()));
            }
        }
    }
}

/// One lane of a fragment: the index of the fragment and the lane.
type Instance = (usize, usize);

/// The channel ends that are not assigned yet, by fragment and lane.
struct Wiring {
    inputs: BTreeMap<Instance, Vec<(Upstream, Receiver<Message>)>>,
    downstream: BTreeMap<Instance, Vec<(usize, Arc<Downstream>)>>,
    readers: BTreeMap<NodeId, Vec<Sender<Message>>>,
}

/// Restores the state, opens sinks, and starts all tasks.
pub(super) async fn build(
    graph: &Graph,
    config: &JobConfig,
    claimed: Claimed,
    context: &JobContext,
    gauges: &Arc<Gauges>,
    reports: TaskEvents,
) -> Result<(Topology, CheckpointCoordinator)> {
    let fragments = fragment::cut(graph, config.lanes)?;
    let Claimed {
        log,
        recovered,
        readers: mut opened_readers,
        withdrawn,
    } = claimed;
    let last = recovered.last.as_ref();
    if let Some(last) = last {
        restore::check(graph, last, &config.reset)?;
    }
    let restored = Restored::new(&log, last, &config.reset);

    let mut tasks = JoinSet::new();
    for input in &graph.side_inputs {
        let clock = Arc::clone(&context.clock);
        tasks.spawn(side_input::refresh(Arc::clone(input), clock));
    }
    let mut wiring = wire(graph, &fragments, config, gauges);
    let mut live = Vec::new();
    let mut lanes_built = Vec::new();
    let frontier = Arc::new(Frontier::new());
    for (index, fragment) in fragments.iter().enumerate() {
        let lanes = Placement {
            job: config.lanes,
            node: fragment.lanes,
        };
        for &id in &fragment.nodes {
            live.extend(restored.live(&graph.node(id).name, lanes));
        }
        let place = |lane| Place {
            graph,
            fragments: &fragments,
            fragment,
            lane,
            lanes,
            memory_bytes: config.memory_per_lane(),
            inquiry: &context.inquiry,
        };
        // All lanes at the same time: the restore of a large state keeps a core busy.
        let operators = (0..fragment.lanes).map(|lane| place(lane).operators(&restored));
        let operators = try_join_all(operators).await?;
        for (lane, operators) in operators.into_iter().enumerate() {
            let inputs = wiring.inputs.remove(&(index, lane)).unwrap_or_default();
            let first = graph.node(fragment.nodes[0]);
            if let NodeKind::Sink(factory) = &first.kind {
                let context = SinkContext {
                    node: Arc::clone(&first.name),
                    lane,
                    lanes: fragment.lanes,
                    staging: log.staging(),
                    log: log.short_id(),
                    clock: Arc::clone(&context.clock),
                    ids: log.ids(),
                };
                let mut sink = factory.open(context)?;
                let parts = restored.of_sink(&first.name, lane, lanes).await?;
                if !parts.is_empty() {
                    sink.restore(parts).await?;
                }
                let writer = SinkTask {
                    node: Arc::clone(&first.name),
                    lane,
                    target: factory.target(),
                    inputs: Inputs::new(inputs),
                    sink,
                    gauge: gauges.node(&first.name),
                    reports: reports.clone(),
                };
                tasks.spawn(writer.run());
            } else {
                let downstream = wiring.downstream.remove(&(index, lane)).unwrap_or_default();
                let place = place(lane);
                let lane =
                    place.lane(inputs, downstream, operators, gauges, &reports, &frontier)?;
                lanes_built.push(lane);
            }
        }
    }
    if let Some(limit) = &config.memory {
        memory_controller::check_start(limit, context.clock.as_ref()).await?;
    }
    let closed_through = lanes_built
        .iter()
        .map(|lane| lane.chain.closed_through())
        .max();
    frontier.raise(closed_through.unwrap_or(EventTime::MIN));
    for mut lane in lanes_built {
        lane.chain.set_lateness_bound(frontier.get());
        tasks.spawn(lane.run());
    }
    let fragment_parts: usize = fragments.iter().map(|fragment| fragment.lanes).sum();

    let deliveries = Deliveries::new(graph, &log, &config.deliver);
    deliveries.start(&mut tasks, &log, &context.clock);
    let mut checkpointer = CheckpointCoordinator::new(
        log,
        deliveries,
        graph,
        config,
        Arc::clone(&context.clock),
        last,
        live,
    );
    checkpointer.withdraw(withdrawn);

    let mut readers = Vec::new();
    for id in graph.ids() {
        let NodeKind::Source(source) = &graph.node(id).kind else {
            continue;
        };
        let name = &graph.node(id).name;
        let (sender, orders) = mpsc::unbounded_channel();
        let lanes = wiring.readers.remove(&id).unwrap_or_default();
        let (positions, systems) = (checkpointer.positions(), checkpointer.systems());
        let start = Start {
            positions: positions.get(name).cloned().unwrap_or_default(),
            systems: systems.get(name).cloned().unwrap_or_default(),
        };
        let watermarks = last
            .filter(|_| !config.reset.contains(name.as_ref()))
            .and_then(|last| last.watermarks.get(name).cloned())
            .unwrap_or_default();
        let reader = SourceTask {
            source: Arc::clone(name),
            input: opened_readers
                .take(name, source.source.as_ref(), &start)
                .await?,
            orders,
            lanes,
            time: source.time.clone(),
            clock: Arc::clone(&context.clock),
            gauges: Arc::clone(gauges),
            reports: reports.clone(),
            watermarks,
            partitions: BTreeMap::new(),
            positions: start.positions,
            systems: start.systems,
            assigned: false,
            asleep: false,
            awaits_partitions: false,
            live: vec![0; config.lanes],
            keeps_windows: config.until == Until::CaughtUp && config.end == End::Keep,
        };
        tasks.spawn(reader.run());
        readers.push((Arc::clone(name), sender));
    }
    let sources = readers.iter().map(|(name, _)| Arc::clone(name)).collect();
    let parts = fragment_parts + readers.len();
    Ok((
        Topology {
            tasks,
            readers,
            sources,
            parts,
        },
        checkpointer,
    ))
}

/// Creates every channel: from each source's reader to the lanes of its fragment, and from each
/// lane to the lanes of the fragments after it.
fn wire(graph: &Graph, fragments: &[Fragment], config: &JobConfig, gauges: &Gauges) -> Wiring {
    let mut wiring = Wiring {
        inputs: BTreeMap::new(),
        downstream: BTreeMap::new(),
        readers: BTreeMap::new(),
    };
    for (index, fragment) in fragments.iter().enumerate() {
        let waiting = gauges
            .node(&graph.node(fragment.nodes[0]).name)
            .queue_bytes
            .clone();
        for &id in &fragment.nodes {
            if !matches!(graph.node(id).kind, NodeKind::Source(_)) {
                continue;
            }
            for lane in 0..fragment.lanes {
                let (sender, receiver) = bounded(config.queue_bytes, Arc::clone(&waiting));
                wiring.readers.entry(id).or_default().push(sender);
                let inputs = wiring.inputs.entry((index, lane)).or_default();
                inputs.push((Upstream::SourceTask(id), receiver));
            }
        }
        for (from_index, from) in fragments.iter().enumerate() {
            let shared = |edge: &&EdgeId| fragment.inputs.contains(edge);
            let edges: Vec<_> = from.outputs.iter().filter(shared).collect();
            if edges.is_empty() {
                continue;
            }
            // Operators receive the watermarks of all lanes; sinks need none.
            let is_sink = matches!(graph.node(fragment.nodes[0]).kind, NodeKind::Sink(_));
            let own_lane_only = is_sink
                && edges
                    .iter()
                    .all(|edge| graph.edges[edge.0].partitioning == Partitioning::Forward);
            for from_lane in 0..from.lanes {
                let channel = |lane: usize, wiring: &mut Wiring| {
                    if own_lane_only && lane != from_lane {
                        return None;
                    }
                    let (sender, receiver) = bounded(config.queue_bytes, Arc::clone(&waiting));
                    let inputs = wiring.inputs.entry((index, lane)).or_default();
                    inputs.push((Upstream::Lane(from_lane), receiver));
                    Some(sender)
                };
                let senders = (0..fragment.lanes)
                    .map(|lane| channel(lane, &mut wiring))
                    .collect();
                let downstream = wiring
                    .downstream
                    .entry((from_index, from_lane))
                    .or_default();
                downstream.push((index, Arc::new(Downstream { senders })));
            }
        }
    }
    wiring
}

/// A lane of a fragment, while it is being built.
struct Place<'a> {
    graph: &'a Graph,
    fragments: &'a [Fragment],
    fragment: &'a Fragment,
    lane: usize,
    lanes: Placement,
    memory_bytes: Option<usize>,
    inquiry: &'a StateQuery,
}

impl Place<'_> {
    /// Its operators, with their state if they have any.
    async fn operators(
        self,
        restored: &Restored<'_>,
    ) -> Result<BTreeMap<NodeId, Box<dyn Operator>>> {
        let mut operators = BTreeMap::new();
        for &id in &self.fragment.nodes {
            let node = self.graph.node(id);
            let NodeKind::Operator(factory) = &node.kind else {
                continue;
            };
            let context = LaneContext {
                node: Arc::clone(&node.name),
                lane: self.lane,
                lanes: self.lanes.node,
                memory_bytes: self.memory_bytes,
            };
            let operator = (factory.factory)(&context)?;
            let restored = restored.restore(&node.name, self.lane, self.lanes, operator);
            operators.insert(id, restored.await?);
        }
        Ok(operators)
    }

    fn lane(
        &self,
        inputs: Vec<(Upstream, Receiver<Message>)>,
        downstream: Vec<(usize, Arc<Downstream>)>,
        mut operators: BTreeMap<NodeId, Box<dyn Operator>>,
        gauges: &Arc<Gauges>,
        reports: &TaskEvents,
        frontier: &Arc<Frontier>,
    ) -> Result<Lane> {
        let chain = Chain::new(
            self.graph,
            self.fragment,
            |name| gauges.node(name),
            |id| operators.remove(&id),
            |edge| self.sender_of(edge).lanes,
            Arc::clone(frontier),
        );
        let mut inputs = Inputs::new(inputs);
        let mut stages = BTreeMap::new();
        for &id in &self.fragment.nodes {
            let node = self.graph.node(id);
            if let NodeKind::Source(source) = &node.kind {
                stages.insert(id, SourceStage::new(id, &node.name, source)?);
                let decoding = Decoding::new(
                    Arc::clone(&source.decoder),
                    source.time.clone(),
                    gauges.node(&node.name),
                    Ahead {
                        // One more than the number decoded at the same time, so that no core waits.
                        chunks: self.lanes.job + 1,
                        bytes: self
                            .memory_bytes
                            .map_or(usize::MAX, |memory| memory / DECODED_PART),
                    },
                );
                inputs.decode(id, decoding);
            }
        }
        let exit = |edge: &EdgeId| {
            let receiver = downstream
                .iter()
                .find(|(index, _)| self.fragments[*index].inputs.contains(edge))
                .map(|(_, receiver)| Arc::clone(receiver))
                .ok_or_else(|| Error::internal("an edge leads nowhere"))?;
            let partitioning = self.graph.edges[edge.0].partitioning.clone();
            Ok((*edge, Exit::new(partitioning, receiver)))
        };
        let exits = self
            .fragment
            .outputs
            .iter()
            .map(exit)
            .collect::<Result<_>>()?;
        let nodes = self.fragment.nodes.iter();
        Ok(Lane {
            index: self.lane,
            inputs,
            stages,
            chain,
            exits,
            downstream: downstream
                .into_iter()
                .map(|(_, receiver)| receiver)
                .collect(),
            gauges: nodes
                .map(|id| gauges.node(&self.graph.node(*id).name))
                .collect(),
            reports: reports.clone(),
            questions: self.inquiry.listen(),
        })
    }

    /// The fragment that sends on an edge.
    fn sender_of(&self, edge: EdgeId) -> &Fragment {
        let sends = |fragment: &&Fragment| fragment.outputs.contains(&edge);
        self.fragments
            .iter()
            .find(sends)
            .expect("every edge begins in a fragment")
    }
}
