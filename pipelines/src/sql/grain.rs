//! Grains: the widths of event time that watermarks must be exact to.

use std::time::Duration;

use tagflow_engine::time;

/// The exact order of rows needs an exact watermark.
pub(crate) const EXACT: Duration = Duration::from_micros(1);

/// The exactness of the watermark where each event counts by itself.
pub const EVENT_GRAIN: Duration = Duration::from_micros(1);

/// The greatest width that divides both; zero means no width.
pub(super) fn common_grain(a: Duration, b: Duration) -> Duration {
    let (mut a, mut b) = (time::micros(a), time::micros(b));
    while b != 0 {
        (a, b) = (b, a % b);
    }
    Duration::from_micros(a.unsigned_abs())
}
