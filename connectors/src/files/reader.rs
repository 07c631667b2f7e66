//! The open files source.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt, stream};
use tagflow_engine::{
    Clock, Error, EventTime, Result,
    source::{Growth, Positions, SourceEvent, SourceReader},
};
use tokio::{sync::mpsc, task::JoinHandle};

use super::{
    config::FilesConfig, event_times::EventTimes, listing::Listing, object::FileObject,
    open_file::OpenFile,
};

/// How many files are inspected concurrently before reading begins.
const LOOKED_INTO_AT_ONCE: usize = 32;

/// Returns the results of a task that reads ahead: one chunk is buffered while the next is read.
pub(super) struct FilesReader {
    events: mpsc::Receiver<Result<SourceEvent>>,
    task: JoinHandle<Growth>,
    ended: bool,
    reading: Option<Arc<str>>,
    paused: Vec<Arc<str>>,
}

impl FilesReader {
    pub(super) fn start(
        config: FilesConfig,
        clock: Arc<dyn Clock>,
        event_times: Option<EventTimes>,
        listing: Listing,
        positions: Positions,
    ) -> Self {
        let (sender, events) = mpsc::channel(1);
        let Listing { files, growth } = listing;
        let read_ahead = ReadAhead {
            config,
            clock,
            event_times,
            positions,
            unfinished: AtomicBool::new(false),
            events: sender,
        };
        Self {
            events,
            task: tokio::spawn(read_ahead.run(files, growth)),
            ended: false,
            reading: None,
            paused: Vec::new(),
        }
    }

    fn is_paused(&self) -> bool {
        self.reading
            .as_ref()
            .is_some_and(|file| self.paused.contains(file))
    }
}

impl Drop for FilesReader {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[async_trait]
impl SourceReader for FilesReader {
    async fn next(&mut self) -> Result<SourceEvent> {
        if self.is_paused() {
            // Only `resume` changes that, and it requires this call to be dropped.
            return std::future::pending().await;
        }
        match self.events.recv().await {
            Some(Ok(event)) => {
                match &event {
                    SourceEvent::Assigned(files) => {
                        self.reading = files.first().map(|(file, _)| Arc::clone(file));
                    }
                    SourceEvent::Finished(_) => self.reading = None,
                    _ => {}
                }
                Ok(event)
            }
            Some(Err(error)) => Err(error),
            None if self.ended => std::future::pending().await,
            None => {
                let result = (&mut self.task).await;
                self.ended = true;
                let growth = result.map_err(|error| {
                    Error::internal("the task that reads files has died").with_source(error)
                })?;
                Ok(SourceEvent::Exhausted(growth))
            }
        }
    }

    fn pause(&mut self, partition: &str) {
        if !self.paused.iter().any(|paused| **paused == *partition) {
            self.paused.push(Arc::from(partition));
        }
    }

    fn resume(&mut self, partition: &str) {
        self.paused.retain(|paused| **paused != *partition);
    }

    fn committed(&mut self, _positions: &Positions) {}
}

/// The reading task.
struct ReadAhead {
    config: FilesConfig,
    clock: Arc<dyn Clock>,
    event_times: Option<EventTimes>,
    positions: Positions,
    /// Whether a file ends with an unfinished row.
    unfinished: AtomicBool,
    events: mpsc::Sender<Result<SourceEvent>>,
}

/// The reading task is done, or nothing receives its events.
struct Done;

impl ReadAhead {
    async fn run(self, files: Vec<FileObject>, growth: Growth) -> Growth {
        // The receiver was dropped, or has the error.
        let _ = self.read_all(files, growth).await;
        if self.unfinished.into_inner() {
            Growth::MayGrow
        } else {
            growth
        }
    }

