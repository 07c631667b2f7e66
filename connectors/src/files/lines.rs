//! Reads a file of lines in blocks.

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use memchr::{memchr, memchr_iter, memrchr};
use tagflow_engine::{
    Clock, Error, EventTime, Result,
    source::{Chunk, EncodedRows, Offset, Rows},
};

use super::{
    config::{CsvRecords, FileFormat, FilesConfig},
    object::FileObject,
};
use crate::format::{RecordEnd, Separators, Within, is_half_json};

/// Windows tools write it before UTF-8 text.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The bytes that determine how the lines of a file end.
const SAMPLE_BYTES: u64 = 64 << 10;

/// The search for a closing quote reaches this multiple of the largest row.
const OPEN_QUOTE_ROWS: u64 = 16;

/// A last line of CSV without a line break is whole when its file has not changed for this long.
const SETTLED_AFTER: Duration = Duration::from_secs(2);

/// Half a JSON object waits for its rest until its file has not changed for this long.
const ABANDONED_AFTER: Duration = Duration::from_mins(5);

/// Reads whole rows, from any row on. A block ends where its last row ends, and the next begins
/// there, so nothing is carried over.
pub(super) struct Lines {
    file: FileObject,
    /// The next byte to read: always the first of a row.
    at: u64,
    /// The end of the last whole row, which is before the end of a growing file.
    end: u64,
    /// The beginning of the file, as far as it is known.
    start: Bytes,
    line_end: u8,
    /// The header row with a line feed, if there is one.
    header: Bytes,
    csv: Option<CsvRecords>,
    block_bytes: u64,
    max_row_bytes: u64,
    /// The expected number of rows per block.
    usual_rows: usize,
    /// Decides whether a file is still being written.
    clock: Option<Arc<dyn Clock>>,
}

impl Lines {
    /// Opens the file at byte `position`. With a clock, it leaves an unfinished last row for a
    /// later run.
    pub(super) async fn open(
        file: FileObject,
        position: Offset,
        config: &FilesConfig,
        clock: Option<Arc<dyn Clock>>,
    ) -> Result<Self> {
        let at = u64::try_from(position).unwrap_or(0);
        let size = file.size();
        if at > size {
            return Err(file.shorter_than(position, "byte", size));
        }
        let sample = match at {
            // The first block is read already.
            0 => config.block_bytes as u64,
            _ => SAMPLE_BYTES,
        };
        let start = file.read(0..size.min(sample)).await?;
        let mut lines = Self {
            line_end: match line_end(&start, size) {
                // A small block may end within the first line end.
                None => line_end(&file.read(0..size.min(SAMPLE_BYTES)).await?, size),
                found => found,
            }
            .unwrap_or(b'\n'),
            file,
            at,
            end: size,
            start,
            header: Bytes::new(),
            csv: match config.format {
                FileFormat::Csv(csv) => Some(csv),
                FileFormat::Lines | FileFormat::Parquet => None,
            },
            block_bytes: config.block_bytes as u64,
            max_row_bytes: config.max_row_bytes as u64,
            usual_rows: 0,
            clock,
        };
        if at > 0 {
            lines.check_begins_a_line().await?;
        } else if lines.start.starts_with(BYTE_ORDER_MARK) {
            lines.at = BYTE_ORDER_MARK.len() as u64;
        }
        if lines.csv.is_some_and(|csv| csv.header) {
            lines.read_header().await?;
        }
        Ok(lines)
    }

    /// A row begins after a line end, or after a last line that had no line end and has one now.
    async fn check_begins_a_line(&self) -> Result<()> {
        let around = self.at - 1..self.file.size().min(self.at + 1);
        let around = self.file.read(around).await?;
        let is_end = |byte: Option<&u8>| byte.is_some_and(|byte| b"\r\n".contains(byte));
        if around.first() == Some(&self.line_end) || is_end(around.get(1)) {
            return Ok(());
        }
        Err(Error::data(format!(
            "the file `{}` has been read up to byte {}, and now no line begins there: it has \
             changed",
            self.file.name, self.at
        )))
    }

    async fn read_header(&mut self) -> Result<()> {
        let end = self
            .file
            .size()
            .min(self.block_bytes.max(self.max_row_bytes));
        let skipped = if self.start.starts_with(BYTE_ORDER_MARK) {
            BYTE_ORDER_MARK.len()
        } else {
            0
        };
        let start = match self.row_end(&self.start[skipped..]) {
            RecordEnd::At(_) => self.start.clone(),
            RecordEnd::Beyond(_) => self.read(0..end).await?,
        };
        let (header, next) = match self.row_end(&start[skipped..]) {
            RecordEnd::At(at) => (skipped..skipped + at, skipped + at + 1),
            RecordEnd::Beyond(_) if end == self.file.size() => (skipped..start.len(), start.len()),
            RecordEnd::Beyond(_) => {
                return Err(Error::data(format!(
                    "the first row of the file `{}` is larger than {end} bytes, so it is no header",
                    self.file.name
                )));
            }
        };
        if !start.is_empty() {
            self.at = self.at.max(next as u64);
            let mut with_line_feed = BytesMut::from(start[header].trim_ascii_end());
            with_line_feed.extend_from_slice(b"\n");
            self.header = with_line_feed.freeze();
        }
        Ok(())
    }

