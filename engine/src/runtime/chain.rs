//! Fused operators: everything between two exchanges on one lane.

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
    inquiry::Question,
    ledger::Ledger,
    operator::{Operator, Output, Progress},
    runtime::fragment::Fragment,
    state::Snapshot,
    watermark::WatermarkTracker,
};

/// The nodes of a fragment on one lane, as plain function calls.
///
/// Rows, watermarks and the end enter at a node and run depth first to the
/// exits, where they wait in [`Chain::exits`] for the lane to send them.
pub(super) struct Chain {
    /// In topological order.
    links: Vec<Link>,
    /// Where each edge into the chain ends.
    entries: BTreeMap<EdgeId, Entry>,
    exits: Vec<Element>,
    /// Nodes that are not done with a barrier, or with a watermark, which goes on when
    /// they are.
    unfinished: Vec<(usize, Option<Watermark>)>,
    /// The nodes that have yet to hear of a barrier.
    ahead_of_barrier: Range<usize>,
    /// Whether that barrier lets them say all that they know.
    says_all: bool,
    /// Copies made where one output feeds several nodes.
    copied: Ledger,
    /// The highest watermark that any lane of the job has passed on.
    frontier: Arc<Frontier>,
}

/// The highest watermark that any lane of a job has passed on: no operator of
/// the job is further. Raised before a watermark is sent.
#[derive(Debug)]
pub(super) struct Frontier(AtomicI64);

impl Frontier {
    /// Nothing has been passed on.
    pub(super) fn new() -> Self {
        Self(AtomicI64::new(i64::MIN))
    }

    /// A watermark is about to be passed on.
    pub(super) fn raise(&self, watermark: EventTime) {
        self.0.fetch_max(watermark.as_micros(), Ordering::SeqCst);
    }

    /// The highest one so far.
    pub(super) fn get(&self) -> EventTime {
        EventTime::from_micros(self.0.load(Ordering::SeqCst))
    }
}

/// How sure a node is of the watermark behind the next exchange. While this lane
/// is idle the others go on without it, so when it wakes, any row may be late.
/// By the second barrier from then everyone has heard that it is awake (the job
/// sends a barrier only when the one before has come through), and nobody is
/// further than the frontier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Certainty {
    Certain,
    AfterBarriers(u8),
}

/// A node in its chain.
struct Link {
    id: NodeId,
    name: Arc<str>,
    /// `None` for a source, whose rows the head makes.
    operator: Option<Box<dyn Operator>>,
    output: Output,
    watermark: WatermarkTracker,
    certainty: Certainty,
    targets: BTreeMap<Port, Vec<Target>>,
    gauge: Arc<NodeGauge>,
}

/// Where an output leads.
#[derive(Debug, Clone, Copy)]
enum Target {
    Link {
        link: usize,
        input: Port,
        slot: usize,
    },
    Exit(EdgeId),
}

/// The lanes that send on an edge.
#[derive(Debug, Clone, Copy)]
pub(super) struct UpstreamLanes {
    pub(super) lanes: usize,
    pub(super) idle: Idle,
}

/// When the lanes of a fragment are idle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Idle {
    /// Each by itself, when its partitions are.
    Alone,
    /// All at once, because all hear the same watermarks.
    Together,
}

/// Where an edge from a channel enters.
struct Entry {
    link: usize,
    input: Port,
    /// The watermark slot of the edge's first upstream lane.
    first_slot: usize,
}

