//! Rows that flow again after a pause: no row in order is late, for any order of fetches.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::time::{Instant, sleep};

use super::*;
use crate::{
    source::{EndReports, Offset, Rows},
    testing::encode,
};

/// The number of schedules; `TAGFLOW_BURSTS` sets another one.
const SCHEDULES: u64 = 10;
const IDLE_AFTER_S: u64 = 60;

/// A log whose partitions are filled in the order of event time.
#[derive(Default)]
struct Log {
    partitions: Vec<Vec<String>>,
    /// The broker does not answer.
    is_frozen: bool,
}

/// Fetches the partitions of a [`Log`] in any order, each any number of times.
struct LogSource {
    log: Arc<Mutex<Log>>,
    seed: u64,
}

struct LogReader {
    log: Arc<Mutex<Log>>,
    next: Vec<Offset>,
    random: SmallRng,
    events: VecDeque<SourceEvent>,
}

fn lock(log: &Mutex<Log>) -> MutexGuard<'_, Log> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}

fn name(partition: usize) -> Arc<str> {
    format!("p{partition}").into()
}

#[async_trait]
impl Source for LogSource {
    async fn open(&self, positions: &Positions) -> Result<Box<dyn SourceReader>> {
        let partitions = lock(&self.log).partitions.len();
        let position = |partition| positions.get(&name(partition)).copied().unwrap_or(0);
        let next: Vec<Offset> = (0..partitions).map(position).collect();
        let assigned = next.iter().enumerate().map(|(id, at)| (name(id), *at));
        let assigned = SourceEvent::Assigned(assigned.collect());
        Ok(Box::new(LogReader {
            log: Arc::clone(&self.log),
            next,
            random: SmallRng::seed_from_u64(self.seed),
            events: [assigned].into(),
        }))
    }
}

#[async_trait]
impl SourceReader for LogReader {
    async fn next(&mut self) -> Result<SourceEvent> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(event);
            }
            sleep(Duration::from_millis(self.random.random_range(1..300))).await;
            let log = Arc::clone(&self.log);
            let log = lock(&log);
            if log.is_frozen {
                continue;
            }
            let id = self.random.random_range(0..self.next.len());
            let most = self.random.random_range(1..20);
            let first = self.next[id];
            let rows = &log.partitions[id][first as usize..];
            let rows = &rows[..most.min(rows.len())];
            let next = first + rows.len() as Offset;
            self.next[id] = next;
            return Ok(if rows.is_empty() {
                SourceEvent::CaughtUp {
                    partition: name(id),
                    end: next,
                }
            } else {
                SourceEvent::Chunk(Chunk {
                    partition: name(id),
                    first,
                    next,
                    rows: Rows::Encoded(encode(rows, first, Reference::None)),
                })
            });
        }
    }

    fn pause(&mut self, _: &str) {}

    fn resume(&mut self, _: &str) {}

    fn end_reports(&self) -> EndReports {
        EndReports::Repeated
    }

    fn committed(&mut self, _: &Positions) {}
}

/// The writers of the log. An event happens when it is written, unless producers stall.
struct Producers<'a> {
    log: &'a Mutex<Log>,
    random: SmallRng,
    begun: Instant,
    written: Vec<String>,
}

impl Producers<'_> {
    fn event(&mut self) -> String {
        let time = self.begun.elapsed().as_micros();
        let key = self.random.random_range(0..4);
        format!("{time},k{key},1")
    }

    fn write(&mut self, event: String) {
        let mut log = lock(self.log);
        let id = self.random.random_range(0..log.partitions.len());
        log.partitions[id].push(event.clone());
        self.written.push(event);
    }

    /// Events over a while that are written as they happen.
    async fn flow(&mut self) {
        for _ in 0..self.random.random_range(1..60) {
            let event = self.event();
            self.write(event);
            let gap = self.random.random_range(0..400);
            sleep(Duration::from_millis(gap)).await;
        }
    }

    /// Events that are written long after they happened, all at once or one by one.
    async fn stall(&mut self) {
        let mut events = Vec::new();
        for _ in 0..self.random.random_range(1..60) {
            events.push(self.event());
            let gap = self.random.random_range(0..4_000);
            sleep(Duration::from_millis(gap)).await;
        }
        let gap = [0, 30][self.random.random_range(0..2)];
        for event in events {
            self.write(event);
            sleep(Duration::from_millis(gap)).await;
        }
    }

    /// No event happens.
    async fn pause(&mut self) {
        let seconds = self.random.random_range(1..3 * IDLE_AFTER_S);
        sleep(Duration::from_secs(seconds)).await;
    }

    /// The broker freezes. Rows that are written in the meantime are read after that.
    async fn freeze(&mut self) {
        lock(self.log).is_frozen = true;
        self.pause().await;
        self.flow().await;
        self.pause().await;
        lock(self.log).is_frozen = false;
    }
}

