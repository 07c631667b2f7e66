//! Idle partitions: when a partition at its end stops holding back the others.
//!
//! An idle partition follows the live ones of its source: its promise is the watermark that they
//! had when the partition was last seen at its end. A later fetch found nothing, so a row that
//! still follows was written after theirs. Its watermark stops as soon as its end is no longer
//! confirmed. After a pause, a row of one partition is therefore not ahead of rows in other
//! partitions that have not been requested yet.
//!
//! When all partitions of a source are idle, the source sleeps and holds back no other source. It
//! wakes as a whole, with the watermarks that it had.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use super::{Gone, Reading, SourceTask};
use crate::{EventTime, Uptime, graph::WhenIdle, runtime::message::Message, source::EndReports};

/// The interval at which the watermark of an idle partition follows the clock.
const FOLLOW_EVERY: Duration = Duration::from_secs(1);

impl Reading {
    /// Its watermark, as far as the reader knows it.
    fn watermark(&self) -> EventTime {
        self.gauge.watermark().max(self.promised)
    }
}

impl SourceTask {
    /// Updates the partitions at their end. If the source does not confirm ends, a partition stays
    /// at its end until a row is read.
    pub(super) async fn attend_idle(&mut self) -> Result<(), Gone> {
        if self.input.end_reports() == EndReports::Once {
            let resting = self.partitions.iter().filter(|(_, it)| self.rests(it));
            let resting: Vec<Arc<str>> = resting.map(|(name, _)| Arc::clone(name)).collect();
            for name in &resting {
                self.set_idle(name);
            }
            let reach = self.reach();
            for name in resting {
                self.promise(name, reach).await?;
            }
        }
        self.fall_asleep().await
    }

    /// The partition was fetched again, and is still at its end.
    pub(super) async fn confirm_end(&mut self, name: &Arc<str>) -> Result<(), Gone> {
        if self.input.end_reports() == EndReports::Once {
            return Ok(());
        }
        let rests = self.partitions.get(name).is_some_and(|it| self.rests(it));
        if rests {
            self.set_idle(name);
        }
        let reach = rests.then(|| self.reach());
        let Some(partition) = self.partitions.get_mut(name) else {
            return Ok(());
        };
        // The watermark of the others before this fetch began.
        match std::mem::replace(&mut partition.may_reach, reach) {
            Some(at) if rests => self.promise(Arc::clone(name), at).await,
            _ => Ok(()),
        }
    }

    /// Every lane must know that a source is active before rows of the source flow.
    pub(super) async fn wake(&mut self) -> Result<(), Gone> {
        if std::mem::take(&mut self.asleep) {
            for lane in 0..self.lanes.len() {
                self.send(lane, Message::Wake).await?;
            }
        }
        Ok(())
    }

    /// A partition becomes idle only if the last fetch was empty at its end for `idle_after`, it is
    /// not paused, and its channel is not full. It never becomes idle because Tagflow was slow. It
    /// stays idle while it is at its end.
    fn rests(&self, partition: &Reading) -> bool {
        let now = self.clock.uptime();
        let is_long = |since: Uptime| now.since(since) >= self.time.idle_after;
        let is_at_end = partition
            .caught_up
            .is_some_and(|since| partition.idle || is_long(since));
        is_at_end
            && !partition.finished
            && !partition.paused
            && !self.lanes[partition.lane].is_full()
    }

    /// Where its watermark follows the clock, a partition is never idle.
    fn set_idle(&mut self, name: &str) {
        if let (WhenIdle::Hold, Some(partition)) =
            (self.time.when_idle, self.partitions.get_mut(name))
        {
            partition.idle = true;
            partition.gauge.idle.store(true, Ordering::Relaxed);
        }
    }

    /// The watermark that an idle partition may follow to: that of the slowest live one or, if all
    /// are idle, the highest one.
    fn reach(&self) -> EventTime {
        if self.time.when_idle == WhenIdle::Clock {
            return self.clock.now().saturating_sub(self.time.delay);
        }
        let live = self.unfinished().filter(|it| !it.idle);
        let slowest = live.map(Reading::watermark).min();
        slowest.unwrap_or_else(|| self.furthest())
    }

    fn furthest(&self) -> EventTime {
        let watermarks = self.unfinished().map(Reading::watermark);
        watermarks.max().unwrap_or(EventTime::MIN)
    }

    fn unfinished(&self) -> impl Iterator<Item = &Reading> {
        self.partitions.values().filter(|it| !it.finished)
    }

    async fn promise(&mut self, name: Arc<str>, at: EventTime) -> Result<(), Gone> {
        let Some(partition) = self.partitions.get_mut(&name) else {
            return Ok(());
        };
        let is_due = match self.time.when_idle {
            WhenIdle::Hold => at > partition.watermark(),
            WhenIdle::Clock => at.since(partition.promised) >= FOLLOW_EVERY,
        };
        if !is_due {
            return Ok(());
        }
        partition.promised = at;
        let lane = partition.lane;
        self.send(lane, Message::Promised(name, at)).await
    }

    /// Sleeps when all partitions are idle and have followed as far as they can.
    async fn fall_asleep(&mut self) -> Result<(), Gone> {
        let furthest = self.furthest();
        let is_done = |it: &Reading| it.idle && it.watermark() >= furthest;
        let may_sleep = self.assigned && !self.awaits_partitions && !self.asleep;
        if may_sleep && self.unfinished().all(is_done) {
            self.asleep = true;
            for lane in 0..self.lanes.len() {
                self.send(lane, Message::Sleep).await?;
            }
        }
        Ok(())
    }
}