    async fn read(&self, range: std::ops::Range<u64>) -> Result<Bytes> {
        if range.end <= self.start.len() as u64 {
            return Ok(self.start.slice(range.start as usize..range.end as usize));
        }
        self.file.read(range).await
    }

    /// The next rows; `None` at the end of the file.
    pub(super) async fn next(&mut self) -> Result<Option<Chunk>> {
        let mut want = self.block_bytes;
        while self.at < self.end {
            let until = self.end.min(self.at + want);
            let block = self.read(self.at..until).await?;
            if until == self.end && self.last_row_is_unfinished(&block).await? {
                continue;
            }
            let split = self.split(&block, until == self.end);
            if split.complete == 0 {
                let most = match split.within {
                    Within::Plain => self.max_row_bytes,
                    Within::Quotes => self.longest_quotes(),
                };
                if want <= most {
                    want = (want * 2).min(most + 1);
                    continue;
                }
                let chunk = match split.within {
                    Within::Plain => self.oversized(&block).await?,
                    Within::Quotes => self.unclosed(&block),
                };
                return Ok(Some(chunk));
            }
            want = self.block_bytes;
            let first = self.at;
            self.at += split.complete as u64;
            if self.at >= self.start.len() as u64 {
                self.start = Bytes::new();
            }
            let rows = self.rows(&block.slice(..split.complete), split.spans, first);
            if !rows.is_empty() {
                return Ok(Some(self.chunk(rows)));
            }
        }
        Ok(None)
    }

    /// Whether rows are left for a later run.
    pub(super) fn is_unfinished(&self) -> bool {
        self.end < self.file.size()
    }

    /// Whether the file is being written, and `block` at its end holds the first half of its last
    /// row. Then the file ends before that row.
    async fn last_row_is_unfinished(&mut self, block: &[u8]) -> Result<bool> {
        if self.is_unfinished() || block.last() == Some(&self.line_end) {
            return Ok(false);
        }
        let Some(clock) = &self.clock else {
            return Ok(false);
        };
        let begin = memrchr(self.line_end, block).map_or(0, |at| at + 1);
        let modified = EventTime::from_micros(self.file.meta.last_modified.timestamp_micros());
        let age = clock.now().since(modified);
        let whole = if self.csv.is_some() {
            age >= SETTLED_AFTER || {
                clock.sleep(SETTLED_AFTER.saturating_sub(age)).await;
                self.file.is_unchanged().await?
            }
        } else {
            age >= ABANDONED_AFTER || !is_half_json(&block[begin..])
        };
        if whole || !self.file.can_grow() {
            return Ok(false);
        }
        self.end = self.at + begin as u64;
        tracing::info!(
            file = %self.file.name,
            "the last line has no line break and is not whole; it is read when its rest is there"
        );
        Ok(true)
    }

    /// How far a quoted value may reach.
    fn longest_quotes(&self) -> u64 {
        (self.max_row_bytes * OPEN_QUOTE_ROWS).min(1 << 30)
    }

    fn row_end(&self, bytes: &[u8]) -> RecordEnd {
        match self.csv {
            Some(csv) => self.separators(csv).record_end(bytes),
            None => {
                memchr(self.line_end, bytes).map_or(RecordEnd::Beyond(Within::Plain), RecordEnd::At)
            }
        }
    }

    fn separators(&self, csv: CsvRecords) -> Separators {
        Separators {
            delimiter: csv.delimiter,
            quote: csv.quote,
            line_end: self.line_end,
        }
    }

    /// Splits a block into its whole rows.
    fn split(&self, block: &[u8], is_last: bool) -> Split {
        match self.csv {
            // Quotes are rare; without one, every line is a row.
            Some(csv) if memchr(csv.quote, block).is_some() => {
                self.split_quoted(self.separators(csv), block, is_last)
            }
            _ => self.split_lines(block, is_last),
        }
    }

    fn split_lines(&self, block: &[u8], is_last: bool) -> Split {
        let mut split = Split {
            spans: Vec::with_capacity(self.usual_rows),
            complete: match memrchr(self.line_end, block) {
                _ if is_last => block.len(),
                Some(at) => at + 1,
                None => 0,
            },
            within: Within::Plain,
        };
        let lines = &block[..split.complete];
        let mut start = 0;
        for end in memchr_iter(self.line_end, lines).chain(Some(lines.len())) {
            self.add(&mut split.spans, lines, start, end);
            start = end + 1;
        }
        split
    }

