//! The head of a lane: turns a source's chunks into timed rows.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
};

use arrow::{
    array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch},
    compute::filter_record_batch,
    datatypes::{DataType, Field, Schema, TimestampMicrosecondType},
};

use super::{
    chain::Chain,
    gauges::{PartitionGauge, add},
};
use crate::{
    Batch, Error, EventTime, Port, Result, Watermark,
    graph::{NodeId, OFFSET_COLUMN, OnError, SourceNode, TimePolicy, WithOffsets},
    source::{Chunk, DeadLetters, Decoded, Decoder, PartitionId, Rejected, Rows},
    watermark::PartitionWatermark,
};

/// One source's decoder, dead letters and watermarks on one lane.
///
/// Rows that cannot be read, have no plausible event time or lie before the
/// earliest one become dead letters and move no watermark; the others go on,
/// cut into segments so that each comes behind the watermark that may make it
/// late ([`PartitionWatermark`]).
pub(super) struct Head {
    source: NodeId,
    name: Arc<str>,
    decoder: Box<dyn Decoder>,
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
            decoder: (source.decoder)()?,
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

    /// Decodes a chunk and sends its rows down the chain.
    pub(super) fn chunk(&mut self, chunk: &Chunk, chain: &mut Chain) -> Result<()> {
        let decoded = self.decoder.decode(&chunk.rows)?;
        let (records, rejected) = judge(&self.time, &chunk.rows, decoded)?;
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
            let letters = self.dead_letters.batch(&self.name, chunk, &rejected)?;
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

/// Sets aside the rows whose event time is missing or not plausible, and adds
/// the offsets where they are asked for.
fn judge(time: &TimePolicy, rows: &Rows, decoded: Decoded) -> Result<(RecordBatch, Vec<Rejected>)> {
    let Decoded {
        records,
        mut rejected,
    } = decoded;
    let field = records.schema_ref().field(time.column).name().clone();
    for letter in &mut rejected {
        if letter.reason == "missing_field" && letter.field.as_ref() == Some(&field) {
            letter.reason = "no_event_time";
        }
    }

    let mut bad = rejected.iter().map(|letter| letter.row).peekable();
    let mut accepted = Vec::with_capacity(records.num_rows());
    for row in 0..rows.len() as u32 {
        if bad.next_if_eq(&row).is_none() {
            accepted.push(row);
        }
    }
    if accepted.len() != records.num_rows() {
        return Err(Error::internal(format!(
            "of {} rows the decoder gave {} and rejected {}",
            rows.len(),
            records.num_rows(),
            rejected.len()
        )));
    }

    let column = records.column(time.column);
    let times = column
        .as_primitive_opt::<TimestampMicrosecondType>()
        .ok_or_else(|| {
            Error::internal(format!("event time `{field}` is a {}", column.data_type()))
        })?;
    let mut implausible = Vec::new();
    for (index, &row) in accepted.iter().enumerate() {
        let event_time = times
            .is_valid(index)
            .then(|| EventTime::from_micros(times.value(index)));
        if let Some((reason, message)) = objection(time, event_time, rows.reference(row as usize)) {
            let field = Some(field.clone());
            implausible.push((
                index,
                Rejected {
                    row,
                    reason,
                    field,
                    message,
                },
            ));
        }
    }

    let mut records = with_offsets(time, records, rows, &accepted)?;
    if !implausible.is_empty() {
        let mut keep = vec![true; accepted.len()];
        for (index, _) in &implausible {
            keep[*index] = false;
        }
        records = filter_record_batch(&records, &BooleanArray::from(keep))?;
        rejected.extend(implausible.into_iter().map(|(_, letter)| letter));
        rejected.sort_by_key(|letter| letter.row);
    }
    Ok((records, rejected))
}

/// Why an event time cannot be, if it cannot.
fn objection(
    policy: &TimePolicy,
    event_time: Option<EventTime>,
    reference: Option<EventTime>,
) -> Option<(&'static str, String)> {
    let Some(event_time) = event_time else {
        return Some(("no_event_time", "the event time is null".to_owned()));
    };
    if event_time < policy.earliest {
        let message = format!("event time {event_time} is before {}", policy.earliest);
        return Some(("implausible_time", message));
    }
    let reference = reference?;
    (event_time > reference.saturating_add(policy.max_future)).then(|| {
        let ahead = event_time.since(reference).as_secs();
        let allowed = policy.max_future.as_secs();
        let message = format!(
            "event time {event_time} is {ahead} s ahead of {reference}; at most {allowed} s are allowed"
        );
        ("implausible_time", message)
    })
}

/// Appends [`OFFSET_COLUMN`] where the policy asks for it.
fn with_offsets(
    time: &TimePolicy,
    records: RecordBatch,
    rows: &Rows,
    accepted: &[u32],
) -> Result<RecordBatch> {
    if time.offsets == WithOffsets::No {
        return Ok(records);
    }
    let offsets: Int64Array = accepted
        .iter()
        .map(|&row| rows.offset(row as usize))
        .collect();
    let mut fields = records.schema_ref().fields().to_vec();
    fields.push(Arc::new(Field::new(OFFSET_COLUMN, DataType::Int64, false)));
    let mut columns = records.columns().to_vec();
    columns.push(Arc::new(offsets) as ArrayRef);
    Ok(RecordBatch::try_new(
        Arc::new(Schema::new(fields)),
        columns,
    )?)
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
