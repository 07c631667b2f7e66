//! The task of a sink on a lane.

use std::{sync::Arc, time::Instant};

use super::{
    gauges::{NodeGauge, add},
    lane::{Inputs, Received},
    message::Message,
    task_event::{CheckpointAck, TaskEvent, TaskEvents},
};
use crate::{Element, Origin, Result, element::Barrier, ledger::Ledger, sink::Sink};

/// The state of a lane of a sink.
pub(super) struct SinkTask {
    pub(super) node: Arc<str>,
    pub(super) lane: usize,
    /// The target of the sink's output.
    pub(super) target: Option<Arc<str>>,
    pub(super) inputs: Inputs,
    pub(super) sink: Box<dyn Sink>,
    pub(super) gauge: Arc<NodeGauge>,
    pub(super) reports: TaskEvents,
}

impl SinkTask {
    /// Runs until a channel closes.
    pub(super) async fn run(mut self) -> Result<()> {
        let mut ledger = Ledger::default();
        loop {
            match self.inputs.recv().await {
                Received::Message(_, Message::Element(Element::Batch(_, batch))) => {
                    let rows = batch.num_rows();
                    add(&self.gauge.rows_in, rows);
                    if let Origin::Partition(partition) = &batch.origin {
                        ledger.of(partition).contributed += rows as u64;
                    }
                    let begun = Instant::now();
                    self.sink.write(batch).await?;
                    add(&self.gauge.busy_ns, begun.elapsed().as_nanos() as usize);
                }
                Received::Message(..) | Received::End(_) => {}
                Received::Barrier(barrier) => self.cut(barrier, ledger.take()).await?,
                Received::Closed => return Ok(()),
            }
        }
    }

    async fn cut(&mut self, barrier: Barrier, ledger: Ledger) -> Result<()> {
        let cut = self.sink.prepare_commit(barrier.kind).await?;
        let cut = CheckpointAck::Sink {
            node: Arc::clone(&self.node),
            lane: self.lane,
            target: self.target.clone(),
            committables: cut.committables,
            snapshot: cut.snapshot,
            ledger,
        };
        // A job that has ended needs no report.
        let _ = self
            .reports
            .send(TaskEvent::CheckpointAck(barrier.epoch, cut));
        Ok(())
    }
}
