//! The task that reads one source and deals its partitions to the lanes.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::sync::mpsc;

use super::{
    channel::Sender,
    gauges::{Gauges, PartitionGauge, add},
    head::Assignment,
    lane::Message,
    report::{Cut, Report, Reports},
};
use crate::{
    Clock, Element, Error, EventTime, Result,
    element::Barrier,
    graph::{TimePolicy, WhenIdle},
    source::{Chunk, Offset, PartitionId, Positions, SourceEvent, SourceReader},
};

/// How often idleness and drift are looked at.
const TICK: Duration = Duration::from_millis(200);

/// How often the watermark of an idle partition follows the clock.
const FOLLOW_EVERY: Duration = Duration::from_secs(1);

/// What the job tells a reader.
#[derive(Debug)]
pub(super) enum Order {
    /// Cut here.
    Barrier(Barrier),
    /// Read no further and tell everyone downstream that nothing follows.
    End,
    /// Read no further.
    Stop,
    /// Read nothing until [`Order::GoOn`].
    Pause,
    /// Read on.
    GoOn,
    /// These positions are committed.
    Committed(Positions),
}

/// Everything the reading task of one source owns.
pub(super) struct Reader {
    pub(super) source: Arc<str>,
    pub(super) input: Box<dyn SourceReader>,
    pub(super) orders: mpsc::UnboundedReceiver<Order>,
    pub(super) lanes: Vec<Sender<Message>>,
    pub(super) time: TimePolicy,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) gauges: Arc<Gauges>,
    pub(super) reports: Reports,
    /// The watermarks of the last commit, by partition.
    pub(super) watermarks: BTreeMap<Arc<str>, EventTime>,
    pub(super) partitions: BTreeMap<Arc<str>, Reading>,
    /// Positions of partitions that are not assigned in this run; they stay in
    /// every commit.
    pub(super) positions: Positions,
    /// Whether the first partitions have been assigned.
    pub(super) assigned: bool,
    /// A partition that has ended, until the next event shows whether another
    /// one follows: then the lane is never without.
    pub(super) ended: Option<Arc<str>>,
}

/// A partition being read.
pub(super) struct Reading {
    id: Arc<PartitionId>,
    lane: usize,
    next: Offset,
    /// Rows read since the last cut.
    rows: u64,
    /// Since when it has been at its end, with someone looking.
    caught_up: Option<EventTime>,
    /// It has given nothing since it was at its end: the source will not say so
    /// again.
    quiet: bool,
    /// Whether it has ever been at its end.
    reached_end: bool,
    idle: bool,
    /// How far its watermark has followed the clock.
    followed: EventTime,
    finished: bool,
    paused: bool,
    gauge: Arc<PartitionGauge>,
}

/// The lanes are gone: the job is ending.
struct Gone;

impl Reader {
    /// Runs until the job stops.
    pub(super) async fn run(mut self) -> Result<()> {
        let (mut reading, mut paused) = (true, false);
        let mut announced = false;
        let clock = Arc::clone(&self.clock);
        let mut tick = clock.sleep(TICK);
        loop {
            tokio::select! {
                biased;
                order = self.orders.recv() => {
                    let Some(order) = order else { return Ok(()) };
                    match order {
                        Order::End | Order::Stop => reading = false,
                        Order::Pause => paused = true,
                        Order::GoOn => paused = false,
                        Order::Barrier(_) | Order::Committed(_) => {}
                    }
                    if self.obey(order).await.is_err() {
                        return Ok(());
                    }
                }
                event = self.input.next(), if reading && !paused => {
                    if self.on_event(event?).await?.is_err() {
                        return Ok(());
                    }
                    if !announced && self.all_reached_their_end() {
                        announced = true;
                        self.report(Report::CaughtUp(Arc::clone(&self.source)));
                    }
                }
                () = &mut tick, if reading => {
                    tick = clock.sleep(TICK);
                    if self.finish_ended().await.is_err() {
                        return Ok(());
                    }
                    if self.mark_idle().await.is_err() {
                        return Ok(());
                    }
                    self.limit_drift();
                }
            }
        }
    }

    async fn obey(&mut self, order: Order) -> Result<(), Gone> {
        match order {
            Order::Stop => Ok(()),
            Order::Pause => {
                self.look_away();
                Ok(())
            }
            Order::GoOn => {
                self.look_again();
                Ok(())
            }
            Order::End => self.broadcast(&Element::End).await,
            Order::Barrier(barrier) => {
                let mut positions = self.positions.clone();
                let mut rows = BTreeMap::new();
                for (name, partition) in &mut self.partitions {
                    positions.insert(Arc::clone(name), partition.next);
                    let read = std::mem::take(&mut partition.rows);
                    if read > 0 {
                        rows.insert(Arc::clone(&partition.id), read);
                    }
                }
                let cut = Cut::Reader {
                    source: Arc::clone(&self.source),
                    positions,
                    rows,
                };
                self.report(Report::Cut(barrier.epoch, cut));
                self.broadcast(&Element::Barrier(barrier)).await
            }
            Order::Committed(positions) => {
                self.input.committed(&positions);
                Ok(())
            }
        }
    }

