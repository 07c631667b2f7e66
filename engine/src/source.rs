//! Sources read rows, and decoders turn their bytes into columns.

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

/// A place in a partition: the number of a Kafka record, of a byte in a text file or of a row in a
/// file of columns. A position is the *next* offset to read.
pub type Offset = i64;

/// The next offset to read, by partition name.
pub type Positions = BTreeMap<Arc<str>, Offset>;

/// The systems that a source's positions belong to, by a part of the source: the id of the Kafka
/// cluster by topic. An offset of one system means another row in the next system.
pub type Systems = BTreeMap<Arc<str>, Arc<str>>;

/// A configured source. Its creation uses no network.
#[async_trait]
pub trait Source: Send + Sync + 'static {
    /// Opens a reader that continues at `positions`. A partition without a position starts where
    /// the source's configuration defines.
    ///
    /// # Errors
    /// `External` if the system cannot be reached and [`SourceReader::next`] will not wait for it.
    /// `Data` if a position can no longer be read.
    async fn open(&self, positions: &Positions) -> Result<Box<dyn SourceReader>>;

    /// Opens a reader as [`Source::open`] does. `systems` are the last that
    /// [`SourceEvent::System`] reported before the positions were committed. A source whose
    /// systems have ids overrides this method: it must not read positions in another system.
    async fn open_in(
        &self,
        positions: &Positions,
        systems: &Systems,
    ) -> Result<Box<dyn SourceReader>> {
        let _ = systems;
        self.open(positions).await
    }
}

/// An open source.
///
/// **Order.** The first event is [`SourceEvent::Assigned`] with every partition known at the start;
/// it may be empty. Only [`SourceEvent::Unreachable`], [`SourceEvent::Reachable`] and
/// [`SourceEvent::Unassigned`] may precede it. The chunks of a partition follow the order of their
/// offsets. **Restart.** A reader is dropped, never rewound. A new one is opened at the positions
/// of the last commit.
#[async_trait]
pub trait SourceReader: Send {
    /// Returns the next event. Cancel-safe: a dropped call loses no event. After
    /// [`SourceEvent::Exhausted`] it never returns.
    async fn next(&mut self) -> Result<SourceEvent>;

    /// Stops reading `partition`, whose watermark is too far ahead, until [`SourceReader::resume`].
    /// Chunks that are already read may still follow.
    fn pause(&mut self, partition: &str);

    /// Continues to read `partition`.
    fn resume(&mut self, partition: &str);

    /// How often the reader reports that a partition is at its end.
    fn end_reports(&self) -> EndReports {
        EndReports::Once
    }

    /// Called after each commit, so that a source can store positions for lag tools. Advisory: the
    /// commit log is the authority. Must not block.
    fn committed(&mut self, positions: &Positions);
}

/// How often a reader reports [`SourceEvent::CaughtUp`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndReports {
    /// Each time that the partition reaches its end. It stays there until a row is read.
    Once,
    /// Repeatedly while the partition stays at its end, each time for an empty fetch that began
    /// after the report before. A reader reports so if its system can fail silently: the engine
    /// must not skip rows that were never requested.
    Repeated,
}

/// An event of a reader.
#[derive(Debug)]
pub enum SourceEvent {
    /// The partitions to read from now on, each with its first offset.
    Assigned(Vec<(Arc<str>, Offset)>),
    /// The source will assign more partitions, and none of their rows is older than this time. The
    /// source's watermark stays at or below it until the next such event. `None`: every partition
    /// is assigned. [`EventTime::MAX`]: more may follow in a later run, and the watermark stays
    /// where the partitions left it. A source that never sends this event assigns all partitions at
    /// once.
    Unassigned(Option<EventTime>),
    /// All positions of a part of the source belong to this system from now on. Follows the
    /// [`SourceEvent::Assigned`] of the partitions that are read there, and comes before their
    /// first chunk.
    System {
        /// The part of the source: a topic.
        part: Arc<str>,
        /// The id of the system: of a Kafka cluster.
        id: Arc<str>,
    },
    /// Rows.
    Chunk(Chunk),
    /// The last fetch of this partition was empty at its end, at offset `end`. The partition is not
    /// finished. Reported each time that the partition reaches its end, and repeatedly while it
    /// stays there, each time for a fetch that began after the report before.
    CaughtUp {
        /// The partition.
        partition: Arc<str>,
        /// The offset of the next row.
        end: Offset,
    },
    /// The source guarantees that no row of this partition older than `at` follows. A row that
    /// breaks this is late.
    Watermark {
        /// The partition.
        partition: Arc<str>,
        /// The promise.
        at: EventTime,
    },
    /// The partition is bounded and has been read to its end.
    Finished(Arc<str>),
    /// The source is bounded and has been read completely. The last event.
    Exhausted(Growth),
    /// The number of rows between the position and the partition's end.
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
    /// Rows are lost, and `on_data_loss: record` lets the source continue.
    Lost {
        /// The partition.
        partition: Arc<str>,
        /// The first lost offset.
        from: Offset,
        /// The offset after the last lost one.
        to: Offset,
    },
}

