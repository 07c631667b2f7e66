//! Clocks that a test moves.

use std::time::Duration;

use async_trait::async_trait;
use tokio::{sync::watch, time::Instant};

use crate::{Clock, EventTime};

/// Starts at a given time and follows tokio's clock, which a test pauses
/// (`#[tokio::test(start_paused = true)]`): then time moves only while everyone
/// sleeps, and at once.
#[derive(Debug, Clone, Copy)]
pub struct VirtualClock {
    origin: EventTime,
    started: Instant,
}

impl VirtualClock {
    /// It is `origin` now.
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

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

/// Stands still until it is moved by hand; no run of tokio's clock touches it.
#[derive(Debug)]
pub struct ManualClock {
    now: watch::Sender<EventTime>,
}

impl ManualClock {
    /// It is `now`.
    pub fn at(now: EventTime) -> Self {
        Self {
            now: watch::Sender::new(now),
        }
    }

    /// Moves on to `time` and wakes those who have slept for long enough. It
    /// never goes back.
    pub fn move_to(&self, time: EventTime) {
        self.now.send_modify(|now| *now = time.max(*now));
    }
}

#[async_trait]
impl Clock for ManualClock {
    fn now(&self) -> EventTime {
        *self.now.borrow()
    }

    async fn sleep(&self, duration: Duration) {
        let due = self.now().saturating_add(duration);
        let mut now = self.now.subscribe();
        // The sender is `self`, so it is there.
        let _ = now.wait_for(|now| *now >= due).await;
    }
}
