//! The task that reads one source and assigns its partitions to the lanes.

mod idle;

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::sync::mpsc;

use super::{
    channel::Sender,
    gauges::{Gauges, PartitionGauge, add},
    message::{Assignment, Message},
    task_event::{CheckpointAck, TaskEvent, TaskEvents},
};
use crate::{
    Clock, Element, Error, EventTime, Result, Uptime,
    element::Barrier,
    graph::TimePolicy,
    source::{Chunk, Growth, Offset, PartitionId, Positions, SourceEvent, SourceReader, Systems},
};

/// The interval of the checks for idleness and drift.
const TICK: Duration = Duration::from_millis(200);

/// The lane that holds back the watermark for partitions that are not assigned yet. It owns the
/// first partition, and partitions that follow one after another.
const UNASSIGNED_LANE: usize = 0;

/// A command of the job to a reader.
#[derive(Debug)]
pub(super) enum SourceCommand {
    /// Send a barrier here.
    Barrier(Barrier),
    /// Stop reading and send the end downstream.
    End,
    /// Stop reading.
    Stop,
    /// Stop reading until [`SourceCommand::GoOn`].
    Pause,
    /// Continue reading.
    GoOn,
    /// These positions are committed.
    Committed(Positions),
}

/// The state of the reading task of a source.
pub(super) struct SourceTask {
    pub(super) source: Arc<str>,
    pub(super) input: Box<dyn SourceReader>,
    pub(super) orders: mpsc::UnboundedReceiver<SourceCommand>,
    pub(super) lanes: Vec<Sender<Message>>,
    pub(super) time: TimePolicy,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) gauges: Arc<Gauges>,
    pub(super) reports: TaskEvents,
    /// The watermarks of the last commit, by partition.
    pub(super) watermarks: BTreeMap<Arc<str>, EventTime>,
    pub(super) partitions: BTreeMap<Arc<str>, Reading>,
    /// Positions of partitions that are not assigned in this run. They stay in every commit.
    pub(super) positions: Positions,
    /// The systems that the positions belong to.
    pub(super) systems: Systems,
    /// Whether the first partitions have been assigned.
    pub(super) assigned: bool,
    /// Whether all its partitions are idle, and every lane knows.
    pub(super) asleep: bool,
    /// Whether announced partitions have not been assigned yet.
    pub(super) awaits_partitions: bool,
    /// The number of live partitions of each lane.
    pub(super) live: Vec<usize>,
    /// Whether windows that are open at the end stay open for the next run.
    pub(super) keeps_windows: bool,
}

/// A partition being read.
pub(super) struct Reading {
    id: Arc<PartitionId>,
    lane: usize,
    next: Offset,
    /// Rows read since the last barrier.
    rows: u64,
    /// Since when it has been at its end, while reading was not paused.
    caught_up: Option<Uptime>,
    /// It has had no row since it was at its end: the source will not report the end again.
    quiet: bool,
    /// Whether it has ever been at its end.
    reached_end: bool,
    idle: bool,
    /// The watermark that it may follow to once its end is confirmed again.
    may_reach: Option<EventTime>,
    /// The watermark that it has followed to.
    promised: EventTime,
    finished: bool,
    paused: bool,
    gauge: Arc<PartitionGauge>,
}

impl Reading {
    /// The source has sent a promise for it, so it is not idle.
    fn speaks(&mut self, now: Uptime) {
        self.idle = false;
        self.gauge.idle.store(false, Ordering::Relaxed);
        self.caught_up = self.caught_up.map(|_| now);
    }
}

/// The lanes have ended: the job is ending.
struct Gone;

