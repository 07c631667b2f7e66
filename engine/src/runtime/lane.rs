//! A lane: the task that runs one fragment's chain.

use std::{
    collections::BTreeMap,
    future::poll_fn,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll},
    time::Instant,
};

use arrow::{array::UInt32Array, compute::take_record_batch};
use tokio::sync::broadcast;

use super::{
    chain::Chain,
    channel::{Closed, Receiver, Sender, Weight},
    decoding::{Decoding, Judged},
    gauges::{NodeGauge, add},
    head::{Assignment, Head},
    report::{Cut, Report, Reports},
};
use crate::{
    Batch, Element, Error, EventTime, Result,
    element::{Barrier, EdgeId},
    graph::{NodeId, Partitioning},
    inquiry::Question,
    source::{Chunk, PartitionId},
    state::{KeyHasher, lane_of},
};

/// What a lane receives.
#[derive(Debug)]
pub(super) enum Message {
    /// From a lane before it.
    Element(Element),
    /// From a source's reader.
    Assigned(Vec<Assignment>),
    /// From a source's reader.
    Chunk(Chunk),
    /// What has become of a chunk.
    Rows(Result<Box<Judged>>),
    /// From a source's reader: the partition is idle.
    Idle(Arc<str>),
    /// From a source's reader: what follows in the partition is not older.
    Promised(Arc<str>, EventTime),
    /// From a source's reader: the partition is finished.
    Finished(Arc<str>),
}

impl Weight for Message {
    fn weight(&self) -> usize {
        match self {
            Self::Element(Element::Batch(_, batch)) => batch.records.get_array_memory_size().max(1),
            Self::Chunk(chunk) => chunk.rows.bytes().max(1),
            _ => 0,
        }
    }
}

/// Where the messages of an input come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Upstream {
    /// Reader of this source.
    Reader(NodeId),
    /// This lane of the fragment before.
    Lane(usize),
}

/// One input channel, and whether it has passed the barrier under way.
struct Input {
    upstream: Upstream,
    receiver: Receiver<Message>,
    /// Decodes what a reader sends.
    decoding: Option<Decoding>,
    /// It has delivered the barrier that others have not.
    held: bool,
    ended: bool,
}

/// The inputs of a task, merged fairly and aligned at barriers.
pub(super) struct Inputs {
    inputs: Vec<Input>,
    next: usize,
}

/// What the merged inputs give.
pub(super) enum Received {
    /// A message that is not a barrier and not an end.
    Message(Upstream, Message),
    /// All inputs have delivered this barrier.
    Barrier(Barrier),
    /// All inputs have ended.
    End,
    /// All senders are gone: the job is over.
    Closed,
}

impl Inputs {
    /// Merges `receivers`.
    pub(super) fn new(receivers: Vec<(Upstream, Receiver<Message>)>) -> Self {
        let input = |(upstream, receiver)| Input {
            upstream,
            receiver,
            decoding: None,
            held: false,
            ended: false,
        };
        Self {
            inputs: receivers.into_iter().map(input).collect(),
            next: 0,
        }
    }

    /// Lets `decoding` decode what the reader of `source` sends.
    pub(super) fn decode(&mut self, source: NodeId, decoding: Decoding) {
        let mut inputs = self.inputs.iter_mut();
        if let Some(input) = inputs.find(|input| input.upstream == Upstream::Reader(source)) {
            input.decoding = Some(decoding);
        }
    }

    /// The next message, barrier or end.
    pub(super) async fn recv(&mut self) -> Received {
        poll_fn(|context| self.poll(context)).await
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Received> {
        let count = self.inputs.len();
        for step in 0..count {
            let index = (self.next + step) % count;
            while !self.inputs[index].held {
                let input = &mut self.inputs[index];
                let received = match &mut input.decoding {
                    Some(decoding) => decoding.poll_recv(&mut input.receiver, context),
                    None => input.receiver.poll_recv(context),
                };
                let Poll::Ready(message) = received else {
                    break;
                };
                match message {
                    None => return Poll::Ready(Received::Closed),
                    Some(Message::Element(Element::Barrier(barrier))) => {
                        input.held = true;
                        if self.inputs.iter().all(|input| input.held) {
                            self.inputs.iter_mut().for_each(|input| input.held = false);
                            return Poll::Ready(Received::Barrier(barrier));
                        }
                        break;
                    }
                    Some(Message::Element(Element::End)) => {
                        input.ended = true;
                        if self.inputs.iter().all(|input| input.ended) {
                            return Poll::Ready(Received::End);
                        }
                    }
                    Some(message) => {
                        self.next = index + 1;
                        return Poll::Ready(Received::Message(input.upstream, message));
                    }
                }
            }
        }
        Poll::Pending
    }
}

/// An edge out of a fragment on one lane.
pub(super) struct Exit {
    partitioning: Partitioning,
    /// The channels to the receiver, shared by the edges that lead there.
    receiver: Arc<Downstream>,
    /// Hashes the keys; made when the first batch shows their types.
    hasher: Option<KeyHasher>,
}

impl Exit {
    /// An exit to `receiver`.
    pub(super) fn new(partitioning: Partitioning, receiver: Arc<Downstream>) -> Self {
        Self {
            partitioning,
            receiver,
            hasher: None,
        }
    }

