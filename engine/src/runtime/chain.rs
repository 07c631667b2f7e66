//! Fused operators: all nodes between two exchanges on one lane.

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use super::gauges::{NodeGauge, add};
use crate::{
    Batch, Element, EventTime, Origin, Port, Result, Watermark,
    element::{Barrier, EdgeId},
    graph::{Graph, NodeId},
    ledger::Ledger,
    operator::{Operator, Output, Progress},
    runtime::fragment::Fragment,
    state::Snapshot,
    state_query::StateQueryRequest,
    watermark::WatermarkTracker,
};

/// The nodes of a fragment on one lane, as plain function calls.
///
/// Rows, watermarks and the end enter at a node and run depth first to the exits. They stay in
/// [`Chain::exits`] until the lane sends them.
pub(super) struct Chain {
    /// In topological order.
    links: Vec<Link>,
    /// The target of each edge into the chain.
    entries: BTreeMap<EdgeId, Entry>,
    exits: Vec<Element>,
    /// Nodes that have more to emit, each with the watermark to forward afterwards.
    unfinished: Vec<(usize, Option<Watermark>)>,
    /// The nodes that the barrier or the end has not reached yet.
    ahead: Range<usize>,
    /// The current barrier or end.
    visit: Visit,
    /// The end of the input, if it has ended: all rows are before this time.
    end: Option<EventTime>,
    /// Copies of rows where one output feeds several nodes.
    copied: Ledger,
    /// The highest watermark that any lane of the job has forwarded.
    frontier: Arc<Frontier>,
}

/// The highest watermark that any lane of a job has forwarded. No operator of the job is ahead. It
/// is raised before a watermark is sent.
#[derive(Debug)]
pub(super) struct Frontier(AtomicI64);

impl Frontier {
    /// The frontier before the first watermark.
    pub(super) fn new() -> Self {
        Self(AtomicI64::new(i64::MIN))
    }

    /// Raises the frontier to a watermark that is about to be forwarded.
    pub(super) fn raise(&self, watermark: EventTime) {
        self.0.fetch_max(watermark.as_micros(), Ordering::SeqCst);
    }

    /// The highest watermark so far.
    pub(super) fn get(&self) -> EventTime {
        EventTime::from_micros(self.0.load(Ordering::SeqCst))
    }
}

/// How certain a node is of the watermark behind the next exchange. While this lane is idle, the
/// others continue without it, so any row may be late when it becomes active. By the second barrier
/// after that, all lanes have received its activity, because the job sends a barrier only when the
/// previous one has passed. Then no lane is ahead of the frontier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Certainty {
    Certain,
    AfterBarriers(u8),
}

/// A call that every node of a chain receives, each after the nodes before it are done.
#[derive(Debug, Clone, Copy)]
enum Visit {
    Barrier {
        /// Whether operators may emit full profiles.
        emit_profiles: bool,
    },
    End,
}

/// A node in its chain.
struct Link {
    id: NodeId,
    name: Arc<str>,
    /// `None` for a source, because its stage produces its rows.
    operator: Option<Box<dyn Operator>>,
    output: Output,
    watermark: WatermarkTracker,
    certainty: Certainty,
    targets: BTreeMap<Port, Vec<Target>>,
    gauge: Arc<NodeGauge>,
}

/// The target of an output.
#[derive(Debug, Clone, Copy)]
enum Target {
    Link {
        link: usize,
        input: Port,
        slot: usize,
    },
    Exit(EdgeId),
}

/// The entry of an edge from a channel.
struct Entry {
    link: usize,
    input: Port,
    /// The watermark slot of the edge's first upstream lane.
    first_slot: usize,
}

