//! The open files source.

use std::sync::Arc;

use async_trait::async_trait;
use tagflow_engine::{
    Clock, Error, Result,
    source::{Chunk, Offset, Positions, SourceEvent, SourceReader},
};
use tokio::{sync::mpsc, task::JoinHandle};

use super::{
    config::{FileFormat, FilesConfig},
    lines::Lines,
    object::FileObject,
    parquet::ParquetRows,
};

/// Hands on what a task reads ahead: one chunk waits, and one is being read.
pub(super) struct FilesReader {
    events: mpsc::Receiver<Result<SourceEvent>>,
    task: JoinHandle<()>,
    ended: bool,
    reading: Option<Arc<str>>,
    paused: Vec<Arc<str>>,
}

impl FilesReader {
    pub(super) fn start(
        config: FilesConfig,
        clock: Arc<dyn Clock>,
        files: Vec<FileObject>,
        positions: Positions,
    ) -> Self {
        let (sender, events) = mpsc::channel(1);
        let read_ahead = ReadAhead {
            config,
            clock,
            positions,
            events: sender,
        };
        Self {
            events,
            task: tokio::spawn(read_ahead.run(files)),
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
            // Only `resume` changes that, and it needs this call to be dropped.
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
                result.map_err(|error| {
                    Error::internal("the task that reads files has died").with_source(error)
                })?;
                Ok(SourceEvent::Exhausted)
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
    positions: Positions,
    events: mpsc::Sender<Result<SourceEvent>>,
}

/// Nobody listens any more, or all has been said.
struct Done;

impl ReadAhead {
    async fn run(self, files: Vec<FileObject>) {
        let mut assigned = false;
        for file in files {
            match self.read(file).await {
                Ok(read) => assigned |= read,
                Err(Done) => return,
            }
        }
        if !assigned {
            // The first event is an assignment, even of nothing.
            let _ = self.say(Ok(SourceEvent::Assigned(Vec::new()))).await;
        }
    }

    /// Reads `file`, unless it has been read to its end before.
    async fn read(&self, file: FileObject) -> Result<bool, Done> {
        let name = Arc::clone(&file.name);
        let position = self.positions.get(&name).copied();
        let opened = OpenFile::open(file, position, &self.config).await;
        let Some(mut open) = self.check(opened).await? else {
            return Ok(false);
        };
        let start = vec![(Arc::clone(&name), position.unwrap_or(0))];
        self.say(Ok(SourceEvent::Assigned(start))).await?;
        while let Some(mut chunk) = self.check(open.next().await).await? {
            chunk.rows.receive(self.clock.now());
            self.say(Ok(SourceEvent::Chunk(chunk))).await?;
        }
        self.say(Ok(SourceEvent::Finished(name))).await?;
        Ok(true)
    }

    /// An error is the last thing that is said.
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

/// A file that is being read.
pub(super) enum OpenFile {
    Lines(Lines),
    Parquet(ParquetRows),
}

impl OpenFile {
    /// `None` where `position` is the end of the file.
    pub(super) async fn open(
        file: FileObject,
        position: Option<Offset>,
        config: &FilesConfig,
    ) -> Result<Option<Self>> {
        let start = position.unwrap_or(0);
        match config.format {
            FileFormat::Parquet => {
                let rows = ParquetRows::open(file, start, config).await?;
                Ok((position.is_none() || !rows.at_end()).then_some(Self::Parquet(rows)))
            }
            FileFormat::Lines | FileFormat::LinesAfterHeader => {
                if position.is_some_and(|position| position as u64 == file.size()) {
                    return Ok(None);
                }
                Lines::open(file, start, config)
                    .await
                    .map(Self::Lines)
                    .map(Some)
            }
        }
    }

    /// The next rows; `None` at the end of the file.
    pub(super) async fn next(&mut self) -> Result<Option<Chunk>> {
        match self {
            Self::Lines(lines) => lines.next().await,
            Self::Parquet(rows) => rows.next().await,
        }
    }
}
