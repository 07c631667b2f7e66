//! One partition that is being read.

use std::sync::Arc;

use tagflow_engine::{
    EventTime,
    source::{Chunk, Offset},
};

use super::{
    chunk::{ChunkLimits, OpenChunk, Row},
    offset_tracker::OffsetTracker,
};

/// Counts how often a topic was recreated since the pipeline first read it. Offsets are valid
/// within one generation only.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Generation(u32);

impl Generation {
    /// The following generation.
    pub(super) fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// The partition that a name denotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Named<'a> {
    /// The topic. Topics have neither slash nor number sign.
    pub(super) topic: &'a str,
    /// Its number in the topic.
    pub(super) partition: i32,
    /// The generation of the topic of that name.
    pub(super) generation: Generation,
}

/// The name of a partition within its source: `topic/3`, or `topic/3#2` for the second topic
/// of that name.
pub(super) fn name(topic: &str, partition: i32, generation: Generation) -> Arc<str> {
    match generation {
        Generation(0) => format!("{topic}/{partition}").into(),
        Generation(number) => format!("{topic}/{partition}#{}", number + 1).into(),
    }
}

/// Parses a name from [`name`].
pub(super) fn parse(name: &str) -> Option<Named<'_>> {
    let (topic, rest) = name.rsplit_once('/')?;
    let (partition, generation) = match rest.split_once('#') {
        None => (rest, 0),
        Some((partition, number)) => (partition, number.parse::<u32>().ok()?.checked_sub(1)?),
    };
    if generation == 0 && rest.contains('#') {
        return None;
    }
    Some(Named {
        topic,
        partition: partition.parse().ok()?,
        generation: Generation(generation),
    })
}

/// The state of a partition.
#[derive(Debug)]
pub(super) struct Partition {
    /// `topic/3`.
    pub(super) name: Arc<str>,
    /// Decides which messages pass.
    pub(super) gate: OffsetTracker,
    /// The last reported lag.
    pub(super) lag: Option<u64>,
    /// The next offset at the previous statistics. High watermarks in newer statistics are more
    /// recent.
    pub(super) read_before: Offset,
    /// Set while the last fetch was empty.
    pub(super) at_end: Option<AtEnd>,
    open: Option<OpenChunk>,
    usual_bytes: usize,
}

impl Partition {
    /// A partition to be read from `next`.
    pub(super) fn new(name: Arc<str>, next: Offset) -> Self {
        Self {
            name,
            gate: OffsetTracker::new(next),
            lag: None,
            read_before: next,
            at_end: None,
            open: None,
            usual_bytes: 0,
        }
    }

    /// Adds a row that has passed the gate; returns the chunk that had no room for it.
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
        self.at_end = None;
        full
    }

    /// Closes the open chunk, whose rows are all before `next`.
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

/// A partition that was read to its end. The client reports an end once. Later fetches confirm it,
/// because each fetch requests all partitions that are read from a broker.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct AtEnd {
    /// A broker, and the number of fetches sent to it.
    mark: Option<(i32, i64)>,
}

impl AtEnd {
    /// Whether a later fetch of the partition was empty, since the last time this was true.
    /// `fetched` is its broker and the number of fetches sent to it.
    ///
    /// One fetch is in flight at a time. When the second fetch after a mark is sent, the first one
    /// is answered.
    pub(super) fn is_confirmed(&mut self, fetched: Option<(i32, i64)>) -> bool {
        match (self.mark, fetched) {
            (Some((marked, before)), Some((broker, count))) if marked == broker => {
                let is_confirmed = count >= before + 2;
                if is_confirmed {
                    self.mark = None;
                }
                is_confirmed
            }
            _ => {
                self.mark = fetched;
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        let first = Generation::default();
        for generation in [first, first.next(), first.next().next()] {
            let named = Named {
                topic: "a.b-c",
                partition: 12,
                generation,
            };
            assert_eq!(parse(&name("a.b-c", 12, generation)), Some(named));
        }
        assert_eq!(&*name("a", 3, first), "a/3");
        assert_eq!(&*name("a", 3, first.next()), "a/3#2");
        for wrong in ["no-number", "a/b", "a/1#0", "a/1#1", "a/1#x", "a/1#"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn an_end_is_confirmed_by_a_fetch_that_began_after_the_last_confirmation() {
        let mut at_end = AtEnd::default();
        let mut confirmed = |fetched| at_end.is_confirmed(fetched);
        assert!(!confirmed(Some((1, 10))), "nothing to compare with");
        assert!(!confirmed(Some((1, 10))), "the broker does not answer");
        assert!(!confirmed(Some((1, 11))), "the first may not be answered");
        assert!(confirmed(Some((1, 12))));
        assert!(
            !confirmed(Some((1, 20))),
            "what was sent before counts no more"
        );
        assert!(!confirmed(Some((2, 90))), "another broker");
        assert!(!confirmed(None));
        assert!(!confirmed(Some((2, 95))));
        assert!(confirmed(Some((2, 97))));
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
