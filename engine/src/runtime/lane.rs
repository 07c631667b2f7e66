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
    channel::{Closed, Receiver, Sender},
    decoding::Decoding,
    gauges::{NodeGauge, add},
    message::Message,
    source_stage::SourceStage,
    task_event::{CheckpointAck, TaskEvent, TaskEvents},
};
use crate::{
    Batch, Element, Error, EventTime, Result,
    element::{Barrier, EdgeId},
    graph::{NodeId, Partitioning},
    source::PartitionId,
    state::{KeyHasher, lane_of},
    state_query::StateQueryRequest,
};

/// The sender of an input's messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Upstream {
    /// The reader of this source.
    SourceTask(NodeId),
    /// This lane of the upstream fragment.
    Lane(usize),
}

/// One input channel, and whether it has delivered the current barrier.
struct Input {
    upstream: Upstream,
    receiver: Receiver<Message>,
    /// Decodes the chunks of a reader.
    decoding: Option<Decoding>,
    /// It has delivered the barrier that other inputs have not.
    held: bool,
    ended: bool,
}

/// The inputs of a task, merged fairly and aligned at barriers.
pub(super) struct Inputs {
    merged: Vec<Input>,
    next: usize,
    /// All rows of the ended inputs are before this time.
    end: EventTime,
}

/// An item of the merged inputs.
pub(super) enum Received {
    /// A message that is not a barrier and not an end.
    Message(Upstream, Message),
    /// All inputs have delivered this barrier.
    Barrier(Barrier),
    /// All inputs have ended. All their rows are before this time.
    End(EventTime),
    /// All senders are dropped: the job has ended.
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
            merged: receivers.into_iter().map(input).collect(),
            next: 0,
            end: EventTime::MIN,
        }
    }

    /// Lets `decoding` decode the chunks from the reader of `source`.
    pub(super) fn decode(&mut self, source: NodeId, decoding: Decoding) {
        let mut inputs = self.merged.iter_mut();
        if let Some(input) = inputs.find(|input| input.upstream == Upstream::SourceTask(source)) {
            input.decoding = Some(decoding);
        }
    }

    /// The next message, barrier or end.
    pub(super) async fn recv(&mut self) -> Received {
        poll_fn(|context| self.poll(context)).await
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Received> {
        let count = self.merged.len();
        for step in 0..count {
            let index = (self.next + step) % count;
            while !self.merged[index].held {
                let input = &mut self.merged[index];
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
                        if self.merged.iter().all(|input| input.held) {
                            self.merged.iter_mut().for_each(|input| input.held = false);
                            return Poll::Ready(Received::Barrier(barrier));
                        }
                        break;
                    }
                    Some(Message::Element(Element::End(end))) => {
                        input.ended = true;
                        self.end = self.end.max(end);
                        if self.merged.iter().all(|input| input.ended) {
                            return Poll::Ready(Received::End(self.end));
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
    /// The channels to the receiver, shared by all edges to it.
    receiver: Arc<Downstream>,
    /// Hashes the keys; created when the first batch shows their types.
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

    /// Sends each row to the lane that owns its key.
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

/// The channels from one lane to the lanes of a downstream fragment.
pub(super) struct Downstream {
    /// By the receiver's lane. A `Forward` edge to a sink leads only to the same lane.
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

/// Whether the receiver still exists.
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

/// The state of a lane of a fragment.
pub(super) struct Lane {
    pub(super) index: usize,
    pub(super) inputs: Inputs,
    pub(super) stages: BTreeMap<NodeId, SourceStage>,
    pub(super) chain: Chain,
    pub(super) exits: BTreeMap<EdgeId, Exit>,
    /// The receivers of all exits, each once.
    pub(super) downstream: Vec<Arc<Downstream>>,
    pub(super) gauges: Vec<Arc<NodeGauge>>,
    pub(super) reports: TaskEvents,
    pub(super) questions: broadcast::Receiver<StateQueryRequest>,
}

impl Lane {
    /// Runs until the job stops or a channel closes.
    pub(super) async fn run(mut self) -> Result<()> {
        let mut state_bytes = BTreeMap::new();
        loop {
            let received = tokio::select! {
                biased;
                Ok(question) = self.questions.recv() => {
                    self.chain.query_state(&question);
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
                Received::End(end) => {
                    let end = self
                        .stages
                        .values()
                        .map(SourceStage::end)
                        .fold(end, Ord::max);
                    self.chain.on_end(end);
                    Some(Element::End(end))
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
                if !self.chain.poll_output()? {
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
            (Upstream::SourceTask(source), message) => {
                let stage = self.stages.get_mut(&source).ok_or_else(|| {
                    Error::internal("rows of a source that this lane has no stage for")
                })?;
                match message {
                    Message::Assigned(partitions) => stage.assign(partitions, &mut self.chain),
                    Message::Unassigned(from) => stage.unassigned(from, &mut self.chain),
                    Message::Rows(rows) => stage.rows(rows?, &mut self.chain),
                    Message::Sleep => stage.set_asleep(true, &mut self.chain),
                    Message::Wake => stage.set_asleep(false, &mut self.chain),
                    Message::Promised(partition, at) => {
                        stage.promised(&partition, at, &mut self.chain)
                    }
                    Message::Finished(partition) => stage.finish(&partition, &mut self.chain),
                    Message::Chunk(_) => Err(Error::internal("a chunk that nobody has decoded")),
                    Message::Element(_) => Ok(()),
                }
            }
            (Upstream::Lane(_), _) => Err(Error::internal("a lane sent what only readers send")),
        }
    }

    /// Sends the elements at the exits.
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
                Element::Barrier(_) | Element::End(_) => Sent::Through,
            };
            if sent == Sent::Closed {
                return Ok(Sent::Closed);
            }
        }
        Ok(Sent::Through)
    }

    fn report(&mut self, barrier: Barrier) -> Result<()> {
        let watermarks: BTreeMap<Arc<PartitionId>, EventTime> = self
            .stages
            .values()
            .flat_map(SourceStage::watermarks)
            .collect();
        let cut = CheckpointAck::Lane {
            lane: self.index,
            snapshots: self.chain.snapshot()?,
            ledger: self.chain.take_ledger(),
            watermarks,
        };
        // A job that has ended needs no report.
        let _ = self
            .reports
            .send(TaskEvent::CheckpointAck(barrier.epoch, cut));
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