impl Chain {
    /// Builds the chain of `fragment`. `operator` gives each node's operator;
    /// `upstream` says who sends on an edge.
    pub(super) fn new(
        graph: &Graph,
        fragment: &Fragment,
        gauge: impl Fn(&str) -> Arc<NodeGauge>,
        mut operator: impl FnMut(NodeId) -> Option<Box<dyn Operator>>,
        upstream: impl Fn(EdgeId) -> UpstreamLanes,
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
                let upstream = upstream(id);
                let first = slots[link];
                slots[link] += upstream.lanes;
                if upstream.idle == Idle::Together {
                    together[link].push(first..slots[link]);
                }
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
            ahead_of_barrier: 0..0,
            says_all: false,
            copied: Ledger::default(),
            frontier,
        }
    }

    /// Takes rows that came over a channel.
    pub(super) fn on_batch(&mut self, edge: EdgeId, batch: Batch) -> Result<()> {
        let entry = &self.entries[&edge];
        self.deliver(entry.link, entry.input, batch)
    }

    /// Takes a watermark that came over a channel from `upstream_lane`.
    pub(super) fn on_watermark(
        &mut self,
        edge: EdgeId,
        upstream_lane: usize,
        watermark: Watermark,
    ) -> Result<()> {
        let entry = &self.entries[&edge];
        self.advance(entry.link, entry.first_slot + upstream_lane, watermark)
    }

    /// Puts rows of a source on its way.
    pub(super) fn emit(&mut self, source: NodeId, port: Port, batch: Batch) -> Result<()> {
        self.forward(self.link(source), port, batch)
    }

    /// The counts of a source, to declare what it read and set aside.
    pub(super) fn ledger(&mut self, source: NodeId) -> &mut Ledger {
        let link = self.link(source);
        self.links[link].output.ledger()
    }

    /// Passes on the watermark of a source.
    pub(super) fn emit_watermark(&mut self, source: NodeId, watermark: Watermark) -> Result<()> {
        self.advance(self.link(source), 0, watermark)
    }

    /// Lets every operator emit what must be downstream before the cut, which is when
    /// [`Self::go_on`] has no more.
    pub(super) fn on_barrier(&mut self, barrier: Barrier) {
        self.ahead_of_barrier = 0..self.links.len();
        self.says_all = barrier.says_all;
    }

    /// Lets a node that is not done with a watermark or a barrier do more; says whether
    /// there was one.
    pub(super) fn go_on(&mut self) -> Result<bool> {
        if let Some((index, watermark)) = self.unfinished.pop() {
            self.work_off(index, watermark)?;
            return Ok(true);
        }
        // Each when those before it are done.
        let Some(index) = self.ahead_of_barrier.next() else {
            return Ok(false);
        };
        self.pass_barrier(index)?;
        Ok(true)
    }

    fn pass_barrier(&mut self, index: usize) -> Result<()> {
        let link = &mut self.links[index];
        let Some(operator) = &mut link.operator else {
            return Ok(());
        };
        let agreed = link.watermark.agreed().filter(|_| self.says_all);
        operator.on_barrier(agreed, &mut link.output)?;
        if let Certainty::AfterBarriers(barriers) = link.certainty {
            link.certainty = match barriers {
                0 | 1 => Certainty::Certain,
                _ => Certainty::AfterBarriers(barriers - 1),
            };
            if link.certainty == Certainty::Certain {
                operator.expect_stragglers(self.frontier.get());
            }
        }
        self.work_off(index, None)
    }

    /// Lets the node that a question is for answer it.
    pub(super) fn answer(&mut self, question: &Question) {
        let asked = self.links.iter_mut().find(|it| question.is_for(&it.name));
        let operator = asked.and_then(|link| link.operator.as_mut());
        let answer = operator.map(|operator| operator.answer(question.text()));
        if let Some(answer) = answer.and_then(Result::transpose) {
            question.reply(answer);
        }
    }

    /// Tells every operator how far those behind the exchanges have come in an
    /// earlier run.
    pub(super) fn expect_stragglers(&mut self, until: EventTime) {
        for operator in self
            .links
            .iter_mut()
            .filter_map(|link| link.operator.as_mut())
        {
            operator.expect_stragglers(until);
        }
    }

    /// How far the operators had come in an earlier run.
    pub(super) fn closed_through(&self) -> EventTime {
        let operators = self.links.iter().filter_map(|link| link.operator.as_ref());
        operators
            .map(|operator| operator.closed_through())
            .max()
            .unwrap_or(EventTime::MIN)
    }

    /// Tells every operator that no row will come any more.
    pub(super) fn on_end(&mut self) -> Result<()> {
        self.each(|operator, output| operator.on_end(output))
    }

    /// What changed in each operator's state.
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

    /// Takes what waits to leave, in order.
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

    fn each(
        &mut self,
        mut call: impl FnMut(&mut dyn Operator, &mut Output) -> Result<()>,
    ) -> Result<()> {
        for index in 0..self.links.len() {
            let link = &mut self.links[index];
            if let Some(operator) = &mut link.operator {
                call(operator.as_mut(), &mut link.output)?;
                self.drain(index)?;
            }
        }
        Ok(())
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
                Watermark::Idle => {
                    operator.flush(&mut link.output)?;
                    if operator.holds_rows() {
                        return self.drain(index);
                    }
                }
                Watermark::At(time) => {
                    if was_idle {
                        link.certainty = Certainty::AfterBarriers(2);
                        operator.expect_stragglers(EventTime::MAX);
                    }
                    operator.on_watermark(time, &mut link.output)?;
                }
            }
        }
        self.work_off(index, Some(passed_on))
    }

    /// Lets a node do what there is to do of a watermark or, without one, of a barrier,
    /// or a part of it, and passes the watermark on when all is done.
    fn work_off(&mut self, index: usize, watermark: Option<Watermark>) -> Result<()> {
        self.drain(index)?;
        let link = &mut self.links[index];
        let mut passed_on = watermark;
        if let (Some(operator), None | Some(Watermark::At(_))) = (&mut link.operator, watermark) {
            let progress = operator.go_on(&mut link.output)?;
            if let Some(Watermark::At(time)) = watermark {
                passed_on = Some(Watermark::At(operator.passes_on(time)));
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

    /// Lets a node do all that it has yet to do: something comes to it by a call.
    fn finish(&mut self, index: usize) -> Result<()> {
        let is_it = |(unfinished, _): &(usize, Option<Watermark>)| *unfinished == index;
        while let Some(place) = self.unfinished.iter().position(is_it) {
            let (index, watermark) = self.unfinished.remove(place);
            self.work_off(index, watermark)?;
        }
        Ok(())
    }

    /// Sends what an operator has emitted on its way.
    fn drain(&mut self, index: usize) -> Result<()> {
        for (port, batch) in self.links[index].output.take() {
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
