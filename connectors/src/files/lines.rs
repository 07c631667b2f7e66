//! A file of lines, block by block.

use bytes::{Bytes, BytesMut};
use memchr::{memchr, memchr_iter, memrchr};
use tagflow_engine::{
    Error, Result,
    source::{Chunk, EncodedRows, Offset, Rows},
};

use super::{
    config::{FileFormat, FilesConfig},
    object::FileObject,
};

/// Reads whole lines, from any line on. A block ends where its last line ends,
/// and the next begins there, so nothing is carried over.
#[derive(Debug)]
pub(super) struct Lines {
    file: FileObject,
    /// The byte to read next: always the first of a line.
    at: u64,
    /// The header line with its line break, if there is one.
    header: Bytes,
    block_bytes: u64,
    max_row_bytes: u64,
    /// About how many rows a block has.
    usual_rows: usize,
}

impl Lines {
    /// Goes on at byte `position`.
    pub(super) async fn open(
        file: FileObject,
        position: Offset,
        config: &FilesConfig,
    ) -> Result<Self> {
        let start = u64::try_from(position).unwrap_or(0);
        if start > file.size() {
            return Err(file.shorter_than(position, "byte", file.size()));
        }
        if start > 0 && *file.read(start - 1..start).await? != *b"\n" {
            return Err(Error::data(format!(
                "the file `{}` has been read up to byte {start}, and now no line begins there: \
                 it has changed",
                file.name
            )));
        }
        let mut lines = Self {
            file,
            at: start,
            header: Bytes::new(),
            block_bytes: config.block_bytes as u64,
            max_row_bytes: config.max_row_bytes as u64,
            usual_rows: 0,
        };
        if config.format == FileFormat::LinesAfterHeader {
            lines.read_header().await?;
        }
        Ok(lines)
    }

    async fn read_header(&mut self) -> Result<()> {
        let end = self
            .file
            .size()
            .min(self.block_bytes.max(self.max_row_bytes));
        if end == 0 {
            return Ok(());
        }
        let start = self.file.read(0..end).await?;
        let header = match memchr(b'\n', &start) {
            Some(newline) => start.slice(..=newline),
            None if end == self.file.size() => start,
            None => {
                return Err(Error::data(format!(
                    "the first line of the file `{}` is larger than {end} bytes, so it is no \
                     header",
                    self.file.name
                )));
            }
        };
        self.at = self.at.max(header.len() as u64);
        self.header = header;
        Ok(())
    }

    /// The next lines; `None` at the end of the file.
    pub(super) async fn next(&mut self) -> Result<Option<Chunk>> {
        let size = self.file.size();
        let mut want = self.block_bytes;
        while self.at < size {
            let end = size.min(self.at + want);
            let block = self.file.read(self.at..end).await?;
            let complete = match memrchr(b'\n', &block) {
                _ if end == size => block.len(),
                Some(newline) => newline + 1,
                None if want <= self.max_row_bytes => {
                    want = (want * 2).min(self.max_row_bytes + 1);
                    continue;
                }
                None => return self.oversized(&block).await.map(Some),
            };
            want = self.block_bytes;
            let first = self.at;
            self.at += complete as u64;
            let rows = self.rows(block.slice(..complete), first);
            if !rows.is_empty() {
                return Ok(Some(self.chunk(rows)));
            }
        }
        Ok(None)
    }

    /// One row of the beginning of a line that is too large; the rest of it is
    /// read over.
    async fn oversized(&mut self, block: &Bytes) -> Result<Chunk> {
        let first = self.at;
        let size = self.file.size();
        self.at += block.len() as u64;
        while self.at < size {
            let end = size.min(self.at + self.block_bytes);
            let block = self.file.read(self.at..end).await?;
            if let Some(newline) = memchr(b'\n', &block) {
                self.at += newline as u64 + 1;
                break;
            }
            self.at = end;
        }
        let kept = block.len().min(self.max_row_bytes as usize + 1);
        // A copy, so that the block is not kept for its beginning.
        let beginning = Bytes::copy_from_slice(&block[..kept]);
        let rows = self.rows(beginning, first);
        Ok(self.chunk(rows))
    }

    fn rows(&mut self, lines: Bytes, first: u64) -> EncodedRows {
        // The rows of a chunk follow the header, if there is one.
        let shift = self.header.len();
        let mut spans = Vec::with_capacity(self.usual_rows);
        let mut offsets = Vec::with_capacity(self.usual_rows);
        let mut start = 0;
        let ends = memchr_iter(b'\n', &lines).chain(Some(lines.len()));
        for end in ends {
            let line = &lines[start..end];
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if !line.is_empty() {
                let begin = shift + start;
                spans.push((begin as u32, (begin + line.len()) as u32));
                offsets.push((first + start as u64) as Offset);
            }
            start = end + 1;
        }
        self.usual_rows = spans.len();
        EncodedRows {
            data: if shift == 0 {
                lines
            } else {
                let mut data = BytesMut::with_capacity(shift + lines.len());
                data.extend_from_slice(&self.header);
                data.extend_from_slice(&lines);
                data.freeze()
            },
            spans,
            offsets,
            ..EncodedRows::default()
        }
    }

    /// `rows`, the last of which ends where the next read begins.
    fn chunk(&self, rows: EncodedRows) -> Chunk {
        Chunk {
            partition: self.file.name.clone(),
            first: rows.offsets.first().copied().unwrap_or_default(),
            next: self.at as Offset,
            rows: Rows::Encoded(rows),
        }
    }
}
