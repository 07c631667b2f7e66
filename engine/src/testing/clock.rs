//! A clock that follows tokio's.

use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

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