impl Chain {
    /// Builds the chain of `fragment`. `operator` creates each node's operator. `upstream_lanes` is
    /// the number of lanes that send on an edge. They become idle together: the lanes of a source
    /// because it is idle, all others because they receive the same watermarks.
    pub(super) fn new(
        graph: &Graph,
        fragment: &Fragment,
        gauge: impl Fn(&str) -> Arc<NodeGauge>,
        mut operator: impl FnMut(NodeId) -> Option<Box<dyn Operator>>,
        upstream_lanes: impl Fn(EdgeId) -> usize,
        frontier: Arc<Frontier>,
    ) -> Self {
        let link_of = |id: NodeId| fragment.nodes.iter().position(|node| *node == id);
        let mut entries = BTreeMap::new();
        let mut targets: Vec<BTreeMap<Port, Vec<Target>>> =
            vec![BTreeMap::new(); fragment.nodes.len()];
        let mut slots = vec![0; fragment.nodes.len()];
        let mut together: Vec<Vec<Range<usize>>> = vec![Vec::new(); fragment.nodes.len()];
        for (index, edge) in graph.edges.iter().enumerate() {
            let (from, to, id) = (link_of(edge.from), link_of(edge.to), EdgeId(index));
            if fragment.inputs.contains(&id) {
                let link = to.expect("an input ends in its fragment");
                entries.insert(
                    id,
                    Entry {
                        link,
                        input: edge.input,
                        first_slot: slots[link],
                    },
                );
                let first = slots[link];
                slots[link] += upstream_lanes(id);
                together[link].push(first..slots[link]);
            } else if fragment.outputs.contains(&id) {
                let link = from.expect("an output begins in its fragment");
                targets[link]
                    .entry(edge.output)
                    .or_default()
                    .push(Target::Exit(id));
            } else if let (Some(from), Some(link)) = (from, to) {
                let target = Target::Link {
                    link,
                    input: edge.input,
                    slot: slots[link],
                };
                targets[from].entry(edge.output).or_default().push(target);
                slots[link] += 1;
            }
        }
        let mut links = Vec::with_capacity(fragment.nodes.len());
        let places = fragment.nodes.iter().zip(targets).zip(slots);
        for (((&id, targets), slots), together) in places.zip(together) {
            let node = graph.node(id);
            links.push(Link {
                id,
                name: Arc::clone(&node.name),
                operator: operator(id),
                output: Output::default(),
                watermark: together.into_iter().fold(
                    WatermarkTracker::new(slots.max(1)),
                    WatermarkTracker::with_together,
                ),
                certainty: Certainty::Certain,
                targets,
                gauge: gauge(&node.name),
            });
        }
        Self {
            links,
            entries,
            exits: Vec::new(),
            unfinished: Vec::new(),
            ahead: 0..0,
            visit: Visit::End,
            end: None,
            copied: Ledger::default(),
            frontier,
        }
    }

    /// Processes rows from a channel.
    pub(super) fn on_batch(&mut self, edge: EdgeId, batch: Batch) -> Result<()> {
        let entry = &self.entries[&edge];
        self.deliver(entry.link, entry.input, batch)
    }

    /// Processes a watermark of `upstream_lane` from a channel.
    pub(super) fn on_watermark(
        &mut self,
        edge: EdgeId,
        upstream_lane: usize,
        watermark: Watermark,
    ) -> Result<()> {
        let entry = &self.entries[&edge];
        self.advance(entry.link, entry.first_slot + upstream_lane, watermark)
    }

    /// Forwards rows of a source.
    pub(super) fn emit(&mut self, source: NodeId, port: Port, batch: Batch) -> Result<()> {
        self.forward(self.link(source), port, batch)
    }

    /// The counts of a source, to declare the rows that it read and its dead letters.
    pub(super) fn ledger(&mut self, source: NodeId) -> &mut Ledger {
        let link = self.link(source);
        self.links[link].output.ledger()
    }

    /// Forwards the watermark of a source.
    pub(super) fn emit_watermark(&mut self, source: NodeId, watermark: Watermark) -> Result<()> {
        self.advance(self.link(source), 0, watermark)
    }

    /// Lets every operator emit the rows that downstream must have before the barrier. It is done
    /// when [`Self::poll_output`] returns false.
    pub(super) fn on_barrier(&mut self, barrier: Barrier) {
        self.ahead = 0..self.links.len();
        self.visit = Visit::Barrier {
            emit_profiles: barrier.emit_profiles,
        };
    }

    /// Lets every operator emit its buffered rows, because no row follows. It is done when
    /// [`Self::poll_output`] returns false. All rows of the input are before `end`.
    pub(super) fn on_end(&mut self, end: EventTime) {
        self.end = Some(end);
        self.ahead = 0..self.links.len();
        self.visit = Visit::End;
    }

