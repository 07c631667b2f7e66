//! Sources: where rows come from, and how their bytes become rows.

use std::{collections::BTreeMap, fmt, sync::Arc};

use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use bytes::Bytes;

use crate::{EventTime, Result};

/// A partition of a source: the unit of order, of positions and of watermarks.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionId {
    /// The source's name in the pipeline file.
    pub source: Arc<str>,
    /// The partition's stable name within the source: `topic/3`, a file's path.
    pub partition: Arc<str>,
}

impl PartitionId {
    /// The partition `partition` of `source`.
    pub fn new(source: impl Into<Arc<str>>, partition: impl Into<Arc<str>>) -> Self {
        Self {
            source: source.into(),
            partition: partition.into(),
        }
    }
}

impl fmt::Display for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.source, self.partition)
    }
}

/// A place in a partition: of a Kafka record, a byte of a file, a row of a
/// Parquet file. Positions name the *next* offset to read.
pub type Offset = i64;

/// Where to go on reading, by partition name.
pub type Positions = BTreeMap<Arc<str>, Offset>;

/// A configured source. Creating one touches no network.
#[async_trait]
pub trait Source: Send + Sync + 'static {
    /// Opens a reader that goes on at `positions`; partitions that are not in
    /// it start where the source's configuration says.
    ///
    /// # Errors
    /// `External` where the system cannot be reached and waiting will not be
    /// done by [`SourceReader::next`]; `Data` where a position cannot be read
    /// any more.
    async fn open(&self, positions: &Positions) -> Result<Box<dyn SourceReader>>;
}

/// An open source.
///
/// **Order.** The first event is [`SourceEvent::Assigned`] with every partition
/// known at the start (it may be empty); only [`SourceEvent::Unreachable`] and
/// [`SourceEvent::Reachable`] may come before it. A partition's chunks come in the order
/// of their offsets. **Restart.** A reader is dropped, never rewound; a new one
/// is opened at the positions of the last commit.
#[async_trait]
pub trait SourceReader: Send {
    /// The next event. Cancel-safe: a dropped call loses no event. After
    /// [`SourceEvent::Exhausted`] it never returns.
    async fn next(&mut self) -> Result<SourceEvent>;

    /// Stops reading `partition` (its watermark is too far ahead), until
    /// [`SourceReader::resume`]. Chunks already read may still come.
    fn pause(&mut self, partition: &str);

    /// Goes on reading `partition`.
    fn resume(&mut self, partition: &str);

    /// Told after each commit; for positions kept elsewhere for lag tools.
    /// Advisory: the commit log is the authority. Must not block.
    fn committed(&mut self, positions: &Positions);
}

/// What a reader has to say.
#[derive(Debug)]
pub enum SourceEvent {
    /// Partitions to be read from now on, each with its first offset.
    Assigned(Vec<(Arc<str>, Offset)>),
    /// Rows.
    Chunk(Chunk),
    /// The last fetch of this partition was empty at its end, at offset `end`.
    /// Said each time that the end is reached anew; the partition is not
    /// finished.
    CaughtUp {
        /// The partition.
        partition: Arc<str>,
        /// The offset of the row that would come next.
        end: Offset,
    },
    /// The source itself knows that no row of this partition follows that is
    /// older than `at`; one that is counts as late.
    Watermark {
        /// The partition.
        partition: Arc<str>,
        /// The promise.
        at: EventTime,
    },
    /// The partition is bounded and has been read to its end.
    Finished(Arc<str>),
    /// The source is bounded and all of it has been read. The last event.
    Exhausted,
    /// How many rows lie between what was read and the partition's end.
    Lag {
        /// The partition.
        partition: Arc<str>,
        /// Rows, as far as the source can tell.
        rows: u64,
    },
    /// The system behind the source cannot be reached; the reader keeps trying.
    Unreachable(String),
    /// It can be reached again.
    Reachable,
    /// Rows that were there are gone, and `on_data_loss: record` says to go on.
    Lost {
        /// The partition.
        partition: Arc<str>,
        /// The first lost offset.
        from: Offset,
        /// The offset after the last lost one.
        to: Offset,
    },
}

/// Rows of one partition, not yet decoded.
#[derive(Debug, Clone)]
pub struct Chunk {
    /// The partition.
    pub partition: Arc<str>,
    /// The offset of the first row.
    pub first: Offset,
    /// The position after the last row.
    pub next: Offset,
    /// The rows.
    pub rows: Rows,
}

/// The rows of a chunk.
#[derive(Debug, Clone)]
pub enum Rows {
    /// Bytes that a [`Decoder`] turns into columns.
    Encoded(EncodedRows),
    /// Columns already, as a columnar file gives them.
    Columns(ColumnRows),
}

