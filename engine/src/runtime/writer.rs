//! The task of one sink on one lane.

use std::{sync::Arc, time::Instant};

use super::{
    gauges::{NodeGauge, add},
    lane::{Inputs, Message, Received},
    report::{Cut, Report, Reports},
};
use crate::{Element, Origin, Result, element::Barrier, ledger::Ledger, sink::Sink};

/// Everything one lane of one sink owns.
pub(super) struct Writer {
    pub(super) node: Arc<str>,
    pub(super) lane: usize,
    pub(super) inputs: Inputs,
    pub(super) sink: Box<dyn Sink>,
    pub(super) gauge: Arc<NodeGauge>,
    pub(super) reports: Reports,
}

impl Writer {
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
                Received::Message(..) | Received::End => {}
                Received::Barrier(barrier) => self.cut(barrier, ledger.take()).await?,
                Received::Closed => return Ok(()),
            }
        }
    }

    async fn cut(&mut self, barrier: Barrier, ledger: Ledger) -> Result<()> {
        let cut = self.sink.cut(barrier.kind).await?;
        let cut = Cut::Writer {
            node: Arc::clone(&self.node),
            lane: self.lane,
            files: cut.files,
            removed: cut.removed,
            snapshot: cut.snapshot,
            ledger,
        };
        // A job that is gone needs no report.
        let _ = self.reports.send(Report::Cut(barrier.epoch, cut));
        Ok(())
    }
}
