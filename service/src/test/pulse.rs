//! Wakes a test.

use std::sync::Arc;

use tokio::sync::Notify;

/// Wakes the test when new results may be available.
#[derive(Clone, Default)]
pub(super) struct Pulse(Arc<Notify>);

impl Pulse {
    pub(super) fn beat(&self) {
        self.0.notify_one();
    }

    /// Waits until `condition` holds, checking it at each pulse.
    pub(super) async fn until(&self, condition: impl Fn() -> bool) {
        while !condition() {
            self.0.notified().await;
        }
    }
}
