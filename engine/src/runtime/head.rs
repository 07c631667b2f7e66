//! The head of a lane: turns a source's rows into timed rows.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
};

use arrow::{
    array::{AsArray, RecordBatch},
    datatypes::TimestampMicrosecondType,
};

use super::{
    chain::Chain,
    decoding::Judged,
    gauges::{PartitionGauge, add},
};
use crate::{
    Batch, Error, EventTime, Port, Result, Watermark,
    graph::{NodeId, OnError, SourceNode, TimePolicy},
    source::{DeadLetters, PartitionId, Rejected, Rows},
    watermark::PartitionWatermark,
};

/// One source's dead letters and watermarks on one lane.
///
/// Rows that were set aside become dead letters and move no watermark; the others go on,
/// cut into segments so that each comes behind the watermark that may make it
/// late ([`PartitionWatermark`]).
pub(super) struct Head {
    source: NodeId,
    name: Arc<str>,
    dead_letters: Box<dyn DeadLetters>,
    time: TimePolicy,
    partitions: BTreeMap<Arc<str>, Partition>,
}

struct Partition {
    id: Arc<PartitionId>,
    watermark: PartitionWatermark,
    liveness: Liveness,
    gauge: Arc<PartitionGauge>,
}

/// Whether a partition takes part in the watermark.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Liveness {
    Live,
    Idle,
    Finished,
}

/// A partition that the reader gives to a lane.
#[derive(Debug, Clone)]
pub(super) struct Assignment {
    pub(super) id: Arc<PartitionId>,
    /// The watermark of the last commit.
    pub(super) watermark: EventTime,
    pub(super) gauge: Arc<PartitionGauge>,
}

impl Head {
    /// The head of `source`.
    pub(super) fn new(id: NodeId, name: &Arc<str>, source: &SourceNode) -> Result<Self> {
        Ok(Self {
            source: id,
            name: Arc::clone(name),
            dead_letters: (source.dead_letters)()?,
            time: source.time.clone(),
            partitions: BTreeMap::new(),
        })
    }

    /// Takes over partitions; a lane that has none is idle.
    pub(super) fn assign(&mut self, partitions: Vec<Assignment>, chain: &mut Chain) -> Result<()> {
        for Assignment {
            id,
            watermark,
            gauge,
        } in partitions
        {
            let watermark =
                PartitionWatermark::new(self.time.delay, self.time.granularity, watermark);
            let partition = Partition {
                id: Arc::clone(&id),
                watermark,
                liveness: Liveness::Live,
                gauge,
            };
            self.partitions.insert(Arc::clone(&id.partition), partition);
        }
        self.pass_on(chain)
    }

    /// The partition has been at its end for long enough.
    pub(super) fn idle(&mut self, partition: &str, chain: &mut Chain) -> Result<()> {
        self.set(partition, Liveness::Idle, chain)
    }

    /// The partition will give no row any more.
    pub(super) fn finish(&mut self, partition: &str, chain: &mut Chain) -> Result<()> {
        self.set(partition, Liveness::Finished, chain)
    }

    /// The source promises that no row of the partition follows that is older
    /// than `at`.
    pub(super) fn promised(
        &mut self,
        partition: &str,
        at: EventTime,
        chain: &mut Chain,
    ) -> Result<()> {
        self.wake(partition, chain)?;
        if let Some(partition) = self.partitions.get_mut(partition) {
            partition.watermark.raise(at);
            let reached = partition.watermark.current().as_micros();
            partition.gauge.watermark.store(reached, Ordering::Relaxed);
        }
        self.pass_on(chain)
    }

    /// Sends the rows of a chunk down the chain.
    pub(super) fn rows(&mut self, judged: Box<Judged>, chain: &mut Chain) -> Result<()> {
        let Judged {
            chunk,
            records,
            rejected,
        } = *judged;
        self.wake(&chunk.partition, chain)?;
        let others = self.lowest_but(Some(&chunk.partition));
        let partition = self.partitions.get_mut(&chunk.partition).ok_or_else(|| {
            Error::internal(format!(
                "rows of `{}`, which was not assigned",
                chunk.partition
            ))
        })?;
        let id = Arc::clone(&partition.id);
        let counts = chain.ledger(self.source).of(&id);
        counts.rows_in += chunk.rows.len() as u64;
        counts.dead_letter += rejected.len() as u64;
        if let Some(first) = rejected.first() {
            if self.time.on_error == OnError::Fail {
                return Err(refusal(&id, &chunk.rows, first));
            }
            add(&partition.gauge.dead_letters, rejected.len());
            let letters = self.dead_letters.batch(&self.name, &chunk, &rejected)?;
            chain.emit(self.source, Port::ASIDE, Batch::derived(letters))?;
        }

        let segments = partition
            .watermark
            .advance(event_times(&records, &self.time)?);
        let reached = partition.watermark.current().as_micros();
        partition.gauge.watermark.store(reached, Ordering::Relaxed);
        for segment in segments {
            let rows = records.slice(segment.rows.start, segment.rows.len());
            chain.emit(
                self.source,
                Port::MAIN,
                Batch::of_partition(rows, Arc::clone(&id)),
            )?;
            let lowest = others.map_or(segment.watermark, |other| other.min(segment.watermark));
            chain.emit_watermark(self.source, Watermark::At(lowest))?;
        }
        Ok(())
    }

    /// The watermark of each partition, for the commit.
    pub(super) fn watermarks(&self) -> impl Iterator<Item = (Arc<PartitionId>, EventTime)> {
        self.partitions
            .values()
            .map(|partition| (Arc::clone(&partition.id), partition.watermark.current()))
    }

    /// An idle partition speaks again: everyone must hear that before its rows.
    fn wake(&mut self, partition: &str, chain: &mut Chain) -> Result<()> {
        let is_idle = |partition: &Partition| partition.liveness == Liveness::Idle;
        if self.partitions.get(partition).is_some_and(is_idle) {
            self.set(partition, Liveness::Live, chain)?;
        }
        Ok(())
    }

    fn set(&mut self, partition: &str, liveness: Liveness, chain: &mut Chain) -> Result<()> {
        if let Some(partition) = self.partitions.get_mut(partition) {
            partition.liveness = liveness;
            partition
                .gauge
                .idle
                .store(liveness == Liveness::Idle, Ordering::Relaxed);
        }
        self.pass_on(chain)
    }

    fn pass_on(&self, chain: &mut Chain) -> Result<()> {
        let watermark = self.lowest_but(None).map_or(Watermark::Idle, Watermark::At);
        chain.emit_watermark(self.source, watermark)
    }

    /// The lowest watermark of the live partitions other than `partition`.
    fn lowest_but(&self, partition: Option<&str>) -> Option<EventTime> {
        self.partitions
            .values()
            .filter(|other| other.liveness == Liveness::Live)
            .filter(|other| Some(other.id.partition.as_ref()) != partition)
            .map(|other| other.watermark.current())
            .min()
    }
}

fn event_times<'a>(records: &'a RecordBatch, time: &TimePolicy) -> Result<&'a [i64]> {
    records
        .column(time.column)
        .as_primitive_opt::<TimestampMicrosecondType>()
        .map(|times| times.values().as_ref())
        .ok_or_else(|| Error::internal("the event time is not a timestamp in microseconds"))
}

/// The error of `on_error: fail`.
fn refusal(partition: &PartitionId, rows: &Rows, rejected: &Rejected) -> Error {
    let offset = rows.offset(rejected.row as usize);
    Error::data(format!(
        "row {offset} of `{partition}` cannot be read: {}; `on_error: dead_letter` would set it aside",
        rejected.message
    ))
}
