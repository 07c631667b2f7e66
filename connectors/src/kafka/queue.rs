//! The queue from the consumer threads to the engine, bounded in bytes.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tagflow_engine::{
    Error,
    source::{Offset, SourceEvent},
};
use tokio::sync::mpsc;

/// A report of a consumer thread.
#[derive(Debug)]
pub(super) enum Report {
    /// The topic was opened; its partitions begin at these offsets.
    Opened(Vec<(Arc<str>, Offset)>),
    /// An event for the engine.
    Event(SourceEvent),
    /// The cluster does not answer the consumer of this topic.
    Unreachable(Arc<str>, String),
    /// It answers again.
    Reachable(Arc<str>),
    /// The thread has ended with this error.
    Failed(Error),
}

impl Report {
    /// The bytes that the report counts for.
    fn bytes(&self) -> usize {
        const OVERHEAD: usize = 256;
        match self {
            Self::Event(SourceEvent::Chunk(chunk)) => OVERHEAD + chunk.rows.bytes(),
            _ => OVERHEAD,
        }
    }
}

/// A queue of `capacity` bytes, or of one report of any size.
pub(super) fn bounded(capacity: usize) -> (Sender, Receiver) {
    let (reports, receiver) = mpsc::unbounded_channel();
    let budget = Arc::new(Budget {
        capacity,
        used: Mutex::new(0),
        freed: Condvar::new(),
    });
    let sender = Sender {
        reports,
        budget: Arc::clone(&budget),
    };
    let receiver = Receiver {
        reports: receiver,
        budget,
    };
    (sender, receiver)
}

/// The threads' end. The channel itself is unbounded: the byte budget is the bound.
#[derive(Debug, Clone)]
pub(super) struct Sender {
    reports: mpsc::UnboundedSender<(Report, usize)>,
    budget: Arc<Budget>,
}

/// Why a report was not sent.
#[derive(Debug)]
pub(super) enum Refused {
    /// No room became free in time.
    Full(Box<Report>),
    /// The receiver was dropped.
    Closed,
}

impl Sender {
    /// Sends `report`, waiting up to `patience` for room.
    pub(super) fn send(&self, report: Report, patience: Duration) -> Result<(), Refused> {
        let bytes = report.bytes().min(self.budget.capacity);
        if self.reports.is_closed() {
            return Err(Refused::Closed);
        }
        if !self.budget.take(bytes, patience) {
            return Err(Refused::Full(Box::new(report)));
        }
        self.reports
            .send((report, bytes))
            .map_err(|_| Refused::Closed)
    }

    /// Sends a thread's final error, for which there is always room.
    pub(super) fn fail(&self, error: Error) {
        // Without a receiver, the error has no reader.
        let _ = self.reports.send((Report::Failed(error), 0));
    }
}

/// The engine's end.
#[derive(Debug)]
pub(super) struct Receiver {
    reports: mpsc::UnboundedReceiver<(Report, usize)>,
    budget: Arc<Budget>,
}

impl Receiver {
    /// The next report; `None` when all threads have ended. Cancel-safe.
    pub(super) async fn recv(&mut self) -> Option<Report> {
        let (report, bytes) = self.reports.recv().await?;
        self.budget.give_back(bytes);
        Some(report)
    }
}

#[derive(Debug)]
struct Budget {
    capacity: usize,
    used: Mutex<usize>,
    freed: Condvar,
}

impl Budget {
    fn take(&self, bytes: usize, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        let mut used = self.lock();
        while *used + bytes > self.capacity {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            used = self
                .freed
                .wait_timeout(used, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        *used += bytes;
        true
    }

    fn give_back(&self, bytes: usize) {
        *self.lock() -= bytes;
        self.freed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, usize> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> Report {
        Report::Reachable("t".into())
    }

    #[tokio::test]
    async fn a_full_queue_refuses_until_something_is_read() {
        let (sender, mut receiver) = bounded(512);
        sender.send(small(), Duration::ZERO).unwrap();
        sender.send(small(), Duration::ZERO).unwrap();
        assert!(matches!(
            sender.send(small(), Duration::ZERO),
            Err(Refused::Full(_))
        ));
        sender.fail(Error::internal("always fits"));
        receiver.recv().await.unwrap();
        sender.send(small(), Duration::ZERO).unwrap();
    }

    #[tokio::test]
    async fn one_report_larger_than_the_queue_passes_alone() {
        let (sender, mut receiver) = bounded(10);
        sender.send(small(), Duration::ZERO).unwrap();
        assert!(matches!(
            sender.send(small(), Duration::ZERO),
            Err(Refused::Full(_))
        ));
        receiver.recv().await.unwrap();
        sender.send(small(), Duration::ZERO).unwrap();
    }

    #[test]
    fn a_waiting_sender_is_woken() {
        let (sender, mut receiver) = bounded(10);
        sender.send(small(), Duration::ZERO).unwrap();
        let waiting = std::thread::spawn(move || sender.send(small(), Duration::from_secs(30)));
        receiver.reports.blocking_recv().unwrap();
        receiver.budget.give_back(10);
        waiting.join().unwrap().unwrap();
    }

    #[test]
    fn a_queue_that_nobody_reads_is_closed() {
        let (sender, receiver) = bounded(10);
        drop(receiver);
        assert!(matches!(
            sender.send(small(), Duration::ZERO),
            Err(Refused::Closed)
        ));
    }
}