impl Rows {
    /// How many rows.
    pub fn len(&self) -> usize {
        match self {
            Self::Encoded(rows) => rows.len(),
            Self::Columns(rows) => rows.records.num_rows(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The offset of row `row`.
    pub fn offset(&self, row: usize) -> Offset {
        match self {
            Self::Encoded(rows) => rows.offsets[row],
            Self::Columns(rows) => rows.first + row as Offset,
        }
    }

    /// What judges whether row `row` lies too far in the future.
    pub fn reference(&self, row: usize) -> Option<EventTime> {
        match self {
            Self::Encoded(rows) => rows.reference.of(row),
            Self::Columns(rows) => rows.reference.of(row),
        }
    }

    /// Lets all rows be judged by when they were received.
    pub fn receive(&mut self, at: EventTime) {
        let reference = match self {
            Self::Encoded(rows) => &mut rows.reference,
            Self::Columns(rows) => &mut rows.reference,
        };
        *reference = Reference::Received(at);
    }

    /// Bytes held in memory.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Encoded(rows) => rows.data.len() + rows.len() * 16,
            Self::Columns(rows) => rows.records.get_array_memory_size(),
        }
    }
}

/// Encoded rows back to back in one buffer.
#[derive(Debug, Clone, Default)]
pub struct EncodedRows {
    /// The bytes of all rows.
    pub data: Bytes,
    /// Where each row begins and ends in `data`; separators lie outside.
    pub spans: Vec<(u32, u32)>,
    /// The offset of each row.
    pub offsets: Vec<Offset>,
    /// The rows that had no value at all (Kafka tombstones), ascending; their
    /// spans are empty.
    pub tombstones: Vec<u32>,
    /// What a row's event time is judged against.
    pub reference: Reference,
}

impl EncodedRows {
    /// How many rows.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// The bytes of row `row`; `None` for a tombstone.
    pub fn row(&self, row: usize) -> Option<&[u8]> {
        if !self.tombstones.is_empty() && self.tombstones.binary_search(&(row as u32)).is_ok() {
            return None;
        }
        let (start, end) = self.spans[row];
        Some(&self.data[start as usize..end as usize])
    }
}

/// What a row's event time is judged against: the broker's clock where it
/// stamps records, else the time of receipt.
#[derive(Debug, Clone, Default)]
pub enum Reference {
    /// Nothing: every time is plausible.
    #[default]
    None,
    /// One time for all rows: when they were received.
    Received(EventTime),
    /// The broker's `LogAppendTime` of each row.
    Broker(Vec<EventTime>),
}

impl Reference {
    fn of(&self, row: usize) -> Option<EventTime> {
        match self {
            Self::None => None,
            Self::Received(time) => Some(*time),
            Self::Broker(times) => times.get(row).copied(),
        }
    }
}

/// Rows that are columns already. Offsets are row numbers.
#[derive(Debug, Clone)]
pub struct ColumnRows {
    /// The rows.
    pub records: RecordBatch,
    /// The row number of the first.
    pub first: Offset,
    /// What a row's event time is judged against.
    pub reference: Reference,
}

/// Turns a chunk into columns; synchronous and without I/O. A lane has several,
/// and any of them may get the next chunk: what one remembers may only make it
/// faster.
///
/// One bad row costs that row and nothing else: it is in
/// [`Decoded::rejected`], and all others are in [`Decoded::records`] in order.
pub trait Decoder: Send {
    /// Decodes every row of a chunk.
    ///
    /// # Errors
    /// `Internal` only; what is wrong with a row is not an error.
    fn decode(&mut self, rows: &Rows) -> Result<Decoded>;
}

/// A decoded chunk: `records.num_rows() + rejected.len()` is the chunk's length.
#[derive(Debug)]
pub struct Decoded {
    /// The good rows, in order.
    pub records: RecordBatch,
    /// The bad rows, ascending by row.
    pub rejected: Vec<Rejected>,
}

/// A row that could not be read, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// Its place in the chunk.
    pub row: u32,
    /// A short, stable name of the reason: `not_json`, `wrong_type`,
    /// `missing_field`, `no_event_time`, `implausible_time`, `too_large`,
    /// `empty`, `empty_key`, `tombstone`, `invalid_utf8`.
    pub reason: &'static str,
    /// The field where it happened, where there is one.
    pub field: Option<String>,
    /// The whole message.
    pub message: String,
}

/// Makes rows of the dead-letter table. One per lane.
pub trait DeadLetters: Send {
    /// The dead letters of `rejected` rows of `chunk`, as one batch of the
    /// dead-letter table's shape.
    fn batch(&mut self, source: &str, chunk: &Chunk, rejected: &[Rejected]) -> Result<RecordBatch>;
}