#[tokio::test(start_paused = true)]
async fn regression_bursts_in_order_have_no_late_rows() {
    let schedules = std::env::var("TAGFLOW_BURSTS").map_or(SCHEDULES, |it| it.parse().unwrap());
    for seed in 0..schedules {
        let mut random = SmallRng::seed_from_u64(seed);
        let partitions = random.random_range(1..6);
        let log = Arc::new(Mutex::new(Log {
            partitions: vec![Vec::new(); partitions],
            is_frozen: false,
        }));
        let mut rig = Rig::new();
        rig.clock = Arc::new(VirtualClock::starting_at(EventTime::from_micros(0)));
        rig.checkpoint_every = Duration::from_secs(2);
        rig.source = Some(Arc::new(LogSource {
            log: Arc::clone(&log),
            seed,
        }));
        let mut producers = Producers {
            log: &log,
            random: SmallRng::seed_from_u64(seed),
            begun: Instant::now(),
            written: Vec::new(),
        };
        let mut late = 0;
        for _ in 0..random.random_range(1..3) {
            rig.lanes = random.random_range(1..4);
            let (control, job) = rig.start();
            let job = tokio::spawn(job);
            for _ in 0..random.random_range(2..6) {
                match random.random_range(0..4) {
                    0 => producers.flow().await,
                    1 => producers.stall().await,
                    2 => producers.pause().await,
                    _ => producers.freeze().await,
                }
            }
            control.stop.cancel();
            late = job.await.unwrap().unwrap().status.totals.late;
        }
        // The remaining rows are read to the end.
        (rig.until, rig.end) = (Until::CaughtUp, End::Drain);
        let totals = rig.run().await.unwrap().status.totals;
        assert_eq!((late, totals.late), (0, 0), "seed {seed}");
        assert_eq!(
            totals.rows_in,
            producers.written.len() as u64,
            "seed {seed}"
        );
        assert_eq!(
            rig.counts().await,
            expected(producers.written),
            "seed {seed}"
        );
    }
}

/// One partition gets no row: it holds back the others no longer than necessary.
#[tokio::test(start_paused = true)]
async fn an_idle_partition_follows_the_others() {
    let log = Arc::new(Mutex::new(Log {
        partitions: vec![Vec::new(); 2],
        is_frozen: false,
    }));
    let mut rig = Rig::new();
    rig.clock = Arc::new(VirtualClock::starting_at(EventTime::from_micros(0)));
    rig.checkpoint_every = Duration::from_secs(1);
    rig.source = Some(Arc::new(LogSource {
        log: Arc::clone(&log),
        seed: 1,
    }));
    let (control, job) = rig.start();
    let job = tokio::spawn(job);
    let begun = Instant::now();
    for _ in 0..2 * IDLE_AFTER_S {
        let time = begun.elapsed().as_micros();
        lock(&log).partitions[0].push(format!("{time},a,1"));
        sleep(Duration::from_secs(1)).await;
    }
    let status = control.status.borrow().clone();
    let behind = begun.elapsed().as_micros() as i64 - status.watermark.unwrap().as_micros();
    assert!(status.partitions["events:p1"].idle);
    assert!(behind < 5_000_000, "{behind} µs behind");
    control.stop.cancel();
    assert_eq!(job.await.unwrap().unwrap().status.totals.late, 0);
}