    /// Sends rows to the lanes that own them.
    async fn send(&mut self, edge: EdgeId, lane: usize, batch: Batch) -> Result<Sent> {
        match &self.partitioning {
            Partitioning::Forward => self.send_to(lane, edge, batch).await,
            Partitioning::Gather => self.send_to(0, edge, batch).await,
            Partitioning::Broadcast => {
                for lane in 0..self.receiver.lanes() {
                    if self.send_to(lane, edge, batch.clone()).await? == Sent::Closed {
                        return Ok(Sent::Closed);
                    }
                }
                Ok(Sent::Through)
            }
            Partitioning::Hash(_) if self.receiver.lanes() == 1 => {
                self.send_to(0, edge, batch).await
            }
            Partitioning::Hash(columns) => {
                let keys: Vec<_> = columns
                    .iter()
                    .map(|&column| Arc::clone(batch.records.column(column)))
                    .collect();
                if self.hasher.is_none() {
                    let types = keys.iter().map(|key| key.data_type().clone());
                    self.hasher = Some(KeyHasher::new(types)?);
                }
                let hasher = self.hasher.as_ref().expect("made above");
                let mut rows = vec![Vec::new(); self.receiver.lanes()];
                for (row, group) in hasher.key_groups(&keys)?.into_iter().enumerate() {
                    rows[lane_of(group, self.receiver.lanes())].push(row as u32);
                }
                for (lane, rows) in rows.into_iter().enumerate() {
                    if rows.is_empty() {
                        continue;
                    }
                    let part = if rows.len() == batch.num_rows() {
                        batch.clone()
                    } else {
                        let rows = UInt32Array::from(rows);
                        batch.with_records(take_record_batch(&batch.records, &rows)?)
                    };
                    if self.send_to(lane, edge, part).await? == Sent::Closed {
                        return Ok(Sent::Closed);
                    }
                }
                Ok(Sent::Through)
            }
        }
    }

    async fn send_to(&self, lane: usize, edge: EdgeId, batch: Batch) -> Result<Sent> {
        let message = Message::Element(Element::Batch(edge, batch));
        Ok(self.receiver.send_to(lane, message).await)
    }
}

/// The channels from one lane to the lanes of a fragment after it.
pub(super) struct Downstream {
    /// By the receiver's lane; a `Forward` edge to a sink leads to the lane's own only.
    pub(super) senders: Vec<Option<Sender<Message>>>,
}

impl Downstream {
    fn lanes(&self) -> usize {
        self.senders.len()
    }

    async fn send_to(&self, lane: usize, message: Message) -> Sent {
        match &self.senders[lane] {
            Some(sender) => sender.send(message).await.into(),
            None => Sent::Closed,
        }
    }

    /// Sends a control element to every lane.
    async fn broadcast(&self, element: &Element) -> Sent {
        for sender in self.senders.iter().flatten() {
            if sender
                .send(Message::Element(element.clone()))
                .await
                .is_err()
            {
                return Sent::Closed;
            }
        }
        Sent::Through
    }
}

/// Whether the receiver is still there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sent {
    Through,
    Closed,
}

impl From<Result<(), Closed>> for Sent {
    fn from(sent: Result<(), Closed>) -> Self {
        if sent.is_ok() {
            Self::Through
        } else {
            Self::Closed
        }
    }
}

/// Everything one lane of one fragment owns.
pub(super) struct Lane {
    pub(super) index: usize,
    pub(super) inputs: Inputs,
    pub(super) heads: BTreeMap<NodeId, Head>,
    pub(super) chain: Chain,
    pub(super) exits: BTreeMap<EdgeId, Exit>,
    /// The receivers of all exits, each once.
    pub(super) downstream: Vec<Arc<Downstream>>,
    pub(super) gauges: Vec<Arc<NodeGauge>>,
    pub(super) reports: Reports,
    pub(super) questions: broadcast::Receiver<Question>,
}