    async fn on_event(&mut self, event: SourceEvent) -> Result<Result<(), Gone>> {
        if let SourceEvent::Assigned(partitions) = event {
            let assigned = self.assign(partitions).await;
            return Ok(if assigned.is_err() {
                assigned
            } else {
                self.finish_ended().await
            });
        }
        if self.finish_ended().await.is_err() {
            return Ok(Err(Gone));
        }
        match event {
            SourceEvent::Assigned(_) => {}
            SourceEvent::Chunk(chunk) => return self.on_chunk(chunk).await,
            SourceEvent::CaughtUp { partition, end } => {
                let now = self.clock.now();
                if let Some(partition) = self.partitions.get_mut(&partition) {
                    // An end that lies before what was read is old news.
                    if end >= partition.next {
                        partition.caught_up.get_or_insert(now);
                        (partition.quiet, partition.reached_end) = (true, true);
                        partition.gauge.lag.store(0, Ordering::Relaxed);
                    }
                }
            }
            SourceEvent::Watermark { partition, at } => {
                if let Some(reading) = self.partitions.get(&partition) {
                    let lane = reading.lane;
                    return Ok(self.send(lane, Message::Promised(partition, at)).await);
                }
            }
            SourceEvent::Finished(name) => {
                if let Some(partition) = self.partitions.get_mut(&name) {
                    partition.finished = true;
                    partition.gauge.finished.store(true, Ordering::Relaxed);
                    partition.gauge.lag.store(0, Ordering::Relaxed);
                    self.ended = Some(name);
                }
            }
            SourceEvent::Exhausted => self.report(Report::Exhausted(Arc::clone(&self.source))),
            SourceEvent::Lag { partition, rows } => {
                if let Some(partition) = self.partitions.get(&partition) {
                    partition.gauge.lag.store(rows, Ordering::Relaxed);
                }
            }
            SourceEvent::Unreachable(reason) => {
                self.look_away();
                self.report(Report::Reachable(Arc::clone(&self.source), Some(reason)));
            }
            SourceEvent::Reachable => {
                self.look_again();
                self.report(Report::Reachable(Arc::clone(&self.source), None));
            }
            SourceEvent::Lost {
                partition,
                from,
                to,
            } => {
                tracing::warn!(source = %self.source, %partition, from, to, "rows are lost");
                if let Some(reading) = self.partitions.get_mut(&partition) {
                    reading.next = reading.next.max(to);
                }
            }
        }
        Ok(Ok(()))
    }

    /// An end that was reached says nothing while nobody looks.
    fn look_away(&mut self) {
        self.partitions
            .values_mut()
            .for_each(|partition| partition.caught_up = None);
    }

    fn look_again(&mut self) {
        let now = self.clock.now();
        let quiet = self.partitions.values_mut().filter(|it| it.quiet);
        quiet.for_each(|partition| partition.caught_up = Some(now));
    }

    async fn finish_ended(&mut self) -> Result<(), Gone> {
        let Some(name) = self.ended.take() else {
            return Ok(());
        };
        let lane = self
            .partitions
            .get(&name)
            .map_or(0, |partition| partition.lane);
        self.send(lane, Message::Finished(name)).await
    }

    async fn assign(&mut self, partitions: Vec<(Arc<str>, Offset)>) -> Result<(), Gone> {
        let mut shares = vec![Vec::new(); self.lanes.len()];
        for (name, next) in partitions {
            let id = Arc::new(PartitionId::new(
                Arc::clone(&self.source),
                Arc::clone(&name),
            ));
            let lane = self.lane_for_another();
            let gauge = self.gauges.partition(&id);
            gauge.offset.store(next, Ordering::Relaxed);
            let watermark = self
                .watermarks
                .get(&name)
                .copied()
                .unwrap_or(EventTime::MIN);
            gauge
                .watermark
                .store(watermark.as_micros(), Ordering::Relaxed);
            let (id, gauge) = (Arc::clone(&id), Arc::clone(&gauge));
            shares[lane].push(Assignment {
                id: Arc::clone(&id),
                watermark,
                gauge: Arc::clone(&gauge),
            });
            self.positions.remove(&name);
            let reading = Reading {
                id,
                lane,
                next,
                rows: 0,
                caught_up: None,
                quiet: false,
                reached_end: false,
                idle: false,
                followed: EventTime::MIN,
                finished: false,
                paused: false,
                gauge,
            };
            self.partitions.insert(name, reading);
        }
        // Every lane hears of it, those that get nothing too: until then a lane
        // holds the watermark back, from then on it is idle.
        for (lane, share) in shares.into_iter().enumerate() {
            self.send(lane, Message::Assigned(share)).await?;
        }
        self.assigned = true;
        Ok(())
    }

