//! A sink that keeps its rows for a test.

use std::{
    collections::BTreeMap,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use arrow::array::RecordBatch;
use async_trait::async_trait;
use tagflow_engine::{
    Batch, Result,
    element::BarrierKind,
    sink::{PreparedCommit, Sink, SinkContext, SinkFactory},
};

use super::pulse::Pulse;

/// The rows of one sink, from all lanes and across restarts.
#[derive(Clone)]
pub(super) struct Collector {
    collected: Arc<Mutex<Collected>>,
    pulse: Pulse,
}

#[derive(Default)]
struct Collected {
    batches: Vec<RecordBatch>,
    /// The number of barriers by lane.
    barriers: BTreeMap<usize, u64>,
}

impl Collector {
    /// Reports barriers to `pulse`.
    pub(super) fn new(pulse: Pulse) -> Self {
        Self {
            collected: Arc::default(),
            pulse,
        }
    }

    /// The rows since the last call.
    pub(super) fn take(&self) -> Vec<RecordBatch> {
        mem::take(&mut self.collected().batches)
    }

    /// The number of barriers that every lane has received.
    pub(super) fn barriers(&self) -> u64 {
        let collected = self.collected();
        collected.barriers.values().min().copied().unwrap_or(0)
    }

    fn collected(&self) -> MutexGuard<'_, Collected> {
        self.collected
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl SinkFactory for Collector {
    fn open(&self, context: SinkContext) -> Result<Box<dyn Sink>> {
        self.collected().barriers.entry(context.lane).or_default();
        Ok(Box::new(Open {
            collector: self.clone(),
            lane: context.lane,
        }))
    }
}

struct Open {
    collector: Collector,
    lane: usize,
}

#[async_trait]
impl Sink for Open {
    async fn write(&mut self, batch: Batch) -> Result<()> {
        self.collector.collected().batches.push(batch.records);
        Ok(())
    }

    async fn prepare_commit(&mut self, _kind: BarrierKind) -> Result<PreparedCommit> {
        let mut collected = self.collector.collected();
        *collected.barriers.entry(self.lane).or_default() += 1;
        self.collector.pulse.beat();
        Ok(PreparedCommit::default())
    }
}