    /// Lets a node emit one more part for a watermark, a barrier or the end. Returns false if there
    /// was none.
    pub(super) fn poll_output(&mut self) -> Result<bool> {
        if let Some((index, watermark)) = self.unfinished.pop() {
            self.complete_watermark(index, watermark)?;
            return Ok(true);
        }
        // Each node follows when the nodes before it are done.
        let Some(index) = self.ahead.next() else {
            return Ok(false);
        };
        match self.visit {
            Visit::Barrier { emit_profiles } => self.pass_barrier(index, emit_profiles)?,
            Visit::End => self.end(index)?,
        }
        Ok(true)
    }

    fn end(&mut self, index: usize) -> Result<()> {
        let link = &mut self.links[index];
        let Some(operator) = &mut link.operator else {
            return Ok(());
        };
        operator.on_end(&mut link.output)?;
        self.complete_watermark(index, None)
    }

    fn pass_barrier(&mut self, index: usize, emit_profiles: bool) -> Result<()> {
        let link = &mut self.links[index];
        let Some(operator) = &mut link.operator else {
            return Ok(());
        };
        let agreed = self.end.or_else(|| link.watermark.agreed());
        let agreed = agreed.filter(|_| emit_profiles);
        operator.on_barrier(agreed, &mut link.output)?;
        if let Certainty::AfterBarriers(barriers) = link.certainty {
            link.certainty = match barriers {
                0 | 1 => Certainty::Certain,
                _ => Certainty::AfterBarriers(barriers - 1),
            };
            if link.certainty == Certainty::Certain {
                operator.set_lateness_bound(self.frontier.get());
            }
        }
        self.complete_watermark(index, None)
    }

    /// Lets the node that a question names answer it.
    pub(super) fn query_state(&mut self, question: &StateQueryRequest) {
        let asked = self.links.iter_mut().find(|it| question.is_for(&it.name));
        let operator = asked.and_then(|link| link.operator.as_mut());
        let answer = operator.map(|operator| operator.query_state(question.text()));
        if let Some(answer) = answer.and_then(Result::transpose) {
            question.reply(answer);
        }
    }

    /// Sets the lateness bound of every operator: the progress of the stages behind the exchanges
    /// in an earlier run.
    pub(super) fn set_lateness_bound(&mut self, until: EventTime) {
        for operator in self
            .links
            .iter_mut()
            .filter_map(|link| link.operator.as_mut())
        {
            operator.set_lateness_bound(until);
        }
    }

    /// The watermark up to which operators closed windows in an earlier run.
    pub(super) fn closed_through(&self) -> EventTime {
        let operators = self.links.iter().filter_map(|link| link.operator.as_ref());
        operators
            .map(|operator| operator.closed_through())
            .max()
            .unwrap_or(EventTime::MIN)
    }

    /// The changes of each operator's state.
    pub(super) fn snapshot(&mut self) -> Result<Vec<(Arc<str>, Snapshot)>> {
        let mut snapshots = Vec::new();
        for link in &mut self.links {
            let Some(operator) = &mut link.operator else {
                continue;
            };
            let snapshot = operator.snapshot()?;
            if !snapshot.is_empty() {
                snapshots.push((Arc::clone(&link.name), snapshot));
            }
        }
        Ok(snapshots)
    }

    /// The counts of all nodes since the last call.
    pub(super) fn take_ledger(&mut self) -> Ledger {
        let mut total = self.copied.take();
        for link in &mut self.links {
            let ledger = link.output.ledger().take();
            let late: u64 = ledger.iter().map(|(_, counts)| counts.late).sum();
            add(&link.gauge.late, late as usize);
            add(&link.gauge.missed, link.output.take_missed());
            total.merge(&ledger);
        }
        total
    }

    /// Returns the elements for the exits, in order.
    pub(super) fn exits(&mut self) -> Vec<Element> {
        std::mem::take(&mut self.exits)
    }

    /// Bytes of state of each node, for its gauge.
    pub(super) fn state_bytes(&self) -> impl Iterator<Item = (&Arc<NodeGauge>, usize)> {
        self.links.iter().filter_map(|link| {
            link.operator
                .as_ref()
                .map(|operator| (&link.gauge, operator.state_bytes()))
        })
    }