    fn split_quoted(&self, separators: Separators, block: &[u8], is_last: bool) -> Split {
        let mut split = Split {
            spans: Vec::with_capacity(self.usual_rows),
            complete: 0,
            within: Within::Plain,
        };
        while split.complete < block.len() {
            let start = split.complete;
            let end = match separators.record_end(&block[start..]) {
                RecordEnd::At(at) => start + at,
                RecordEnd::Beyond(Within::Quotes) if is_last && !self.closes(block) => {
                    // The quote is never closed: the row ends with its line.
                    memchr(self.line_end, &block[start..]).map_or(block.len(), |at| start + at)
                }
                RecordEnd::Beyond(_) if is_last => block.len(),
                RecordEnd::Beyond(within) => {
                    split.within = within;
                    break;
                }
            };
            self.add(&mut split.spans, block, start, end);
            split.complete = block.len().min(end + 1);
        }
        split
    }

    /// Whether the last row of a file, which ends with `block`, ends with a closing quote.
    fn closes(&self, block: &[u8]) -> bool {
        let quote = self.csv.map(|csv| csv.quote);
        let quotes = block.iter().rev().take_while(|byte| Some(**byte) == quote);
        quotes.count() % 2 == 1
    }

    /// Adds the row `block[start..end]`, without its final carriage return. Skips empty lines, and
    /// keeps only the beginning of a row that is too large.
    fn add(&self, spans: &mut Vec<(usize, usize)>, block: &[u8], start: usize, end: usize) {
        let row = &block[start..end];
        let row = row.strip_suffix(b"\r").unwrap_or(row);
        if !row.is_empty() {
            let kept = row.len().min(self.max_row_bytes as usize + 1);
            spans.push((start, start + kept));
        }
    }

    /// One row with the beginning of a line that is too large; the rest of the line is skipped.
    async fn oversized(&mut self, block: &Bytes) -> Result<Chunk> {
        let first = self.at;
        self.at += block.len() as u64;
        while self.at < self.end {
            let until = self.end.min(self.at + self.block_bytes);
            let block = self.file.read(self.at..until).await?;
            if let Some(line_end) = memchr(self.line_end, &block) {
                self.at += line_end as u64 + 1;
                break;
            }
            self.at = until;
        }
        Ok(self.beginning(block, block.len(), first))
    }

    /// One row with the line whose quote is not closed within reach. The next line is a row again.
    fn unclosed(&mut self, block: &Bytes) -> Chunk {
        let first = self.at;
        let line = memchr(self.line_end, block).map_or(block.len(), |at| at + 1);
        self.at += line as u64;
        self.beginning(block, line, first)
    }

    fn beginning(&mut self, block: &Bytes, length: usize, first: u64) -> Chunk {
        let kept = length.min(self.max_row_bytes as usize + 1);
        // A copy, so that a short beginning does not keep the whole block in memory.
        let beginning = Bytes::copy_from_slice(&block[..kept]);
        let line = beginning
            .strip_suffix(&[self.line_end])
            .unwrap_or(&beginning);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let spans = vec![(0, line.len())];
        let rows = self.rows(&beginning, spans, first);
        self.chunk(rows)
    }

    fn rows(&mut self, lines: &Bytes, spans: Vec<(usize, usize)>, first: u64) -> EncodedRows {
        // The rows of a chunk follow the header, if there is one.
        let shift = self.header.len();
        self.usual_rows = spans.len();
        let offsets = spans
            .iter()
            .map(|(start, _)| (first + *start as u64) as Offset);
        EncodedRows {
            offsets: offsets.collect(),
            spans: spans
                .iter()
                .map(|(start, end)| ((shift + start) as u32, (shift + end) as u32))
                .collect(),
            data: if shift == 0 {
                lines.clone()
            } else {
                let mut data = BytesMut::with_capacity(shift + lines.len());
                data.extend_from_slice(&self.header);
                data.extend_from_slice(lines);
                data.freeze()
            },
            ..EncodedRows::default()
        }
    }

    /// A chunk of `rows`, the last of which ends where the next read begins.
    fn chunk(&self, rows: EncodedRows) -> Chunk {
        Chunk {
            partition: self.file.name.clone(),
            first: rows.offsets.first().copied().unwrap_or_default(),
            next: self.at as Offset,
            rows: Rows::Encoded(rows),
        }
    }
}

/// The rows of a block.
struct Split {
    spans: Vec<(usize, usize)>,
    /// The end of the last whole row, including its line end.
    complete: usize,
    /// The state of the parser at the end of the block.
    within: Within,
}

/// The byte that ends the lines of a file of `size` bytes, from its `start`. It is a line feed, or
/// a carriage return where the file has only those, as on old Macs. `None` if a line feed may
/// follow.
fn line_end(start: &[u8], size: u64) -> Option<u8> {
    let return_at = memchr(b'\r', start);
    if memchr(b'\n', start).is_some() {
        Some(b'\n')
    } else if (start.len() as u64) < size.min(SAMPLE_BYTES) {
        None
    } else {
        let followed = |at: usize| at + 1 < start.len() || start.len() as u64 == size;
        return_at.filter(|at| followed(*at)).map(|_| b'\r')
    }
}
