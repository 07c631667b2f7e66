//! A log like Kafka's, and a source that reads it as the Kafka source does.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Range,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use object_store::{Error as StoreError, ObjectStoreExt, path::Path};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use tokio::sync::Notify;

use super::trace::Trace;
use crate::{
    Error, Result,
    source::{
        Chunk, EncodedRows, Offset, Positions, Reference, Rows, Source, SourceEvent, SourceReader,
    },
    testing::store::FaultyStore,
};

/// A topic: partitions of rows. Retention deletes rows from the start of a partition.
#[derive(Default)]
pub(super) struct Broker {
    partitions: Mutex<BTreeMap<Arc<str>, Partition>>,
    appended: Notify,
}

/// A partition: a row at each offset, or `None` where compaction removed it.
#[derive(Debug, Clone, Default)]
pub(super) struct Partition {
    pub(super) rows: Vec<Option<String>>,
    /// The first offset that can still be read.
    start: Offset,
    /// The offsets that readers reported as lost.
    pub(super) lost: Vec<Range<Offset>>,
}

impl Broker {
    /// Appends rows, and creates the partition if it does not exist.
    pub(super) fn append(&self, partition: &str, rows: Vec<Option<String>>) {
        let mut partitions = self.lock();
        partitions
            .entry(Arc::from(partition))
            .or_default()
            .rows
            .extend(rows);
        drop(partitions);
        self.appended.notify_waiters();
    }

    /// Deletes the first rows of a partition, up to `share` of them.
    pub(super) fn expire(&self, partition: usize, share: f64) {
        if let Some(partition) = self.lock().values_mut().nth(partition) {
            let start = (partition.rows.len() as f64 * share) as Offset;
            partition.start = partition.start.max(start);
        }
    }

    /// Restores all deleted rows.
    pub(super) fn restore(&self) {
        self.lock()
            .values_mut()
            .for_each(|partition| partition.start = 0);
    }

    /// The current partitions.
    pub(super) fn partitions(&self) -> BTreeMap<Arc<str>, Partition> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Partition>> {
        self.partitions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// The reaction of a reader to lost rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OnDataLoss {
    Fail,
    Record,
}

/// Reads a [`Broker`] in a process.
pub(super) struct SimSource {
    pub(super) name: &'static str,
    pub(super) broker: Arc<Broker>,
    /// The store of the process. It also contains the offsets of its group, which only this source
    /// reads.
    pub(super) process: FaultyStore,
    /// The highest number of rows in a chunk.
    pub(super) chunk: usize,
    pub(super) on_data_loss: OnDataLoss,
    /// How often rows are delivered again, the broker is unreachable, or its answers are slow.
    pub(super) trouble: f64,
    pub(super) seed: AtomicU64,
    pub(super) trace: Trace,
}

impl SimSource {
    fn group(&self) -> Path {
        Path::from(format!("group/{}", self.name))
    }
}

#[async_trait]
impl Source for SimSource {
    async fn open(&self, positions: &Positions) -> Result<Box<dyn SourceReader>> {
        // The group's offsets are a hint for others; the commit log decides.
        match self.process.get(&self.group()).await {
            Ok(_) | Err(StoreError::NotFound { .. }) => {}
            Err(error) => {
                return Err(
                    Error::external("the group's offsets cannot be read").with_source(error)
                );
            }
        }
        let mut reader = SimReader {
            name: self.name,
            broker: Arc::clone(&self.broker),
            process: self.process.clone(),
            group: self.group(),
            chunk: self.chunk,
            on_data_loss: self.on_data_loss,
            trouble: self.trouble,
            random: SmallRng::seed_from_u64(self.seed.fetch_add(1, Ordering::Relaxed)),
            positions: positions.clone(),
            reading: BTreeMap::new(),
            events: VecDeque::new(),
            trace: self.trace.clone(),
        };
        reader.assign();
        if reader.events.is_empty() {
            reader.events.push_back(SourceEvent::Assigned(Vec::new()));
        }
        Ok(Box::new(reader))
    }
}

struct SimReader {
    name: &'static str,
    broker: Arc<Broker>,
    process: FaultyStore,
    group: Path,
    chunk: usize,
    on_data_loss: OnDataLoss,
    trouble: f64,
    random: SmallRng,
    /// The start positions.
    positions: Positions,
    reading: BTreeMap<Arc<str>, Reading>,
    events: VecDeque<SourceEvent>,
    trace: Trace,
}

#[derive(Debug, Clone, Copy)]
struct Reading {
    next: Offset,
    said_caught_up: bool,
    paused: bool,
}

impl SimReader {
    /// Finds new partitions.
    fn assign(&mut self) {
        let mut assigned = Vec::new();
        for (name, partition) in self.broker.lock().iter_mut() {
            if self.reading.contains_key(name) {
                continue;
            }
            let next = self.positions.get(name).copied().unwrap_or_else(|| {
                // It is read from the earliest row. Earlier rows belonged to no reader.
                partition.lost.push(0..partition.start);
                partition.start
            });
            assigned.push((Arc::clone(name), next));
        }
        for (name, next) in &assigned {
            let reading = Reading {
                next: *next,
                said_caught_up: false,
                paused: false,
            };
            self.reading.insert(Arc::clone(name), reading);
        }
        if !assigned.is_empty() {
            self.events.push_back(SourceEvent::Assigned(assigned));
        }
    }

