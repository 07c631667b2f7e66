//! Processing time, injected. Only this module reads the machine's clocks.

use std::{
    sync::LazyLock,
    time::{Duration, Instant},
};

use async_trait::async_trait;

use crate::EventTime;

/// The clock of the engine.
///
/// The time of day stamps rows, files and records. It can jump in both directions. Ages, intervals
/// and time-outs use the [uptime](Clock::uptime). Tests inject a clock that they advance
/// (`testing`). Nothing else in the engine may read the machine's clock.
#[async_trait]
pub trait Clock: Send + Sync + 'static {
    /// The time of day.
    fn now(&self) -> EventTime;

    /// A reading of the monotonic clock.
    fn uptime(&self) -> Uptime;

    /// Waits until [`Clock::uptime`] has advanced by `duration`. Cancel-safe.
    async fn sleep(&self, duration: Duration);
}

/// A reading of a monotonic clock. It never decreases. Only the distance between two readings of
/// the same clock has a meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Uptime(Duration);

impl Uptime {
    /// The reading at `start` after the clock's start.
    pub const fn after(start: Duration) -> Self {
        Self(start)
    }

    /// The span from `earlier` to this reading; zero if `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// This reading plus `duration`.
    #[must_use]
    pub fn saturating_add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration))
    }
}

/// The machine's clocks.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

/// The zero of this process's uptime.
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

#[async_trait]
impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one door to the machine's clock"
    )]
    fn now(&self) -> EventTime {
        EventTime::from_micros(chrono::Utc::now().timestamp_micros())
    }

    fn uptime(&self) -> Uptime {
        Uptime(START.elapsed())
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}