    fn link(&self, id: NodeId) -> usize {
        let place = self.links.iter().position(|link| link.id == id);
        place.expect("the node is in this chain")
    }

    fn deliver(&mut self, index: usize, input: Port, batch: Batch) -> Result<()> {
        self.finish(index)?;
        let link = &mut self.links[index];
        add(&link.gauge.rows_in, batch.num_rows());
        let operator = link.operator.as_mut().expect("only operators have inputs");
        operator.on_batch(input, batch, &mut link.output)?;
        self.drain(index)
    }

    fn advance(&mut self, index: usize, slot: usize, watermark: Watermark) -> Result<()> {
        self.finish(index)?;
        let link = &mut self.links[index];
        let was_idle = link.watermark.is_idle();
        let Some(passed_on) = link.watermark.update(slot, watermark) else {
            return Ok(());
        };
        if let Some(operator) = &mut link.operator {
            match passed_on {
                Watermark::Idle | Watermark::Absent => {
                    operator.flush(&mut link.output)?;
                    if operator.holds_rows() {
                        return self.complete_watermark(index, None);
                    }
                }
                Watermark::At(time) => {
                    if was_idle {
                        link.certainty = Certainty::AfterBarriers(2);
                        operator.set_lateness_bound(EventTime::MAX);
                    }
                    operator.on_watermark(time, &mut link.output)?;
                }
            }
        }
        self.complete_watermark(index, Some(passed_on))
    }

    /// Lets a node emit the next part, and forwards `watermark` after the last one.
    fn complete_watermark(&mut self, index: usize, watermark: Option<Watermark>) -> Result<()> {
        self.drain(index)?;
        let link = &mut self.links[index];
        let mut passed_on = watermark;
        if let Some(operator) = &mut link.operator {
            let progress = operator.poll_output(&mut link.output)?;
            if let Some(Watermark::At(time)) = watermark {
                passed_on = Some(Watermark::At(operator.output_watermark(time)));
            }
            self.drain(index)?;
            if progress == Progress::More {
                self.unfinished.push((index, watermark));
                return Ok(());
            }
        }
        let Some(passed_on) = passed_on else {
            return Ok(());
        };
        let targets: Vec<Target> = self.links[index]
            .targets
            .values()
            .flatten()
            .copied()
            .collect();
        for target in targets {
            match target {
                Target::Link { link, slot, .. } => self.advance(link, slot, passed_on)?,
                Target::Exit(edge) => {
                    if let Watermark::At(time) = passed_on {
                        self.frontier.raise(time);
                    }
                    self.exits.push(Element::Watermark(edge, passed_on));
                }
            }
        }
        Ok(())
    }

    /// Lets a node emit all remaining parts, because a call to it follows.
    fn finish(&mut self, index: usize) -> Result<()> {
        let is_it = |(unfinished, _): &(usize, Option<Watermark>)| *unfinished == index;
        while let Some(place) = self.unfinished.iter().position(is_it) {
            let (index, watermark) = self.unfinished.remove(place);
            self.complete_watermark(index, watermark)?;
        }
        Ok(())
    }

    /// Forwards the rows that an operator has emitted.
    fn drain(&mut self, index: usize) -> Result<()> {
        for (port, batch) in self.links[index].output.take() {
            if port == Port::DEAD_LETTERS {
                add(&self.links[index].gauge.dead_letters, batch.num_rows());
            }
            self.forward(index, port, batch)?;
        }
        Ok(())
    }

    fn forward(&mut self, index: usize, port: Port, batch: Batch) -> Result<()> {
        let link = &self.links[index];
        add(&link.gauge.rows_out, batch.num_rows());
        let targets = link
            .targets
            .get(&port)
            .map_or(&[][..], Vec::as_slice)
            .to_vec();
        if let (Origin::Partition(partition), true) = (&batch.origin, targets.len() > 1) {
            let copies = batch.num_rows() * (targets.len() - 1);
            self.copied.of(partition).copied += copies as u64;
        }
        for target in targets {
            match target {
                Target::Link { link, input, .. } => self.deliver(link, input, batch.clone())?,
                Target::Exit(edge) => self.exits.push(Element::Batch(edge, batch.clone())),
            }
        }
        Ok(())
    }
}
