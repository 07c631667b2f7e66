//! The head of a lane: turns a source's rows into rows with watermarks.

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
    decoded_chunk::DecodedChunk,
    gauges::{PartitionGauge, add},
    message::Assignment,
};
use crate::{
    Batch, Error, EventTime, Port, Result, Watermark,
    graph::{NodeId, OnError, SourceNode, TimePolicy},
    source::{DeadLetters, PartitionId, Rejected, Rows},
    watermark::PartitionWatermark,
};

/// One source's dead letters and watermarks on one lane.
///
/// Rejected rows become dead letters and do not affect the watermark. The others are split into
/// segments, so that each row follows the watermark that may make it late ([`PartitionWatermark`]).
pub(super) struct SourceStage {
    source: NodeId,
    name: Arc<str>,
    dead_letters: Box<dyn DeadLetters>,
    time: TimePolicy,
    /// The partitions that may have more rows.
    partitions: BTreeMap<Arc<str>, Partition>,
    /// All rows of the finished partitions are before this time.
    end: EventTime,
    /// The last watermarks of the finished partitions.
    finished: Vec<(Arc<PartitionId>, EventTime)>,
    /// No row of a partition that is assigned later is older.
    unassigned: Option<EventTime>,
    /// The highest watermark so far.
    passed_on: EventTime,
    /// Whether all partitions of the source, on all lanes, are idle.
    asleep: bool,
}

struct Partition {
    id: Arc<PartitionId>,
    watermark: PartitionWatermark,
    gauge: Arc<PartitionGauge>,
}

impl SourceStage {
    /// The head of `source`.
    pub(super) fn new(id: NodeId, name: &Arc<str>, source: &SourceNode) -> Result<Self> {
        Ok(Self {
            source: id,
            name: Arc::clone(name),
            dead_letters: (source.dead_letters)()?,
            time: source.time.clone(),
            partitions: BTreeMap::new(),
            end: EventTime::MIN,
            finished: Vec::new(),
            unassigned: None,
            passed_on: EventTime::MIN,
            asleep: false,
        })
    }

    /// Adds partitions. A lane without partitions does not hold back the watermark.
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
                gauge,
            };
            self.partitions.insert(Arc::clone(&id.partition), partition);
        }
        self.pass_on(chain)
    }

    /// All partitions of the source have become idle, or one is active again.
    pub(super) fn set_asleep(&mut self, asleep: bool, chain: &mut Chain) -> Result<()> {
        self.asleep = asleep;
        self.pass_on(chain)
    }

    /// The partition has no more rows.
    pub(super) fn finish(&mut self, partition: &str, chain: &mut Chain) -> Result<()> {
        if let Some(partition) = self.partitions.remove(partition) {
            let last = partition.watermark.current();
            self.end = self.end.max(partition.watermark.end());
            self.finished.push((partition.id, last));
        }
        self.pass_on(chain)
    }

    /// Partitions that are assigned later have no row older than `from`; `None` if no partition
    /// follows.
    pub(super) fn unassigned(&mut self, from: Option<EventTime>, chain: &mut Chain) -> Result<()> {
        self.unassigned = from;
        self.pass_on(chain)
    }

    /// The source promises that no row of the partition older than `at` follows.
    pub(super) fn promised(
        &mut self,
        partition: &str,
        at: EventTime,
        chain: &mut Chain,
    ) -> Result<()> {
        if let Some(partition) = self.partitions.get_mut(partition) {
            partition.watermark.raise(at);
            let reached = partition.watermark.current().as_micros();
            partition.gauge.watermark.store(reached, Ordering::Relaxed);
        }
        self.pass_on(chain)
    }

    /// Sends the rows of a chunk into the chain.
    pub(super) fn rows(&mut self, decoded: Box<DecodedChunk>, chain: &mut Chain) -> Result<()> {
        let DecodedChunk {
            chunk,
            records,
            rejected,
        } = *decoded;
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
            chain.emit(self.source, Port::SIDE, Batch::derived(letters))?;
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
            self.passed_on = self.passed_on.max(lowest);
            chain.emit_watermark(self.source, Watermark::At(lowest))?;
        }
        Ok(())
    }

    /// The watermark of each partition, for the commit.
    pub(super) fn watermarks(&self) -> impl Iterator<Item = (Arc<PartitionId>, EventTime)> {
        let reading = self.partitions.values();
        reading
            .map(|partition| (Arc::clone(&partition.id), partition.watermark.current()))
            .chain(self.finished.iter().cloned())
    }

    /// All rows so far are before this time.
    pub(super) fn end(&self) -> EventTime {
        let ends = self.partitions.values().map(|it| it.watermark.end());
        ends.fold(self.end, Ord::max)
    }

    fn pass_on(&mut self, chain: &mut Chain) -> Result<()> {
        let watermark = match self.lowest_but(None) {
            // Even while the source is idle: only lanes with partitions become active again.
            None => Watermark::Absent,
            Some(_) if self.asleep => Watermark::Idle,
            Some(mut lowest) => {
                if self.partitions.is_empty() {
                    // Partitions that are not assigned yet hold back the watermark and never raise
                    // it.
                    lowest = lowest.min(self.passed_on);
                }
                self.passed_on = self.passed_on.max(lowest);
                Watermark::At(lowest)
            }
        };
        chain.emit_watermark(self.source, watermark)
    }

    /// The lowest watermark of the other partitions and of the partitions that are not assigned
    /// yet.
    fn lowest_but(&self, partition: Option<&str>) -> Option<EventTime> {
        self.partitions
            .values()
            .filter(|other| Some(other.id.partition.as_ref()) != partition)
            .map(|other| other.watermark.current())
            .chain(self.unassigned)
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