    async fn read_all(&self, files: Vec<FileObject>, growth: Growth) -> Result<(), Done> {
        let unread = self.check(self.unread(files).await).await?;
        // For each file, the lowest time of it and of all later files, starting from the last.
        let lowest = unread.iter().rev().scan(EventTime::MAX, |lowest, file| {
            *lowest = file.from.min(*lowest);
            Some(*lowest)
        });
        let mut held: Vec<EventTime> = lowest.collect();
        // A later run may read more files.
        let later = (growth == Growth::MayGrow).then_some(EventTime::MAX);
        self.unassigned(held.pop().or(later)).await?;
        let mut assigned = false;
        for file in unread {
            assigned |= self.read(file.file, held.pop().or(later)).await?;
        }
        if !assigned {
            // The first event is an assignment, even if it is empty.
            self.say(Ok(SourceEvent::Assigned(Vec::new()))).await?;
            self.unassigned(later).await?;
        }
        Ok(())
    }

    /// The files that have rows left, in reading order: first the files that were begun, then by
    /// time.
    async fn unread(&self, files: Vec<FileObject>) -> Result<Vec<Unread>> {
        let alone = files.len() < 2;
        let now = self.clock.now();
        let looked_into = files.into_iter().map(|file| async move {
            let position = self.positions.get(&file.name).copied();
            let from = match &self.event_times {
                Some(times) if !alone => {
                    let config = &self.config;
                    times.lower_bound(file.clone(), position, config).await?
                }
                _ => Some(EventTime::MIN),
            };
            Ok::<_, Error>(from.map(|from| Unread {
                begun: position.is_some_and(|position| position > 0),
                // A file that begins with rows of the future must not close windows alone.
                from: from.min(now),
                file,
            }))
        });
        let mut unread: Vec<Unread> = stream::iter(looked_into)
            .buffered(LOOKED_INTO_AT_ONCE)
            .try_filter_map(|unread| std::future::ready(Ok(unread)))
            .try_collect()
            .await?;
        unread.sort_by(|left, right| left.order().cmp(&right.order()));
        Ok(unread)
    }

    /// Reads `file`, unless it was read to its end before. Later files have no row before `rest`.
    async fn read(&self, file: FileObject, rest: Option<EventTime>) -> Result<bool, Done> {
        let name = Arc::clone(&file.name);
        let position = self.positions.get(&name).copied();
        let (config, clock) = (&self.config, Arc::clone(&self.clock));
        let opened = OpenFile::open(file, position, config, Some(clock)).await;
        let Some(mut open) = self.check(opened).await? else {
            self.unassigned(rest).await?;
            return Ok(false);
        };
        let start = vec![(Arc::clone(&name), position.unwrap_or(0))];
        self.say(Ok(SourceEvent::Assigned(start))).await?;
        // From now on this file holds the watermark itself.
        self.unassigned(rest).await?;
        while let Some(mut chunk) = self.check(open.next().await).await? {
            chunk.rows.receive(self.clock.now());
            self.say(Ok(SourceEvent::Chunk(chunk))).await?;
        }
        if open.is_unfinished() {
            self.unfinished.store(true, Ordering::Relaxed);
        }
        self.say(Ok(SourceEvent::Finished(name))).await?;
        Ok(true)
    }

    async fn unassigned(&self, from: Option<EventTime>) -> Result<(), Done> {
        self.say(Ok(SourceEvent::Unassigned(from))).await
    }

    /// Sends an error as the last event.
    async fn check<T>(&self, result: Result<T>) -> Result<T, Done> {
        match result {
            Ok(value) => Ok(value),
            Err(error) => {
                let _ = self.say(Err(error)).await;
                Err(Done)
            }
        }
    }

    async fn say(&self, event: Result<SourceEvent>) -> Result<(), Done> {
        self.events.send(event).await.map_err(|_| Done)
    }
}

/// A file with rows to read.
struct Unread {
    begun: bool,
    /// A lower bound of the watermarks of its rows.
    from: EventTime,
    file: FileObject,
}

impl Unread {
    fn order(&self) -> (bool, EventTime, &str) {
        (!self.begun, self.from, &self.file.name)
    }
}