impl SourceTask {
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
                        SourceCommand::End | SourceCommand::Stop => reading = false,
                        SourceCommand::Pause => paused = true,
                        SourceCommand::GoOn => paused = false,
                        SourceCommand::Barrier(_) | SourceCommand::Committed(_) => {}
                    }
                    if self.execute(order).await.is_err() {
                        return Ok(());
                    }
                }
                event = self.input.next(), if reading && !paused => {
                    if self.on_event(event?).await?.is_err() {
                        return Ok(());
                    }
                    if !announced && self.all_reached_their_end() {
                        announced = true;
                        self.report(TaskEvent::CaughtUp(Arc::clone(&self.source)));
                    }
                }
                () = &mut tick, if reading => {
                    tick = clock.sleep(TICK);
                    if self.attend_idle().await.is_err() {
                        return Ok(());
                    }
                    self.limit_drift();
                }
            }
        }
    }

    async fn execute(&mut self, order: SourceCommand) -> Result<(), Gone> {
        match order {
            SourceCommand::Stop => Ok(()),
            SourceCommand::Pause => {
                self.suspend_idle_timer();
                Ok(())
            }
            SourceCommand::GoOn => {
                self.resume_idle_timer();
                Ok(())
            }
            SourceCommand::End => self.broadcast(&Element::End(EventTime::MIN)).await,
            SourceCommand::Barrier(barrier) => {
                let rows = self.take_rows();
                let mut positions = self.positions.clone();
                let partitions = self.partitions.iter();
                positions.extend(partitions.map(|(name, it)| (Arc::clone(name), it.next)));
                let cut = CheckpointAck::Source {
                    source: Arc::clone(&self.source),
                    positions,
                    systems: self.systems.clone(),
                    rows,
                };
                self.report(TaskEvent::CheckpointAck(barrier.epoch, cut));
                self.broadcast(&Element::Barrier(barrier)).await
            }
            SourceCommand::Committed(positions) => {
                self.input.committed(&positions);
                Ok(())
            }
        }
    }

    /// The rows read since the last barrier. A finished partition keeps its position and is not
    /// visited again, so ten thousand files cost no more than those being read.
    fn take_rows(&mut self) -> BTreeMap<Arc<PartitionId>, u64> {
        let mut rows = BTreeMap::new();
        let positions = &mut self.positions;
        self.partitions.retain(|name, partition| {
            let read = std::mem::take(&mut partition.rows);
            if read > 0 {
                rows.insert(Arc::clone(&partition.id), read);
            }
            if partition.finished {
                positions.insert(Arc::clone(name), partition.next);
            }
            !partition.finished
        });
        rows
    }

    async fn on_event(&mut self, event: SourceEvent) -> Result<Result<(), Gone>> {
        match event {
            SourceEvent::Assigned(partitions) => return Ok(self.assign(partitions).await),
            SourceEvent::Unassigned(from) => {
                self.awaits_partitions = from.is_some();
                if self.wake().await.is_err() {
                    return Ok(Err(Gone));
                }
                return Ok(self.send(UNASSIGNED_LANE, Message::Unassigned(from)).await);
            }
            SourceEvent::System { part, id } => drop(self.systems.insert(part, id)),
            SourceEvent::Chunk(chunk) => return self.on_chunk(chunk).await,
            SourceEvent::CaughtUp { partition, end } => {
                let now = self.clock.uptime();
                // An end before the position is outdated.
                if let Some(reading) = self.partitions.get_mut(&partition)
                    && end >= reading.next
                {
                    reading.caught_up.get_or_insert(now);
                    (reading.quiet, reading.reached_end) = (true, true);
                    reading.gauge.lag.store(0, Ordering::Relaxed);
                    return Ok(self.confirm_end(&partition).await);
                }
            }
            SourceEvent::Watermark { partition, at } => {
                if self.wake().await.is_err() {
                    return Ok(Err(Gone));
                }
                if let Some(reading) = self.partitions.get_mut(&partition) {
                    reading.speaks(self.clock.uptime());
                    let lane = reading.lane;
                    return Ok(self.send(lane, Message::Promised(partition, at)).await);
                }
            }
            SourceEvent::Finished(name) => {
                if let Some(partition) = self.partitions.get_mut(&name) {
                    partition.finished = true;
                    partition.gauge.finished.store(true, Ordering::Relaxed);
                    partition.gauge.lag.store(0, Ordering::Relaxed);
                    let lane = partition.lane;
                    self.live[lane] -= 1;
                    return Ok(self.send(lane, Message::Finished(name)).await);
                }
            }
            SourceEvent::Exhausted(growth) => {
                // Rows of the next run must find their windows open, whatever other sources read in
                // the meantime.
                let holds = growth == Growth::MayGrow && self.keeps_windows;
                let released = Message::Unassigned(None);
                if !holds && self.send(UNASSIGNED_LANE, released).await.is_err() {
                    return Ok(Err(Gone));
                }
                self.report(TaskEvent::Exhausted(Arc::clone(&self.source), growth));
            }
            SourceEvent::Lag { partition, rows } => {
                if let Some(partition) = self.partitions.get(&partition) {
                    partition.gauge.lag.store(rows, Ordering::Relaxed);
                }
            }
            SourceEvent::Unreachable(reason) => {
                self.suspend_idle_timer();
                self.report(TaskEvent::Reachable(Arc::clone(&self.source), Some(reason)));
            }
            SourceEvent::Reachable => {
                self.resume_idle_timer();
                self.report(TaskEvent::Reachable(Arc::clone(&self.source), None));
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

    /// Idle timers are suspended while reading is paused.
    fn suspend_idle_timer(&mut self) {
        for partition in self.partitions.values_mut() {
            (partition.caught_up, partition.may_reach) = (None, None);
        }
    }

    fn resume_idle_timer(&mut self) {
        let now = self.clock.uptime();
        let quiet = self.partitions.values_mut().filter(|it| it.quiet);
        quiet.for_each(|partition| partition.caught_up = Some(now));
    }

    async fn assign(&mut self, partitions: Vec<(Arc<str>, Offset)>) -> Result<(), Gone> {
        self.wake().await?;
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
            self.live[lane] += 1;
            let reading = Reading {
                id,
                lane,
                next,
                rows: 0,
                caught_up: None,
                quiet: false,
                reached_end: false,
                idle: false,
                may_reach: None,
                promised: EventTime::MIN,
                finished: false,
                paused: false,
                gauge,
            };
            self.partitions.insert(name, reading);
        }
        // Every lane receives it, even without a partition: until then a lane holds back the
        // watermark, and after that it is idle.
        for (lane, share) in shares.into_iter().enumerate() {
            self.send(lane, Message::Assigned(share)).await?;
        }
        self.assigned = true;
        Ok(())
    }

    /// The lane for a new partition. At the start partitions are assigned in turn. A later one is
    /// assigned to an active lane, because a lane that becomes active cannot aggregate at once (see
    /// `chain`). Files that are read one after another therefore stay on one lane.
    fn lane_for_another(&self) -> usize {
        let lanes = || self.live.iter().enumerate();
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

    /// The offset gate: no row is read twice, and none is skipped silently.
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
        partition.may_reach = None;
        partition.quiet = false;
        partition.idle = false;
        partition.gauge.idle.store(false, Ordering::Relaxed);
        partition.gauge.offset.store(chunk.next, Ordering::Relaxed);
        add(&partition.gauge.rows, rows);
        add(&partition.gauge.bytes, chunk.rows.bytes());
        let lane = partition.lane;
        if self.wake().await.is_err() {
            return Ok(Err(Gone));
        }
        Ok(self.send(lane, Message::Chunk(chunk)).await)
    }

    /// Pauses the partitions that are too far ahead of the slowest, and resumes the others. A
    /// partition at its end cannot be faster, so the others do not wait for it.
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

    /// Whether every partition that can grow was at its end. A source whose partitions are all
    /// finished reports that itself, after the last one.
    fn all_reached_their_end(&self) -> bool {
        let mut live = self
            .partitions
            .values()
            .filter(|it| !it.finished)
            .peekable();
        live.peek().is_some() && live.all(|partition| partition.reached_end)
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

    fn report(&self, report: TaskEvent) {
        // A job that has ended needs no report.
        let _ = self.reports.send(report);
    }
}
