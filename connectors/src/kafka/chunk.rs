//! Collects messages of a partition into a chunk.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use tagflow_engine::{
    EventTime,
    source::{Chunk, EncodedRows, Offset, Reference, Rows},
};

/// A chunk that is being filled. A message's bytes are copied once, from the
/// client's buffer to here.
#[derive(Debug)]
pub(super) struct OpenChunk {
    rows: EncodedRows,
    data: Vec<u8>,
    appended: Vec<EventTime>,
    received: EventTime,
    opened: Instant,
}

/// The limits of a chunk.
#[derive(Debug, Clone, Copy)]
pub(super) struct ChunkLimits {
    /// Rows.
    pub(super) rows: usize,
    /// Bytes; a single row may exceed them.
    pub(super) bytes: usize,
}

/// A message as input of a chunk.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row<'a> {
    /// Its offset.
    pub(super) offset: Offset,
    /// Its value; a tombstone has none.
    pub(super) value: Option<&'a [u8]>,
    /// The broker's `LogAppendTime`, if the topic uses it.
    pub(super) appended: Option<EventTime>,
}

impl OpenChunk {
    /// An empty chunk. `received` is the arrival time of rows without a broker's time, `capacity`
    /// the expected bytes.
    pub(super) fn new(received: EventTime, capacity: usize) -> Self {
        Self {
            rows: EncodedRows::default(),
            data: Vec::with_capacity(capacity),
            appended: Vec::new(),
            received,
            opened: Instant::now(),
        }
    }

    /// Whether `row` may be added: the chunk stays within its limits, and all rows use the same
    /// clock.
    pub(super) fn has_room_for(&self, row: &Row<'_>, limits: ChunkLimits) -> bool {
        let bytes = row.value.map_or(0, <[u8]>::len);
        self.rows.is_empty()
            || (self.rows.len() < limits.rows
                && self.data.len() + bytes <= limits.bytes
                && self.appended.is_empty() == row.appended.is_none())
    }

    /// Adds a row.
    pub(super) fn push(&mut self, row: &Row<'_>) {
        let start = self.data.len() as u32;
        match row.value {
            Some(value) => self.data.extend_from_slice(value),
            None => self.rows.tombstones.push(self.rows.len() as u32),
        }
        self.rows.spans.push((start, self.data.len() as u32));
        self.rows.offsets.push(row.offset);
        self.appended.extend(row.appended);
    }

    /// The time at which the chunk was opened.
    pub(super) fn opened(&self) -> Instant {
        self.opened
    }

    /// Bytes in the chunk.
    pub(super) fn bytes(&self) -> usize {
        self.data.len()
    }

    /// The chunk; `next` is the position after its last row.
    pub(super) fn finish(mut self, partition: Arc<str>, next: Offset) -> Chunk {
        self.rows.data = Bytes::from(self.data);
        self.rows.reference = if self.appended.is_empty() {
            Reference::Received(self.received)
        } else {
            Reference::Broker(self.appended)
        };
        Chunk {
            partition,
            first: self.rows.offsets.first().copied().unwrap_or(next),
            next,
            rows: Rows::Encoded(self.rows),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: ChunkLimits = ChunkLimits { rows: 3, bytes: 10 };

    fn row(offset: Offset, value: Option<&[u8]>) -> Row<'_> {
        Row {
            offset,
            value,
            appended: None,
        }
    }

    fn fill(rows: &[Row<'_>]) -> OpenChunk {
        let mut chunk = OpenChunk::new(EventTime::from_micros(7), 0);
        for row in rows {
            chunk.push(row);
        }
        chunk
    }

    #[test]
    fn rows_tombstones_and_empty_rows_are_told_apart() {
        let chunk = fill(&[
            row(3, Some(b"ab")),
            row(5, None),
            row(6, Some(b"")),
            row(7, Some(b"c")),
        ])
        .finish("t/0".into(), 8);
        assert_eq!((chunk.first, chunk.next), (3, 8));
        let Rows::Encoded(rows) = &chunk.rows else {
            panic!("encoded")
        };
        let read: Vec<_> = (0..4).map(|row| rows.row(row)).collect();
        assert_eq!(read, [Some(&b"ab"[..]), None, Some(b""), Some(b"c")]);
        assert_eq!(rows.offsets, [3, 5, 6, 7]);
        assert_eq!(chunk.rows.reference(2), Some(EventTime::from_micros(7)));
    }

    #[test]
    fn the_broker_time_is_kept_row_by_row() {
        let at = |micros| Row {
            appended: Some(EventTime::from_micros(micros)),
            ..row(micros, Some(b"x"))
        };
        let open = fill(&[at(1), at(2)]);
        assert!(!open.has_room_for(&row(3, None), LIMITS), "another clock");
        let chunk = open.finish("t/0".into(), 3);
        assert_eq!(chunk.rows.reference(1), Some(EventTime::from_micros(2)));
    }

    #[test]
    fn a_chunk_is_bounded_but_takes_one_row_of_any_size() {
        let huge = [b'x'; 50];
        assert!(fill(&[]).has_room_for(&row(0, Some(&huge)), LIMITS));
        assert!(!fill(&[row(0, Some(b"a"))]).has_room_for(&row(1, Some(&huge)), LIMITS));
        assert!(fill(&[row(0, Some(b"a"))]).has_room_for(&row(1, Some(b"123456789")), LIMITS));
        let full = fill(&[row(0, None), row(1, None), row(2, None)]);
        assert!(!full.has_room_for(&row(3, None), LIMITS));
    }
}