    /// The lane for a new partition. At the start they are dealt out in turn.
    /// Later one goes to a lane that is awake, because a lane that wakes cannot
    /// aggregate at once (see `chain`); so files that are read one after another
    /// stay on one lane.
    fn lane_for_another(&self) -> usize {
        let mut live = vec![0_usize; self.lanes.len()];
        for partition in self
            .partitions
            .values()
            .filter(|partition| !partition.finished)
        {
            live[partition.lane] += 1;
        }
        let lanes = || live.iter().enumerate();
        let awake = lanes().filter(|(_, partitions)| self.assigned && **partitions > 0);
        let least = |lanes: &mut dyn Iterator<Item = (usize, &usize)>| {
            lanes
                .min_by_key(|(_, partitions)| **partitions)
                .map(|(lane, _)| lane)
        };
        least(&mut awake.into_iter())
            .or_else(|| least(&mut lanes()))
            .unwrap_or(0)
    }

    /// The offset gate: what comes was not read before, and nothing is skipped
    /// in silence.
    async fn on_chunk(&mut self, chunk: Chunk) -> Result<Result<(), Gone>> {
        let partition = self.partitions.get_mut(&chunk.partition).ok_or_else(|| {
            Error::internal(format!(
                "rows of `{}`, which was not assigned",
                chunk.partition
            ))
        })?;
        if chunk.next <= partition.next {
            return Ok(Ok(()));
        }
        if chunk.first < partition.next {
            return Err(Error::internal(format!(
                "`{}` gave offset {} again: {} was expected",
                partition.id, chunk.first, partition.next
            )));
        }
        let rows = chunk.rows.len();
        partition.next = chunk.next;
        partition.rows += rows as u64;
        partition.caught_up = None;
        partition.quiet = false;
        partition.idle = false;
        partition.gauge.offset.store(chunk.next, Ordering::Relaxed);
        add(&partition.gauge.rows, rows);
        add(&partition.gauge.bytes, chunk.rows.bytes());
        let lane = partition.lane;
        Ok(self.send(lane, Message::Chunk(chunk)).await)
    }

    /// A partition is idle only when the last fetch was empty at its end for
    /// `idle_after`, it is not paused, and its channel is not full: never
    /// because Tagflow was slow. Where its watermark follows the clock, it is never
    /// idle to those behind.
    async fn mark_idle(&mut self) -> Result<(), Gone> {
        let now = self.clock.now();
        let clock = now.saturating_sub(self.time.delay);
        let mut messages = Vec::new();
        for (name, partition) in &mut self.partitions {
            let Some(since) = partition.caught_up else {
                continue;
            };
            let able = !partition.idle && !partition.finished && !partition.paused;
            if !able
                || now.since(since) < self.time.idle_after
                || self.lanes[partition.lane].is_full()
            {
                continue;
            }
            let name = Arc::clone(name);
            match self.time.when_idle {
                WhenIdle::Hold => {
                    partition.idle = true;
                    partition.gauge.idle.store(true, Ordering::Relaxed);
                    messages.push((partition.lane, Message::Idle(name)));
                }
                WhenIdle::Clock if clock.since(partition.followed) >= FOLLOW_EVERY => {
                    partition.followed = clock;
                    messages.push((partition.lane, Message::Promised(name, clock)));
                }
                WhenIdle::Clock => {}
            }
        }
        for (lane, message) in messages {
            self.send(lane, message).await?;
        }
        Ok(())
    }

    /// Pauses the partitions that are too far ahead of the slowest, and lets
    /// the others go on. A partition at its end cannot go faster, so it is not
    /// waited for.
    fn limit_drift(&mut self) {
        let Some(max_drift) = self.time.max_drift else {
            return;
        };
        let slowest = self
            .partitions
            .values()
            .filter(|partition| !partition.finished && partition.caught_up.is_none())
            .map(|partition| partition.gauge.watermark())
            .min();
        let limit = slowest.map_or(EventTime::MAX, |slowest| slowest.saturating_add(max_drift));
        for (name, partition) in &mut self.partitions {
            let ahead = partition.gauge.watermark() > limit;
            if ahead && !partition.paused {
                self.input.pause(name);
            } else if !ahead && partition.paused {
                self.input.resume(name);
            }
            partition.paused = ahead;
        }
    }

    fn all_reached_their_end(&self) -> bool {
        !self.partitions.is_empty()
            && self
                .partitions
                .values()
                .all(|partition| partition.reached_end)
    }

    async fn send(&mut self, lane: usize, message: Message) -> Result<(), Gone> {
        self.lanes[lane].send(message).await.map_err(|_| Gone)
    }

    async fn broadcast(&mut self, element: &Element) -> Result<(), Gone> {
        for lane in 0..self.lanes.len() {
            self.send(lane, Message::Element(element.clone())).await?;
        }
        Ok(())
    }

    fn report(&self, report: Report) {
        // A job that is gone needs no report.
        let _ = self.reports.send(report);
    }
}
