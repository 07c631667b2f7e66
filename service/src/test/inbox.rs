//! A source whose rows a test sends.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use tagflow_engine::{
    EventTime, Result,
    source::{Chunk, Offset, Positions, Rows, Source, SourceEvent, SourceReader},
};
use tokio::sync::Notify;

use super::pulse::Pulse;

/// The one partition of every source.
const PARTITION: &str = "test";

/// The pending events of a source. It outlives its readers.
pub(super) struct Inbox {
    waiting: Mutex<Waiting>,
    arrived: Notify,
    pulse: Pulse,
}

#[derive(Default)]
struct Waiting {
    events: VecDeque<SourceEvent>,
    /// The offset of the next row to be sent.
    next: Offset,
    /// Whether a reader has passed on everything.
    is_drained: bool,
}

impl Inbox {
    /// Reports to `pulse` when everything has been read.
    pub(super) fn new(pulse: Pulse) -> Self {
        Self {
            waiting: Mutex::default(),
            arrived: Notify::new(),
            pulse,
        }
    }

    /// The offset of the next row.
    pub(super) fn next(&self) -> Offset {
        self.waiting().next
    }

    /// Sends rows, the first of which is at [`Inbox::next`].
    pub(super) fn send(&self, rows: Rows) {
        let mut waiting = self.waiting();
        let first = waiting.next;
        waiting.next += rows.len() as Offset;
        let next = waiting.next;
        waiting.events.push_back(SourceEvent::Chunk(Chunk {
            partition: PARTITION.into(),
            first,
            next,
            rows,
        }));
        waiting.events.push_back(SourceEvent::CaughtUp {
            partition: PARTITION.into(),
            end: next,
        });
        self.woken(waiting);
    }

    /// Moves the watermark to `at`.
    pub(super) fn promise(&self, at: EventTime) {
        let mut waiting = self.waiting();
        waiting.events.push_back(SourceEvent::Watermark {
            partition: PARTITION.into(),
            at,
        });
        self.woken(waiting);
    }

    /// Whether a reader has passed on everything that was sent.
    pub(super) fn is_drained(&self) -> bool {
        self.waiting().is_drained
    }

    fn woken(&self, mut waiting: MutexGuard<'_, Waiting>) {
        waiting.is_drained = false;
        drop(waiting);
        self.arrived.notify_one();
    }

    /// The next event; `None` if there is none. Then all events are processed, because the runtime
    /// requests the next one only after the last is done.
    fn take(&self) -> Option<SourceEvent> {
        let mut waiting = self.waiting();
        let event = waiting.events.pop_front();
        if event.is_none() && !waiting.is_drained {
            waiting.is_drained = true;
            self.pulse.beat();
        }
        event
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads an [`Inbox`].
pub(super) struct InboxSource(pub(super) Arc<Inbox>);

#[async_trait]
impl Source for InboxSource {
    async fn open(&self, positions: &Positions) -> Result<Box<dyn SourceReader>> {
        let next = positions.get(PARTITION).copied().unwrap_or(0);
        let mut waiting = self.0.waiting();
        waiting.is_drained = false;
        let partition: Arc<str> = Arc::from(PARTITION);
        waiting.events.push_front(SourceEvent::CaughtUp {
            partition: Arc::clone(&partition),
            end: next,
        });
        let assigned = SourceEvent::Assigned(vec![(partition, next)]);
        waiting.events.push_front(assigned);
        Ok(Box::new(InboxReader(Arc::clone(&self.0))))
    }
}

struct InboxReader(Arc<Inbox>);

#[async_trait]
impl SourceReader for InboxReader {
    async fn next(&mut self) -> Result<SourceEvent> {
        loop {
            if let Some(event) = self.0.take() {
                return Ok(event);
            }
            self.0.arrived.notified().await;
        }
    }

    fn pause(&mut self, _partition: &str) {}

    fn resume(&mut self, _partition: &str) {}

    fn committed(&mut self, _positions: &Positions) {}
}