impl Lane {
    /// Runs until the job stops or a channel closes.
    pub(super) async fn run(mut self) -> Result<()> {
        let mut state_bytes = BTreeMap::new();
        loop {
            let received = tokio::select! {
                biased;
                Ok(question) = self.questions.recv() => {
                    self.chain.answer(&question);
                    continue;
                }
                received = self.inputs.recv() => received,
            };
            let begun = Instant::now();
            let control = match received {
                Received::Message(upstream, message) => {
                    self.on_message(upstream, message)?;
                    None
                }
                Received::Barrier(barrier) => {
                    self.chain.on_barrier(barrier);
                    Some(Element::Barrier(barrier))
                }
                Received::End => {
                    self.chain.on_end()?;
                    Some(Element::End)
                }
                Received::Closed => return Ok(()),
            };
            let busy = begun.elapsed().as_nanos() as usize;
            self.gauges
                .iter()
                .for_each(|gauge| add(&gauge.busy_ns, busy));

            loop {
                if self.flush().await? == Sent::Closed {
                    return Ok(());
                }
                if !self.chain.go_on()? {
                    break;
                }
            }
            let Some(control) = control else { continue };
            if let Element::Barrier(barrier) = control {
                self.report(barrier)?;
                self.update_state_gauges(&mut state_bytes);
            }
            for downstream in &self.downstream {
                if downstream.broadcast(&control).await == Sent::Closed {
                    return Ok(());
                }
            }
        }
    }

    fn on_message(&mut self, upstream: Upstream, message: Message) -> Result<()> {
        match (upstream, message) {
            (_, Message::Element(Element::Batch(edge, batch))) => self.chain.on_batch(edge, batch),
            (Upstream::Lane(lane), Message::Element(Element::Watermark(edge, watermark))) => {
                self.chain.on_watermark(edge, lane, watermark)
            }
            (Upstream::Reader(source), message) => {
                let head = self.heads.get_mut(&source).ok_or_else(|| {
                    Error::internal("rows of a source that this lane has no head for")
                })?;
                match message {
                    Message::Assigned(partitions) => head.assign(partitions, &mut self.chain),
                    Message::Rows(rows) => head.rows(rows?, &mut self.chain),
                    Message::Idle(partition) => head.idle(&partition, &mut self.chain),
                    Message::Promised(partition, at) => {
                        head.promised(&partition, at, &mut self.chain)
                    }
                    Message::Finished(partition) => head.finish(&partition, &mut self.chain),
                    Message::Chunk(_) => Err(Error::internal("a chunk that nobody has decoded")),
                    Message::Element(_) => Ok(()),
                }
            }
            (Upstream::Lane(_), _) => Err(Error::internal("a lane sent what only readers send")),
        }
    }

    /// Sends what waits at the exits.
    async fn flush(&mut self) -> Result<Sent> {
        for element in self.chain.exits() {
            let sent = match element {
                Element::Batch(edge, batch) => {
                    let exit = self
                        .exits
                        .get_mut(&edge)
                        .expect("every edge out has an exit");
                    exit.send(edge, self.index, batch).await?
                }
                Element::Watermark(edge, _) => self.exits[&edge].receiver.broadcast(&element).await,
                Element::Barrier(_) | Element::End => Sent::Through,
            };
            if sent == Sent::Closed {
                return Ok(Sent::Closed);
            }
        }
        Ok(Sent::Through)
    }

    fn report(&mut self, barrier: Barrier) -> Result<()> {
        let watermarks: BTreeMap<Arc<PartitionId>, EventTime> =
            self.heads.values().flat_map(Head::watermarks).collect();
        let cut = Cut::Lane {
            lane: self.index,
            snapshots: self.chain.snapshot()?,
            ledger: self.chain.take_ledger(),
            watermarks,
        };
        // A job that is gone needs no report.
        let _ = self.reports.send(Report::Cut(barrier.epoch, cut));
        Ok(())
    }

    /// Replaces this lane's share in the gauges of state.
    fn update_state_gauges(&self, before: &mut BTreeMap<usize, u64>) {
        for (index, (gauge, bytes)) in self.chain.state_bytes().enumerate() {
            let bytes = bytes as u64;
            let old = before.insert(index, bytes).unwrap_or(0);
            gauge
                .state_bytes
                .fetch_add(bytes.wrapping_sub(old), Ordering::Relaxed);
        }
    }
}
