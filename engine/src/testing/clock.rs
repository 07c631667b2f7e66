//! Clocks that a test controls.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

use async_trait::async_trait;
use tokio::{sync::watch, time::Instant};

use crate::{Clock, EventTime, Uptime};

/// Starts at a given time and follows tokio's clock, which a test pauses
/// (`#[tokio::test(start_paused = true)]`). Time then advances only while every task sleeps,
/// without a wait.
#[derive(Debug, Clone, Copy)]
pub struct VirtualClock {
    origin: EventTime,
    started: Instant,
}

impl VirtualClock {
    /// A clock that shows `origin` now.
    pub fn starting_at(origin: EventTime) -> Self {
        Self {
            origin,
            started: Instant::now(),
        }
    }
}

#[async_trait]
impl Clock for VirtualClock {
    fn now(&self) -> EventTime {
        self.origin.saturating_add(self.started.elapsed())
    }

    fn uptime(&self) -> Uptime {
        Uptime::after(self.started.elapsed())
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

/// Never waits: a sleep advances it. So does a look at the time, by a microsecond.
#[derive(Debug, Default)]
pub struct InstantClock(AtomicI64);

#[async_trait]
impl Clock for InstantClock {
    fn now(&self) -> EventTime {
        EventTime::from_micros(self.0.fetch_add(1, Ordering::Relaxed))
    }

    fn uptime(&self) -> Uptime {
        Uptime::after(self.now().since(EventTime::from_micros(0)))
    }

    async fn sleep(&self, duration: Duration) {
        self.0
            .fetch_add(crate::time::micros(duration), Ordering::Relaxed);
        tokio::task::yield_now().await;
    }
}

/// Stands still until the test advances it, independent of tokio's clock.
#[derive(Debug)]
pub struct ManualClock {
    origin: EventTime,
    now: watch::Sender<EventTime>,
}

impl ManualClock {
    /// A clock that shows `now`.
    pub fn at(now: EventTime) -> Self {
        Self {
            origin: now,
            now: watch::Sender::new(now),
        }
    }

    /// Advances to `time` and wakes the sleepers that are due. The clock never goes backwards.
    pub fn move_to(&self, time: EventTime) {
        self.now.send_modify(|now| *now = time.max(*now));
    }
}

#[async_trait]
impl Clock for ManualClock {
    fn now(&self) -> EventTime {
        *self.now.borrow()
    }

    fn uptime(&self) -> Uptime {
        Uptime::after(self.now().since(self.origin))
    }

    async fn sleep(&self, duration: Duration) {
        let due = self.now().saturating_add(duration);
        let mut now = self.now.subscribe();
        // The sender is `self`, so it exists.
        let _ = now.wait_for(|now| *now >= due).await;
    }
}
