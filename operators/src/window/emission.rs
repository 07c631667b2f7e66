//! When the results of a window come out.

use std::time::Duration;

use tagflow_engine::time::micros;

use super::Windows;

/// When the results of a window come out: once when it closes, and what is said
/// here besides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Emission {
    /// While it is open, each time that the watermark passes a multiple of this,
    /// for the keys that changed.
    pub previews: Option<Duration>,
    /// For so long after its end, for the keys that late rows changed. Rows that
    /// come later still are late.
    pub lateness: Duration,
}

impl Emission {
    /// Whether a window may come out more than once.
    pub fn revises(&self) -> bool {
        self.previews.is_some() || !self.lateness.is_zero()
    }

    /// Whether it can be done for such windows.
    ///
    /// # Errors
    /// The reason why not, for a user.
    pub fn check(&self, windows: &Windows) -> Result<(), &'static str> {
        if let Windows::Session { .. } = windows
            && self.revises()
        {
            return Err(
                "a session is emitted once, when it is over; give late rows more time with the \
                 source's `delay`",
            );
        }
        if windows.share_panes() && self.previews.is_some() {
            return Err(
                "only tumbling windows have previews; overlapping ones come out often enough",
            );
        }
        if self.previews.is_some_and(|every| micros(every) <= 0) {
            return Err("previews are at least a microsecond apart");
        }
        Ok(())
    }
}
