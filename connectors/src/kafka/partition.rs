//! One partition that is being read.

use std::sync::Arc;

use tagflow_engine::{
    EventTime,
    source::{Chunk, Offset},
};

use super::{
    chunk::{ChunkLimits, OpenChunk, Row},
    gate::Gate,
};

/// The name of a partition within its source.
pub(super) fn name(topic: &str, partition: i32) -> Arc<str> {
    format!("{topic}/{partition}").into()
}

/// The topic and the number in a partition's name. Topics have no slash.
pub(super) fn parse(name: &str) -> Option<(&str, i32)> {
    let (topic, partition) = name.rsplit_once('/')?;
    Some((topic, partition.parse().ok()?))
}

/// The state of one partition.
#[derive(Debug)]
pub(super) struct Partition {
    /// `topic/3`.
    pub(super) name: Arc<str>,
    /// Which messages pass.
    pub(super) gate: Gate,
    /// The lag that was reported last.
    pub(super) lag: Option<u64>,
    open: Option<OpenChunk>,
    usual_bytes: usize,
}

impl Partition {
    /// A partition to be read from `next`.
    pub(super) fn new(name: Arc<str>, next: Offset) -> Self {
        Self {
            name,
            gate: Gate::new(next),
            lag: None,
            open: None,
            usual_bytes: 0,
        }
    }

    /// Adds a row that has passed the gate; the chunk that had no room for it
    /// is handed out.
    pub(super) fn push(
        &mut self,
        row: &Row<'_>,
        limits: ChunkLimits,
        now: impl FnOnce() -> EventTime,
    ) -> Option<Chunk> {
        let full = match &self.open {
            Some(open) if !open.has_room_for(row, limits) => self.close(row.offset),
            _ => None,
        };
        let capacity = self.usual_bytes.min(limits.bytes);
        self.open
            .get_or_insert_with(|| OpenChunk::new(now(), capacity))
            .push(row);
        full
    }

    /// Closes the open chunk, whose rows all lie before `next`.
    pub(super) fn close(&mut self, next: Offset) -> Option<Chunk> {
        let open = self.open.take()?;
        self.usual_bytes = open.bytes();
        Some(open.finish(Arc::clone(&self.name), next))
    }

    /// The chunk that is being filled.
    pub(super) fn open(&self) -> Option<&OpenChunk> {
        self.open.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        assert_eq!(parse(&name("a.b-c", 12)), Some(("a.b-c", 12)));
        assert_eq!(parse("no-number"), None);
        assert_eq!(parse("a/b"), None);
    }

    #[test]
    fn a_full_chunk_ends_where_the_next_row_begins() {
        let limits = ChunkLimits {
            rows: 2,
            bytes: 100,
        };
        let mut partition = Partition::new("t/0".into(), 0);
        let mut push = |offset| {
            let row = Row {
                offset,
                value: Some(b"x"),
                appended: None,
            };
            partition.push(&row, limits, || EventTime::from_micros(0))
        };
        assert!(push(0).is_none() && push(1).is_none());
        let chunk = push(7).unwrap();
        assert_eq!((chunk.first, chunk.next, chunk.rows.len()), (0, 7, 2));
        let rest = partition.close(8).unwrap();
        assert_eq!((rest.first, rest.next), (7, 8));
        assert!(partition.close(8).is_none());
    }
}
