//! The events as a source.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use tagflow_engine::{
    Error, Result,
    source::{
        Chunk, EncodedRows, Growth, Offset, Positions, Rows, Source, SourceEvent, SourceReader,
    },
};
use tokio::time::Instant;

use super::{config::GeneratorConfig, model::Model};

/// The most rows in a chunk.
const CHUNK_ROWS: u64 = 1_000;
/// The shortest wait for due rows.
const TICK: Duration = Duration::from_millis(10);

/// A source of generated events. Partitions are named `0`, `1`, …; offsets are row numbers. With a
/// `count` it is bounded.
#[derive(Debug, Clone)]
pub struct GeneratorSource {
    model: Arc<Model>,
}

impl GeneratorSource {
    /// A source of the events of `config`.
    ///
    /// # Errors
    /// `Config` where `config` is invalid.
    pub fn new(config: GeneratorConfig) -> Result<Self> {
        config.validate()?;
        Ok(Self {
            model: Arc::new(Model::new(config)),
        })
    }
}

#[async_trait]
impl Source for GeneratorSource {
    async fn open(&self, positions: &Positions) -> Result<Box<dyn SourceReader>> {
        let config = self.model.config();
        let partitions = (0..*config.partitions)
            .map(|index| {
                let name: Arc<str> = Arc::from(index.to_string());
                let next = positions.get(&name).copied().unwrap_or(0);
                let next = u64::try_from(next).map_err(|_| {
                    Error::data(format!("`{next}` is no row of partition `{name}`"))
                })?;
                let end = config.rows_of(index);
                Ok(Partition {
                    name,
                    index,
                    next,
                    end,
                    // A finished partition does not finish again.
                    finished: end.is_some_and(|end| end > 0 && next >= end),
                    paused: false,
                })
            })
            .collect::<Result<_>>()?;
        Ok(Box::new(GeneratorReader {
            model: Arc::clone(&self.model),
            partitions,
            turn: 0,
            assigned: false,
            exhausted: false,
            pace: config.rate.as_ref().map(|rate| Pace::new(**rate as f64)),
        }))
    }
}

struct GeneratorReader {
    model: Arc<Model>,
    partitions: Vec<Partition>,
    /// The partition to try first for the next chunk.
    turn: usize,
    assigned: bool,
    /// Whether the end of all rows is reported.
    exhausted: bool,
    pace: Option<Pace>,
}

struct Partition {
    name: Arc<str>,
    index: u32,
    /// The next row to generate.
    next: u64,
    /// The total number of rows.
    end: Option<u64>,
    finished: bool,
    paused: bool,
}

impl Partition {
    fn remaining(&self) -> u64 {
        self.end
            .map_or(u64::MAX, |end| end.saturating_sub(self.next))
    }
}

/// Limits the rate of rows.
struct Pace {
    rate: f64,
    since: Instant,
    given: u64,
}

impl Pace {
    fn new(rate: f64) -> Self {
        Self {
            rate,
            since: Instant::now(),
            given: 0,
        }
    }

    fn due(&self) -> u64 {
        let due = self.since.elapsed().as_secs_f64() * self.rate;
        (due as u64).saturating_sub(self.given)
    }

    /// Waits until at least one row is due.
    async fn wait(&self) {
        while self.due() == 0 {
            let next = Duration::from_secs_f64((self.given + 1) as f64 / self.rate);
            tokio::time::sleep_until((self.since + next).max(Instant::now() + TICK)).await;
        }
    }
}

impl GeneratorReader {
    /// The next partition in turn that has rows or has just reached its end.
    fn choose(&self) -> Option<usize> {
        let count = self.partitions.len();
        (0..count)
            .map(|step| (self.turn + step) % count)
            .find(|&index| !self.partitions[index].finished && !self.partitions[index].paused)
    }

    fn chunk(&mut self, chosen: usize, rows: u64) -> Chunk {
        let partition = &mut self.partitions[chosen];
        let first = partition.next;
        let mut data = Vec::with_capacity(rows as usize * 256);
        let mut encoded = EncodedRows::default();
        for row in first..first + rows {
            let start = data.len() as u32;
            self.model.write(partition.index, row, &mut data);
            encoded.spans.push((start, data.len() as u32));
            encoded.offsets.push(row as Offset);
        }
        encoded.data = data.into();
        partition.next += rows;
        if let Some(pace) = &mut self.pace {
            pace.given += rows;
        }
        Chunk {
            partition: Arc::clone(&partition.name),
            first: first as Offset,
            next: partition.next as Offset,
            rows: Rows::Encoded(encoded),
        }
    }
}

#[async_trait]
impl SourceReader for GeneratorReader {
    async fn next(&mut self) -> Result<SourceEvent> {
        if !self.assigned {
            self.assigned = true;
            let unfinished = self
                .partitions
                .iter()
                .filter(|partition| !partition.finished);
            return Ok(SourceEvent::Assigned(
                unfinished
                    .map(|partition| (Arc::clone(&partition.name), partition.next as Offset))
                    .collect(),
            ));
        }
        let Some(chosen) = self.choose() else {
            if self.exhausted || self.partitions.iter().any(|it| !it.finished) {
                return std::future::pending().await;
            }
            self.exhausted = true;
            return Ok(SourceEvent::Exhausted(Growth::Complete));
        };
        let mut rows = self.partitions[chosen].remaining().min(CHUNK_ROWS);
        if rows == 0 {
            let partition = &mut self.partitions[chosen];
            partition.finished = true;
            return Ok(SourceEvent::Finished(Arc::clone(&partition.name)));
        }
        if let Some(pace) = &self.pace {
            pace.wait().await;
            // The partitions share the due rows.
            let share = pace.due().div_ceil(self.partitions.len() as u64);
            rows = rows.min(share);
        }
        self.turn = chosen + 1;
        Ok(SourceEvent::Chunk(self.chunk(chosen, rows)))
    }

    fn pause(&mut self, partition: &str) {
        self.set_paused(partition, true);
    }

    fn resume(&mut self, partition: &str) {
        self.set_paused(partition, false);
    }

    fn committed(&mut self, _positions: &Positions) {}
}

impl GeneratorReader {
    fn set_paused(&mut self, name: &str, paused: bool) {
        for partition in &mut self.partitions {
            if *partition.name == *name {
                partition.paused = paused;
            }
        }
    }
}
