//! Processing time, injected: the only door to the machine's clock.

use std::time::Duration;

use async_trait::async_trait;

use crate::EventTime;

/// Where the engine reads the time of day from.
///
/// Tests inject a clock that they move by hand (`testing`); nothing
/// else in the engine may read the machine's clock.
#[async_trait]
pub trait Clock: Send + Sync + 'static {
    /// The time of day.
    fn now(&self) -> EventTime;

    /// Waits until [`Clock::now`] has advanced by `duration`. Cancel-safe.
    async fn sleep(&self, duration: Duration);
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

#[async_trait]
impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one door to the machine's clock"
    )]
    fn now(&self) -> EventTime {
        EventTime::from_micros(chrono::Utc::now().timestamp_micros())
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}
