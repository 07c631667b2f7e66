//! A source whose rows a test writes.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

use arrow::{
    array::{Int64Array, StringArray, TimestampMicrosecondArray},
    datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit},
    record_batch::RecordBatch,
};
use async_trait::async_trait;
use tokio::sync::Notify;

use crate::{
    Error, Result,
    source::{
        Chunk, Decoded, Decoder, EncodedRows, Growth, Offset, Positions, Reference, Rejected, Rows,
        Source, SourceEvent, SourceReader,
    },
};

/// The columns of a [`ScriptDecoder`]: `ts`, `key`, `value`.
pub fn script_schema() -> SchemaRef {
    let utc = DataType::Timestamp(TimeUnit::Microsecond, Some(Arc::from("UTC")));
    Arc::new(Schema::new(vec![
        Field::new("ts", utc, false),
        Field::new("key", DataType::Utf8, false),
        Field::new("value", DataType::Int64, false),
    ]))
}

/// The rows of a [`ScriptedSource`], as `ts,key,value` lines by partition. A test may add rows
/// while the source is read.
#[derive(Debug, Default)]
pub struct Script {
    partitions: Mutex<BTreeMap<Arc<str>, Vec<String>>>,
    added: Notify,
}

impl Script {
    /// Appends rows to a partition.
    pub fn push(&self, partition: &str, rows: impl IntoIterator<Item = String>) {
        let mut partitions = self
            .partitions
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        partitions
            .entry(Arc::from(partition))
            .or_default()
            .extend(rows);
        self.added.notify_waiters();
    }

    fn rows(&self, partition: &str, from: Offset, most: usize) -> Vec<String> {
        let partitions = self
            .partitions
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let rows = partitions.get(partition).map_or(&[][..], Vec::as_slice);
        rows.iter()
            .skip(usize::try_from(from).unwrap_or(0))
            .take(most)
            .cloned()
            .collect()
    }

    fn names(&self) -> Vec<Arc<str>> {
        let partitions = self
            .partitions
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        partitions.keys().cloned().collect()
    }
}

/// Reads a [`Script`], `chunk` rows at a time, from the partitions in turn. Offsets are row
/// numbers.
pub struct ScriptedSource {
    /// The rows to read.
    pub script: Arc<Script>,
    /// The number of rows in a chunk.
    pub chunk: usize,
    /// Whether it ends with the script, or waits for more rows.
    pub bounded: Bounded,
    /// The reference for the event times.
    pub reference: Reference,
}

/// Whether a scripted source ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bounded {
    /// At the end of the script.
    Yes,
    /// Never: it reports that it has caught up, and waits.
    No,
}

#[async_trait]
impl Source for ScriptedSource {
    async fn open(&self, positions: &Positions) -> Result<Box<dyn SourceReader>> {
        let start = |name: Arc<str>| {
            let next = positions.get(&name).copied().unwrap_or(0);
            (name, next)
        };
        let assigned: Vec<_> = self.script.names().into_iter().map(start).collect();
        Ok(Box::new(Reader {
            script: Arc::clone(&self.script),
            chunk: self.chunk,
            bounded: self.bounded,
            reference: self.reference.clone(),
            events: VecDeque::from([SourceEvent::Assigned(assigned.clone())]),
            reading: assigned.into(),
            waiting: BTreeMap::new(),
        }))
    }
}

struct Reader {
    script: Arc<Script>,
    chunk: usize,
    bounded: Bounded,
    reference: Reference,
    events: VecDeque<SourceEvent>,
    reading: VecDeque<(Arc<str>, Offset)>,
    /// Partitions at their end.
    waiting: BTreeMap<Arc<str>, Offset>,
}

#[async_trait]
impl SourceReader for Reader {
    async fn next(&mut self) -> Result<SourceEvent> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(event);
            }
            tokio::task::yield_now().await;
            let added = Arc::clone(&self.script);
            let added = added.added.notified();
            let woken: Vec<_> = self
                .waiting
                .iter()
                .filter(|(name, next)| !self.script.rows(name, **next, 1).is_empty())
                .map(|(name, next)| (Arc::clone(name), *next))
                .collect();
            for (name, next) in woken {
                self.waiting.remove(&name);
                self.reading.push_back((name, next));
            }
            let Some((partition, next)) = self.reading.pop_front() else {
                added.await;
                continue;
            };
            let rows = self.script.rows(&partition, next, self.chunk);
            if !rows.is_empty() {
                let after = next + rows.len() as Offset;
                self.reading.push_back((Arc::clone(&partition), after));
                let rows = Rows::Encoded(encode(&rows, next, self.reference.clone()));
                return Ok(SourceEvent::Chunk(Chunk {
                    partition,
                    first: next,
                    next: after,
                    rows,
                }));
            }
            if self.bounded == Bounded::No {
                self.waiting.insert(Arc::clone(&partition), next);
                return Ok(SourceEvent::CaughtUp {
                    partition,
                    end: next,
                });
            }
            if self.reading.is_empty() {
                self.events
                    .push_back(SourceEvent::Exhausted(Growth::Complete));
            }
            return Ok(SourceEvent::Finished(partition));
        }
    }

    fn pause(&mut self, _partition: &str) {}

    fn resume(&mut self, _partition: &str) {}

    fn committed(&mut self, _positions: &Positions) {}
}

pub(crate) fn encode(rows: &[String], first: Offset, reference: Reference) -> EncodedRows {
    let mut encoded = EncodedRows {
        reference,
        ..EncodedRows::default()
    };
    let mut data = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        let start = data.len() as u32;
        data.extend_from_slice(row.as_bytes());
        encoded.spans.push((start, data.len() as u32));
        encoded.offsets.push(first + index as Offset);
    }
    encoded.data = data.into();
    encoded
}

/// Decodes `ts,key,value`, and rejects any other text.
#[derive(Debug, Default)]
pub struct ScriptDecoder;

impl Decoder for ScriptDecoder {
    fn decode(&mut self, rows: &Rows) -> Result<Decoded> {
        let Rows::Encoded(rows) = rows else {
            return Err(Error::internal("a script has text only"));
        };
        let (mut times, mut keys, mut values, mut rejected) = (vec![], vec![], vec![], vec![]);
        for row in 0..rows.len() {
            let text = rows
                .row(row)
                .and_then(|bytes| std::str::from_utf8(bytes).ok());
            match text.and_then(parse) {
                Some((time, key, value)) => {
                    times.push(time);
                    keys.push(key);
                    values.push(value);
                }
                None => rejected.push(Rejected {
                    row: row as u32,
                    reason: "not_script",
                    field: None,
                    message: "not `ts,key,value`".to_owned(),
                }),
            }
        }
        let records = RecordBatch::try_new(
            script_schema(),
            vec![
                Arc::new(TimestampMicrosecondArray::from(times).with_timezone("UTC")),
                Arc::new(StringArray::from(keys)),
                Arc::new(Int64Array::from(values)),
            ],
        )?;
        Ok(Decoded { records, rejected })
    }
}

/// A row of a script: time in microseconds, key, value.
pub fn parse(row: &str) -> Option<(i64, &str, i64)> {
    let mut fields = row.split(',');
    let row = (
        fields.next()?.parse().ok()?,
        fields.next()?,
        fields.next()?.parse().ok()?,
    );
    fields.next().is_none().then_some(row)
}