    /// The next event, if there is one.
    fn step(&mut self) -> Result<Option<SourceEvent>> {
        self.assign();
        if let Some(event) = self.events.pop_front() {
            return Ok(Some(event));
        }
        let broker = Arc::clone(&self.broker);
        let mut partitions = broker.lock();
        let has_more = |(name, reading): &(&Arc<str>, &Reading)| {
            let partition = &partitions[*name];
            let end = partition.rows.len() as Offset;
            !reading.paused && (reading.next < end || !reading.said_caught_up)
        };
        let able = self.reading.iter().filter(has_more);
        let able: Vec<Arc<str>> = able.map(|(name, _)| Arc::clone(name)).collect();
        if able.is_empty() {
            return Ok(None);
        }
        if self.random.random_bool(self.trouble / 4.0) {
            self.events.push_back(SourceEvent::Reachable);
            return Ok(Some(SourceEvent::Unreachable("it is away".to_owned())));
        }
        let name = &able[self.random.random_range(0..able.len())];
        let partition = partitions.get_mut(name).expect("it is read");
        let reading = self.reading.get_mut(name).expect("it is able");
        if reading.next < partition.start {
            let (from, to) = (reading.next, partition.start);
            if self.on_data_loss == OnDataLoss::Fail {
                return Err(Error::data(format!(
                    "rows {from} to {to} of `{name}` are gone"
                )));
            }
            partition.lost.push(from..to);
            reading.next = to;
            return Ok(Some(SourceEvent::Lost {
                partition: Arc::clone(name),
                from,
                to,
            }));
        }
        let again = reading.next > partition.start && self.random.random_bool(self.trouble);
        let (first, most) = if again {
            let first = self.random.random_range(partition.start..reading.next);
            (first, (reading.next - first) as usize)
        } else {
            (reading.next, self.random.random_range(1..=self.chunk))
        };
        let rows = (first..).zip(&partition.rows[first as usize..]);
        let mut encoded = EncodedRows {
            reference: Reference::None,
            ..EncodedRows::default()
        };
        let mut data = Vec::new();
        for (offset, row) in rows.take(most) {
            let Some(row) = row else { continue };
            let start = data.len() as u32;
            data.extend_from_slice(row.as_bytes());
            encoded.spans.push((start, data.len() as u32));
            encoded.offsets.push(offset);
        }
        encoded.data = data.into();
        if again {
            let Some(last) = encoded.offsets.last() else {
                return Ok(Some(SourceEvent::Reachable));
            };
            return Ok(Some(SourceEvent::Chunk(Chunk {
                partition: Arc::clone(name),
                first,
                next: last + 1,
                rows: Rows::Encoded(encoded),
            })));
        }
        let end = partition.rows.len() as Offset;
        let Some(last) = encoded.offsets.last() else {
            // No row, or only rows that compaction removed.
            reading.next = end.min(first + most as Offset);
            if reading.next < end {
                return Ok(Some(SourceEvent::Reachable));
            }
            reading.said_caught_up = true;
            return Ok(Some(SourceEvent::CaughtUp {
                partition: Arc::clone(name),
                end,
            }));
        };
        reading.next = last + 1;
        reading.said_caught_up = false;
        Ok(Some(SourceEvent::Chunk(Chunk {
            partition: Arc::clone(name),
            first,
            next: last + 1,
            rows: Rows::Encoded(encoded),
        })))
    }
}

#[async_trait]
impl SourceReader for SimReader {
    async fn next(&mut self) -> Result<SourceEvent> {
        loop {
            // All waits precede a step, so a dropped call loses no event.
            self.process.awake().await;
            let slow = self.random.random_bool(self.trouble);
            let pause = self.random.random_range(0..if slow { 150 } else { 3 });
            tokio::time::sleep(Duration::from_millis(pause)).await;
            self.process.awake().await;
            let broker = Arc::clone(&self.broker);
            let appended = broker.appended.notified();
            if let Some(event) = self.step()? {
                self.trace.note(format_args!("{}: {event:?}", self.name));
                return Ok(event);
            }
            appended.await;
        }
    }

    fn pause(&mut self, partition: &str) {
        if let Some(reading) = self.reading.get_mut(partition) {
            self.trace
                .note(format_args!("{} pauses {partition}", self.name));
            reading.paused = true;
        }
    }

    fn resume(&mut self, partition: &str) {
        if let Some(reading) = self.reading.get_mut(partition) {
            self.trace
                .note(format_args!("{} resumes {partition}", self.name));
            reading.paused = false;
        }
    }

    fn committed(&mut self, positions: &Positions) {
        let (process, group) = (self.process.clone(), self.group.clone());
        let text = format!("{positions:?}");
        tokio::spawn(async move {
            // Advisory: no task waits for it.
            let _ = process.put(&group, text.into()).await;
        });
    }
}