/// Whether a bounded source that was read to its end may get more rows in a later run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Growth {
    /// It never gets more: its open windows may close.
    Complete,
    /// It may get more, as a folder with new files. A run that ends when it has caught up keeps its
    /// open windows.
    MayGrow,
}

/// Rows of a partition, not yet decoded.
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
    /// Columns, as a columnar file contains them.
    Columns(ColumnRows),
}

impl Rows {
    /// The number of rows.
    pub fn len(&self) -> usize {
        match self {
            Self::Encoded(rows) => rows.len(),
            Self::Columns(rows) => rows.records.num_rows(),
        }
    }

    /// Whether there are no rows.
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

    /// The reference time that limits the event time of row `row`.
    pub fn reference(&self, row: usize) -> Option<EventTime> {
        match self {
            Self::Encoded(rows) => rows.reference.of(row),
            Self::Columns(rows) => rows.reference.of(row),
        }
    }

    /// The values of the file's folders, the same for all rows.
    pub fn folders(&self) -> &[(Box<str>, Option<Box<str>>)] {
        let folders = match self {
            Self::Encoded(rows) => &rows.folders,
            Self::Columns(rows) => &rows.folders,
        };
        folders.as_deref().unwrap_or_default()
    }

    /// Sets the values of a file's folders for all rows.
    pub fn in_folders(&mut self, values: Option<FolderValues>) {
        let folders = match self {
            Self::Encoded(rows) => &mut rows.folders,
            Self::Columns(rows) => &mut rows.folders,
        };
        *folders = values;
    }

    /// Sets the time of receipt as the reference of all rows.
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

/// Values of columns that all rows of a chunk share and that are not in their bytes: those in the
/// names of a file's folders, as text. `None` is null.
pub type FolderValues = Arc<[(Box<str>, Option<Box<str>>)]>;

/// Encoded rows back to back in one buffer.
#[derive(Debug, Clone, Default)]
pub struct EncodedRows {
    /// The bytes of all rows.
    pub data: Bytes,
    /// The start and end of each row in `data`. Separators are outside.
    pub spans: Vec<(u32, u32)>,
    /// The offset of each row.
    pub offsets: Vec<Offset>,
    /// The rows without a value (Kafka tombstones), ascending. Their spans are empty.
    pub tombstones: Vec<u32>,
    /// The reference for the rows' event times.
    pub reference: Reference,
    /// The values of the file's folders, the same for all rows.
    pub folders: Option<FolderValues>,
}

impl EncodedRows {
    /// The number of rows.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there are no rows.
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

/// The reference for the event time of a row: the broker's clock if it stamps records, otherwise
/// the time of receipt.
#[derive(Debug, Clone, Default)]
pub enum Reference {
    /// Nothing: every time is plausible.
    #[default]
    None,
    /// One time for all rows: the time of receipt.
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

/// Rows that are already columns. Offsets are row numbers.
#[derive(Debug, Clone)]
pub struct ColumnRows {
    /// The rows.
    pub records: RecordBatch,
    /// The row number of the first.
    pub first: Offset,
    /// The reference for the rows' event times.
    pub reference: Reference,
    /// The values of the file's folders, the same for all rows.
    pub folders: Option<FolderValues>,
}

/// Turns a chunk into columns, synchronously and without I/O. A lane has several decoders, and any
/// decoder may get the next chunk. Their caches must not affect the result.
///
/// One bad row does not affect the others. It is in [`Decoded::rejected`], and all others are in
/// [`Decoded::records`] in order.
pub trait Decoder: Send {
    /// Decodes every row of a chunk.
    ///
    /// # Errors
    /// `Internal` only; a bad row is not an error.
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

/// A row that could not be decoded, with its reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// Its index in the chunk.
    pub row: u32,
    /// A short, stable name of the reason: `not_json`, `wrong_type`,
    /// `missing_field`, `no_event_time`, `implausible_time`, `too_large`,
    /// `empty`, `empty_key`, `tombstone`, `invalid_utf8`.
    pub reason: &'static str,
    /// The field with the error, if there is one.
    pub field: Option<String>,
    /// The whole message.
    pub message: String,
}

/// Builds the rows of the dead-letter table. Each lane has one.
pub trait DeadLetters: Send {
    /// The dead letters of the `rejected` rows of `chunk`, as one batch of the dead-letter table.
    fn batch(&mut self, source: &str, chunk: &Chunk, rejected: &[Rejected]) -> Result<RecordBatch>;
}
